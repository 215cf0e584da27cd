"""The activities that workers serve, by kind of task queue, made from what a worker process holds."""

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from app.activities.bulk_operation import BulkOperationActivities
from app.activities.deliver import Deliver
from app.activities.deliver_alert import DeliverAlerts
from app.activities.erasure import ErasureActivities
from app.activities.fan_out import FanOutActivities
from app.activities.first_try import TryEvent
from app.activities.follow_run import FollowRun
from app.activities.maintenance import MaintenanceActivities
from app.activities.map import MapEvent
from app.activities.record import RecordOutcome
from app.activities.replay_events import ReplayActivities
from app.activities.run_action import RunAction
from app.activities.verify import VerifyEvent
from app.directory.run_log import RunLog
from app.events.action_log import ActionLog
from app.events.event_log import EventLog
from app.events.ordering import Turns
from app.outbound.destinations import Destinations
from app.outbound.http import Outbound
from app.outbound.mail import Mailer
from app.outbound.rate_limits import KnockRateLimits
from app.runtime.resources import Runtime

Activities = Sequence[Callable[..., Any]]


def event_activities(
    runtime: Runtime,
    events: EventLog,
    actions: ActionLog,
    destinations: Destinations,
    rate_limits: KnockRateLimits,
    release: Callable[[UUID], None],
) -> Activities:
    """The steps of an event. `release` is told of each event that needs no attention any more."""
    verify = VerifyEvent(events, runtime.configuration, runtime.scripts)
    mapping = MapEvent(events, actions, runtime.configuration, runtime.templates)
    turns = Turns(runtime.engine)
    action = RunAction(
        actions, destinations, rate_limits, on_retry=release, on_wait=turns.release, on_return=turns.take
    )
    record = RecordOutcome(events, actions, on_finished=release)
    return [
        TryEvent(verify, mapping, action, record).try_event,
        verify.verify_event,
        mapping.map_event,
        *action.activities(),
        record.record_outcome,
    ]


def operation_activities(runtime: Runtime) -> Activities:
    """Bulk operations, replays and erasures: what is worked off in parts."""
    bulk = BulkOperationActivities(runtime.engine)
    replays = ReplayActivities(runtime)
    erasure = ErasureActivities(runtime.engine, runtime.box)
    return [
        bulk.work_off_bulk_chunk,
        bulk.fail_bulk_operation,
        replays.replay_chunk,
        replays.fail,
        erasure.work_off_erasure,
        erasure.fail_erasure,
    ]


def sending_activities(runtime: Runtime, outbound: Outbound) -> Activities:
    """Runs of the directory's workflows, and alerts."""
    runs, mailer = RunLog(runtime.engine, runtime.box), Mailer(runtime.settings)
    return [
        FanOutActivities(runtime.engine).fan_out_page,
        *FollowRun(runs, mailer, runtime.templates).activities(),
        *Deliver(runs, mailer, outbound, runtime.templates).activities(),
        *DeliverAlerts(runtime.engine, runtime.box, mailer, outbound).activities(),
    ]


def maintenance_activities(runtime: Runtime) -> Activities:
    """The upkeep of the tables."""
    maintenance = MaintenanceActivities(runtime.engine, runtime.settings)
    return [
        maintenance.maintain_partitions,
        maintenance.prune_idempotent_responses,
        maintenance.prune_directory,
    ]
