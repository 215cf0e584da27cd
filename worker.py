"""The worker process: dispatches and executes the events of one or several environments.

    python worker.py --environment production --environment staging

Run as many as the load asks for; they share the work. Stage 3 (`app/dispatch.py`) and stage 4
(`app/workflows/process_event.py` and `app/activities/`) of an event happen here.
"""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker, WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions
from temporalio.workflow import SandboxImportNotificationPolicy

from app import health
from app.action_log import ActionLog
from app.activities.bulk_operation import BulkOperationActivities
from app.activities.deliver import Deliver
from app.activities.failures import ActivityFailures
from app.activities.follow_run import FollowRun
from app.activities.maintenance import TASK_QUEUE, MaintenanceActivities, ensure_schedule
from app.activities.map import MapEvent
from app.activities.record import RecordOutcome
from app.activities.run_action import RunAction
from app.activities.verify import VerifyEvent
from app.api.directory.app import create_directory_app
from app.bulk_dispatch import BulkDispatcher
from app.destinations import Destinations
from app.directory.run_log import RunLog
from app.dispatch import Dispatcher, Leases
from app.event_log import EventLog
from app.knock_rate_limits import RateLimits
from app.listener import Listener
from app.mail import Mailer
from app.outbound import Outbound, is_public
from app.process import stop_requested
from app.run_dispatch import RunDispatcher
from app.runtime import Runtime, background, open_runtime
from app.settings import Settings
from app.temporal import connect_when_up, prepare_namespace, task_queue
from app.workflows.bulk_operation import BulkOperation
from app.workflows.maintenance import Maintenance
from app.workflows.process_event import ProcessEvent
from app.workflows.recipient_run import RecipientRun

logger = logging.getLogger(__name__)


async def serve(settings: Settings, environments: Sequence[str]) -> None:
    """Work until SIGTERM or SIGINT, then finish what is in flight."""
    stop = stop_requested()
    async with open_runtime(settings) as runtime, health.serve_worker(runtime) as state:
        client = await connect_when_up(settings, stop)
        if client is None:
            return
        if not await _loaded(runtime, stop):
            return
        await prepare_namespace(client, runtime.configuration)
        await ensure_schedule(client)
        async with run_workers(runtime, client, environments):
            state.temporal = client
            logger.info("worker_started", extra={"environments": list(environments)})
            await stop.wait()
            logger.info("worker_stopping", extra={"environments": list(environments)})


async def _loaded(runtime: Runtime, stop: asyncio.Event) -> bool:
    """Wait for the configuration; False when asked to stop before Postgres was reached."""
    loading = asyncio.create_task(runtime.configuration.wait_until_loaded())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({loading, stopping}, return_when=asyncio.FIRST_COMPLETED)
    loading.cancel()
    stopping.cancel()
    return not stop.is_set()


@asynccontextmanager
async def run_workers(runtime: Runtime, client: Client, environments: Sequence[str]) -> AsyncIterator[None]:
    """Dispatchers and Temporal workers of these environments, while the block runs."""
    destinations = Destinations(runtime.configuration, create_directory_app(runtime.engine))
    events, actions = EventLog(runtime.engine, runtime.box), ActionLog(runtime.engine)
    outbound = Outbound(_any_address if runtime.settings.allow_private_addresses else is_public)
    runs = _run_activities(runtime, outbound)
    rate_limits = RateLimits(runtime.engine, runtime.settings.knock_rate_factor)
    listener = Listener(runtime.settings)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(destinations.close)
        stack.push_async_callback(outbound.close)
        stack.push_async_callback(rate_limits.close)
        dispatchers = [_dispatcher(runtime, client, events, environment) for environment in environments]
        workers = [
            _maintenance_worker(runtime, client),
            *(
                _event_worker(runtime, client, dispatcher, events, actions, destinations, rate_limits, runs)
                for dispatcher in dispatchers
            ),
        ]
        for worker in workers:
            await stack.enter_async_context(worker)
        # Together: one after the other, each would have the whole time for what is in flight.
        stack.push_async_callback(_shut_down, workers)
        for dispatcher in dispatchers:
            stack.push_async_callback(dispatcher.drain)
        looping: list[Dispatcher | BulkDispatcher | RunDispatcher] = [*dispatchers]
        for environment in environments:
            looping.append(BulkDispatcher(environment, engine=runtime.engine, client=client))
            looping.append(RunDispatcher(environment, engine=runtime.engine, client=client))
        for each in looping:
            each.listen(listener)
        await stack.enter_async_context(background(*(each.run() for each in looping)))
        await stack.enter_async_context(background(listener.run()))
        yield


async def _shut_down(workers: Sequence[Worker]) -> None:
    await asyncio.gather(*(worker.shutdown() for worker in workers))


def _dispatcher(runtime: Runtime, client: Client, events: EventLog, environment: str) -> Dispatcher:
    settings = runtime.settings
    return Dispatcher(
        environment,
        engine=runtime.engine,
        client=client,
        configuration=runtime.configuration,
        events=events,
        maximum_in_flight=settings.max_events_in_flight,
        leases=Leases(claim=settings.claim_lease, run=settings.run_lease, sweep=settings.sweep_interval),
    )


def _run_activities(runtime: Runtime, outbound: Outbound) -> list[Callable[..., Any]]:
    """What follows workflow runs. The same for every environment."""
    runs, mailer = RunLog(runtime.engine, runtime.box), Mailer(runtime.settings)
    return [*FollowRun(runs, mailer).activities(), *Deliver(runs, mailer, outbound).activities()]


def _any_address(address: str) -> bool:
    return True


def _event_worker(
    runtime: Runtime,
    client: Client,
    dispatcher: Dispatcher,
    events: EventLog,
    actions: ActionLog,
    destinations: Destinations,
    rate_limits: RateLimits,
    runs: Sequence[Callable[..., Any]],
) -> Worker:
    """The Temporal worker of one environment."""
    bulk = BulkOperationActivities(runtime.engine)
    return Worker(
        client,
        task_queue=task_queue(dispatcher.environment),
        workflows=[ProcessEvent, BulkOperation, RecipientRun],
        activities=[
            VerifyEvent(events, runtime.configuration, runtime.scripts).verify_event,
            MapEvent(events, actions, runtime.configuration).map_event,
            *RunAction(actions, destinations, rate_limits, on_retry=dispatcher.release).activities(),
            RecordOutcome(events, actions, on_finished=dispatcher.release).record_outcome,
            bulk.work_off_bulk_chunk,
            bulk.fail_bulk_operation,
            *runs,
        ],
        workflow_runner=workflow_runner(sandbox=runtime.settings.workflow_sandbox),
        interceptors=[ActivityFailures()],
        max_concurrent_activities=runtime.settings.max_events_in_flight,
        max_concurrent_local_activities=2 * runtime.settings.max_events_in_flight,
        graceful_shutdown_timeout=runtime.settings.graceful_shutdown,
    )


def _maintenance_worker(runtime: Runtime, client: Client) -> Worker:
    """Every process serves the maintenance queue; one of them gets each round."""
    maintenance = MaintenanceActivities(runtime.engine, runtime.settings)
    return Worker(
        client,
        task_queue=TASK_QUEUE,
        workflows=[Maintenance],
        activities=[maintenance.maintain_partitions, maintenance.prune_idempotent_responses],
        workflow_runner=workflow_runner(sandbox=runtime.settings.workflow_sandbox),
        interceptors=[ActivityFailures()],
        max_concurrent_workflow_task_polls=2,
        max_concurrent_activity_task_polls=1,
        graceful_shutdown_timeout=runtime.settings.graceful_shutdown,
    )


def workflow_runner(*, sandbox: bool) -> WorkflowRunner:
    """Temporal's sandbox under a strict import policy, or none: it costs 10 ms of CPU an event."""
    if not sandbox:
        return UnsandboxedWorkflowRunner()
    return SandboxedWorkflowRunner(
        restrictions=SandboxRestrictions.default.with_import_notification_policy(
            SandboxImportNotificationPolicy.WARN_ON_DYNAMIC_IMPORT
            | SandboxImportNotificationPolicy.RAISE_ON_UNINTENTIONAL_PASSTHROUGH
        )
    )


if __name__ == "__main__":
    from app.cli import main

    main(["worker", *sys.argv[1:]])
