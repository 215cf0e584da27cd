"""Composes the worker process: dispatchers, Temporal workers and what runs beside them."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version

from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker, WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions
from temporalio.workflow import SandboxImportNotificationPolicy

from app.activities.failures import ActivityFailures
from app.activities.maintenance import TASK_QUEUE
from app.activities.served import (
    Activities,
    event_activities,
    maintenance_activities,
    operation_activities,
    sending_activities,
)
from app.alerts.watch import AlertWatch
from app.api.directory.app import DirectoryApp
from app.core.background import background
from app.core.settings import Settings
from app.database.listener import Listener
from app.events.action_log import ActionLog
from app.events.claims import Leases
from app.events.event_log import EventLog
from app.logs.rollup import keep_statistics
from app.outbound.destinations import Destinations
from app.outbound.http import Outbound, is_public
from app.outbound.rate_limits import KnockRateLimits
from app.runtime import health, tracing
from app.runtime.process import stop_requested
from app.runtime.resources import Runtime, open_runtime
from app.runtime.scrape import serve_metrics
from app.runtime.temporal import connect_when_up, prepare_when_there, task_queue
from app.worker.alerts import AlertDispatcher
from app.worker.bulk_operations import BulkDispatcher
from app.worker.erasures import ErasureDispatcher
from app.worker.events import Dispatcher
from app.worker.namespace import NamespaceWatch
from app.worker.replays import ReplayDispatcher
from app.worker.rows import RowDispatcher
from app.worker.runs import RunDispatcher
from app.workflows import served

logger = logging.getLogger(__name__)

# The SDK's own id is a digest of every loaded module's code, read again from disk: 3 MB, and half a second.
BUILD_ID = f"doorbell-{version('doorbell')}"

# One of each for every environment, beside the dispatcher of its events.
DISPATCHERS = (BulkDispatcher, ReplayDispatcher, AlertDispatcher, ErasureDispatcher, RunDispatcher)


async def serve(settings: Settings, environments: Sequence[str]) -> None:
    """Work until SIGTERM or SIGINT, then finish what is in flight."""
    stop = stop_requested()
    async with (
        open_runtime(settings, plan_once=True) as runtime,
        serve_metrics(runtime),
        health.serve_worker(runtime, stop) as state,
    ):
        client = await connect_when_up(settings, stop)
        if client is None:
            return
        state.temporal = client
        if not await _loaded(runtime, stop):
            return
        if not await prepare_when_there(client, runtime.configuration, stop):
            return
        watch = NamespaceWatch(runtime.engine, client)
        async with background(watch.run()), run_workers(runtime, client, environments):
            state.is_working = True
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
    destinations = Destinations(runtime.configuration.destination, DirectoryApp(runtime.engine))
    events, actions = EventLog(runtime.engine, runtime.box), ActionLog(runtime.engine)
    outbound = Outbound(_any_address if runtime.settings.allow_private_addresses else is_public)
    shared = [*operation_activities(runtime), *sending_activities(runtime, outbound)]
    rate_limits = KnockRateLimits(runtime.engine, runtime.settings.knock_rate_factor)
    listener = Listener(runtime.settings)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(destinations.close)
        stack.push_async_callback(outbound.close)
        stack.push_async_callback(rate_limits.close)
        dispatchers = [_dispatcher(runtime, client, events, environment) for environment in environments]
        workers = [
            _maintenance_worker(runtime, client),
            *(
                _environment_worker(
                    runtime,
                    client,
                    each.environment,
                    [
                        *event_activities(runtime, events, actions, destinations, rate_limits, each.release),
                        *shared,
                    ],
                )
                for each in dispatchers
            ),
        ]
        for worker in workers:
            await stack.enter_async_context(worker)
        # Together: one after the other, each would have the whole time for what is in flight.
        stack.push_async_callback(_shut_down, workers)
        for dispatcher in dispatchers:
            stack.push_async_callback(dispatcher.drain)
        looping: list[Dispatcher | RowDispatcher | RunDispatcher] = [*dispatchers]
        for environment in environments:
            for kind in DISPATCHERS:
                looping.append(kind(environment, engine=runtime.engine, client=client))
        for each in looping:
            each.listen(listener)
        watches = [_alert_watch(runtime, environment) for environment in environments]
        await stack.enter_async_context(background(*(each.run() for each in (*looping, *watches))))
        await stack.enter_async_context(background(listener.run(), keep_statistics(runtime.engine)))
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


def _alert_watch(runtime: Runtime, environment: str) -> AlertWatch:
    settings = runtime.settings
    return AlertWatch(
        environment, engine=runtime.engine, base_url=settings.base_url, interval=settings.alert_interval
    )


def _any_address(address: str) -> bool:
    return True


def _environment_worker(runtime: Runtime, client: Client, environment: str, activities: Activities) -> Worker:
    """The Temporal worker of one environment."""
    return Worker(
        client,
        task_queue=task_queue(environment),
        workflows=served.OF_AN_ENVIRONMENT,
        activities=activities,
        workflow_runner=workflow_runner(sandbox=runtime.settings.workflow_sandbox),
        interceptors=[ActivityFailures()],
        max_concurrent_activities=runtime.settings.max_events_in_flight,
        max_concurrent_local_activities=2 * runtime.settings.max_events_in_flight,
        graceful_shutdown_timeout=runtime.settings.graceful_shutdown,
        build_id=BUILD_ID,
    )


def _maintenance_worker(runtime: Runtime, client: Client) -> Worker:
    """Every process serves the maintenance queue; one of them gets each round."""
    return Worker(
        client,
        task_queue=TASK_QUEUE,
        workflows=served.OF_MAINTENANCE,
        activities=maintenance_activities(runtime),
        workflow_runner=workflow_runner(sandbox=runtime.settings.workflow_sandbox),
        interceptors=[ActivityFailures()],
        max_concurrent_workflow_task_polls=2,
        max_concurrent_activity_task_polls=1,
        graceful_shutdown_timeout=runtime.settings.graceful_shutdown,
        build_id=BUILD_ID,
    )


def workflow_runner(*, sandbox: bool) -> WorkflowRunner:
    """Temporal's sandbox under a strict import policy, or none: it costs 10 ms of CPU an event."""
    if not sandbox:
        return UnsandboxedWorkflowRunner()
    restrictions = SandboxRestrictions.default.with_import_notification_policy(
        SandboxImportNotificationPolicy.WARN_ON_DYNAMIC_IMPORT
        | SandboxImportNotificationPolicy.RAISE_ON_UNINTENTIONAL_PASSTHROUGH
    )
    if tracing.is_on():
        # The SDK's own interceptor carries on the trace inside the workflow.
        restrictions = restrictions.with_passthrough_modules("opentelemetry")
    return SandboxedWorkflowRunner(restrictions=restrictions)
