"""The workflows that workers serve, by kind of task queue."""

from app.workflows.bulk_operation import BulkOperation
from app.workflows.deliver_alert import DeliverAlert
from app.workflows.erasure import Erasure
from app.workflows.fan_out import FanOut
from app.workflows.maintenance import Maintenance
from app.workflows.process_event import ProcessEvent
from app.workflows.recipient_run import RecipientRun
from app.workflows.replay_events import ReplayEvents

OF_AN_ENVIRONMENT = (ProcessEvent, BulkOperation, Erasure, ReplayEvents, DeliverAlert, RecipientRun, FanOut)
OF_MAINTENANCE = (Maintenance,)
