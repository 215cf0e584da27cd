"""The workflows that workers serve, by kind of task queue."""

from app.workflows.bulk_operation import BulkOperationWorkflow
from app.workflows.deliver_alert import DeliverAlert
from app.workflows.erasure import ErasureWorkflow
from app.workflows.fan_out import FanOut
from app.workflows.maintenance import Maintenance
from app.workflows.process_event import ProcessEvent
from app.workflows.recipient_run import RecipientRunWorkflow
from app.workflows.replay_events import ReplayEvents

OF_AN_ENVIRONMENT = (
    ProcessEvent,
    BulkOperationWorkflow,
    ErasureWorkflow,
    ReplayEvents,
    DeliverAlert,
    RecipientRunWorkflow,
    FanOut,
)
OF_MAINTENANCE = (Maintenance,)
