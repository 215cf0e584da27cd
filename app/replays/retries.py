"""What people ask of an event whose actions are tried again: to try now, or to give up.

The event's workflow hears of it as a signal (`app/workflows/process_event.py`). The audit log says who asked.
"""

from typing import TYPE_CHECKING
from uuid import UUID

from sqlmodel.ext.asyncio.session import AsyncSession

from app.account.audit import note_change
from app.account.tokens import Access
from app.core.errors import ConfigurationError, RequestError
from app.logs.timeline import Timelines
from app.models.event import Event
from app.models.status import EventStatus

if TYPE_CHECKING:
    from temporalio.client import WorkflowExecutionDescription, WorkflowHandle


async def try_now(
    session: AsyncSession, timelines: Timelines, access: Access, key: str, event_id: UUID
) -> Event:
    """Try an event's actions at once that wait for their next attempt; the event.

    Raises:
        RequestError: 404, there is no such event; 409, none of its actions waits; 503, Temporal is away.
    """
    event = await _event(session, key, event_id)
    handle, description = await _run_of(timelines, event)
    if _is_trying(description):
        raise _conflict(event, "is being tried at this moment")
    _note(session, access, event, "event.tried_now")
    await session.flush()
    await _signal(handle, "try_now")
    await session.commit()
    return event


async def give_up(
    session: AsyncSession, timelines: Timelines, access: Access, key: str, event_id: UUID
) -> Event:
    """Try an event's actions no more, which ends it as failed; the event as it was.

    Raises:
        RequestError: 404, there is no such event; 409, it is not being executed; 503, Temporal is away.
    """
    event = await _event(session, key, event_id)
    handle, _ = await _run_of(timelines, event)
    _note(session, access, event, "event.gave_up")
    await session.flush()
    await _signal(handle, "give_up", access.name)
    await session.commit()
    return event


async def _event(session: AsyncSession, key: str, event_id: UUID) -> Event:
    event = await session.get(Event, event_id)
    if event is None or event.source_key != key:
        raise RequestError(404, "resource_missing", f"Source {key!r} has no log entry {event_id}")
    if event.status != EventStatus.PROCESSING:
        raise _conflict(event, f"has the status {event.status}: only what is being processed is tried again")
    return event


async def _run_of(
    timelines: Timelines, event: Event
) -> "tuple[WorkflowHandle[object, object], WorkflowExecutionDescription]":
    """The event's own running workflow. An event that waits for another one's has none."""
    from temporalio.client import WorkflowExecutionStatus
    from temporalio.service import RPCError, RPCStatusCode

    identifier = timelines.workflow_id_of(event)
    if identifier is None:
        raise _conflict(event, "has no workflow run")
    try:
        handle = (await timelines.client()).get_workflow_handle(identifier, run_id=event.run_id)
        description = await handle.describe()
        owner = (await description.memo()).get("event_id")
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            raise _conflict(event, "has no workflow run yet") from None
        raise _away() from error
    except ConfigurationError as error:
        raise RequestError(503, "unavailable", str(error)) from None
    if owner != str(event.id):
        raise _conflict(event, f"waits for event {owner}, which has the same idempotency key: ask that one")
    if description.status is not WorkflowExecutionStatus.RUNNING:
        raise _conflict(event, "has ended")
    return handle, description


def _is_trying(description: "WorkflowExecutionDescription") -> bool:
    """Whether every action that is left is being tried now, so that none waits."""
    from temporalio.api.enums.v1 import PendingActivityState

    pending = description.raw_description.pending_activities
    started = PendingActivityState.PENDING_ACTIVITY_STATE_STARTED
    return bool(pending) and all(each.state == started for each in pending)


async def _signal(handle: "WorkflowHandle[object, object]", name: str, *arguments: str) -> None:
    from temporalio.service import RPCError

    try:
        await handle.signal(name, args=arguments)
    except RPCError as error:
        raise _away() from error


def _note(session: AsyncSession, access: Access, event: Event, action: str) -> None:
    resource = ("event", str(event.id))
    after = {"source": event.source_key, "event_type": event.event_type}
    note_change(session, access, action, resource, environment=event.environment, after=after)


def _conflict(event: Event, why: str) -> RequestError:
    return RequestError(409, "conflict", f"Event {event.id} {why}")


def _away() -> RequestError:
    return RequestError(503, "unavailable", "Temporal does not answer: try again in a moment")
