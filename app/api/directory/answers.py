"""What the directory answers, in Knock's shapes."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID

from starlette.responses import Response

from app.core import exact_json
from app.core.errors import RequestError
from app.core.settings import Settings
from app.database.pages import Page
from app.directory.audiences import Member
from app.directory.bulk_operations import BulkProgress
from app.directory.messages import StoredMessage
from app.directory.recipients import TENANT_PREFERENCE_SET, Json, Recipient, Reference
from app.directory.run_log import engagement
from app.directory.subscriptions import Subscription
from app.directory.workflow_runs import RecipientRun, RunStep
from app.models.directory import USERS
from app.runtime.temporal_ui import run_url

Item = TypeVar("Item")

_PROVIDERS = {"email": "smtp", "http": "http", "in_app_feed": "doorbell_in_app_feed"}
_CONTENTS = {
    "email": "MessageEmailContent",
    "http": "MessageHttpContent",
    "in_app_feed": "MessageInAppFeedContent",
}
_USER_FIELDS: Json = dict.fromkeys(("avatar", "created_at", "email", "name", "phone_number", "timezone"))


class Answer(Response):
    """A JSON answer."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return exact_json.dumps(content)


def missing(what: str) -> RequestError:
    """Knock's answer about something that is not there."""
    return RequestError(404, "resource_missing", f"The {what} you requested does not exist")


def identifier(given: str, what: str) -> UUID:
    """The id of something in a path.

    Raises:
        RequestError: 404, nothing has such an id.
    """
    try:
        return UUID(given)
    except ValueError:
        raise missing(what) from None


def user(recipient: Recipient, *, preferences: bool = False) -> Json:
    shown = {
        "__typename": "User",
        **_USER_FIELDS,
        **recipient.properties,
        "id": recipient.reference.id,
        "updated_at": timestamp(recipient.updated_at),
    }
    return {**shown, "preferences": preference_sets(recipient)} if preferences else shown


def object_(recipient: Recipient, *, preferences: bool = False) -> Json:
    properties = dict(recipient.properties)
    shown = {
        "__typename": "Object",
        "id": recipient.reference.id,
        "collection": recipient.reference.collection,
        "created_at": properties.pop("created_at", None),
        "properties": properties,
        "updated_at": timestamp(recipient.updated_at),
    }
    return {**shown, "preferences": preference_sets(recipient)} if preferences else shown


def user_or_object(recipient: Recipient, *, preferences: bool = False) -> Json:
    show = user if recipient.reference.collection == USERS else object_
    return show(recipient, preferences=preferences)


def tenant(recipient: Recipient, *, resolved: bool = False) -> Json:
    """A tenant. `resolved` shows its preference set even if it has none of its own: the environment has no
    defaults beside it."""
    stored = recipient.preferences.get(TENANT_PREFERENCE_SET)
    members = preference_set("default", stored) if stored is not None or resolved else None
    return {
        "__typename": "Tenant",
        "name": None,
        "created_at": None,
        **recipient.properties,
        "id": recipient.reference.id,
        "settings": {**(recipient.properties.get("settings") or {}), "preference_set": members},
        "updated_at": timestamp(recipient.updated_at),
    }


def subscription(found: Subscription, *, preferences: bool = False) -> Json:
    return {
        "__typename": "Subscription",
        "object": object_(found.object),
        "recipient": user_or_object(found.recipient, preferences=preferences),
        "properties": found.properties,
        "inserted_at": timestamp(found.inserted_at),
        "updated_at": timestamp(found.updated_at),
    }


def audience_member(member: Member) -> Json:
    return {
        "__typename": "AudienceMember",
        "user_id": member.user.reference.id,
        "user": user(member.user),
        "tenant": member.tenant,
        "added_at": timestamp(member.added_at),
    }


def bulk_operation(operation: BulkProgress, base_url: str) -> Json:
    """An operation, with the URL of its progress under `base_url`, which ends in a slash."""
    return {
        "__typename": "BulkOperation",
        "id": str(operation.id),
        "name": operation.name,
        "status": operation.status,
        "estimated_total_rows": operation.estimated_total_rows,
        "processed_rows": operation.processed_rows,
        "success_count": operation.success_count,
        "error_count": operation.error_count,
        "error_items": operation.error_items,
        "progress_path": f"{base_url}v1/bulk_operations/{operation.id}",
        "inserted_at": timestamp(operation.inserted_at),
        "updated_at": timestamp(operation.updated_at),
        "started_at": _timestamp_or_none(operation.started_at),
        "completed_at": _timestamp_or_none(operation.completed_at),
        "failed_at": _timestamp_or_none(operation.failed_at),
    }


def reference(recipient: Reference) -> str | Json:
    """A recipient as Knock refers to it: users by id, objects by collection and id."""
    return (
        recipient.id
        if recipient.collection == USERS
        else {"id": recipient.id, "collection": recipient.collection}
    )


def preference_sets(recipient: Recipient) -> Json:
    """The recipient's preference sets by id."""
    return {
        name: preference_set(name, each)
        for name, each in recipient.preferences.items()
        if name != TENANT_PREFERENCE_SET
    }


def channel_data(channel_id: str, stored: Json) -> Json:
    """What a recipient has for a channel."""
    return {"__typename": "ChannelData", "channel_id": channel_id, "provider": None, "data": stored}


def preference_set(name: str, stored: Json | None) -> Json:
    """A preference set; one that is not stored is empty."""
    kept = {key: value for key, value in (stored or {}).items() if key != "__persistence_strategy__"}
    return {"categories": None, "channel_types": None, "workflows": None, **kept, "id": name}


def recipient_run(run: RecipientRun, settings: Settings | None) -> Json:
    """A run; `temporal` and `error` are Doorbell's own. `settings` say where Temporal's UI is."""
    return {
        "__typename": "WorkflowRecipientRun",
        "id": str(run.id),
        "workflow_run_id": str(run.workflow_run_id),
        "workflow": run.workflow,
        "status": run.status,
        "recipient": reference(run.recipient),
        "actor": reference(run.actor) if run.actor else None,
        "tenant": run.tenant,
        "trigger_source": {"type": "api", "cancellation_key": run.cancellation_key},
        "error_count": run.error_count,
        "error": run.error,
        "temporal": {
            "workflow_id": run.workflow_id,
            "run_id": run.temporal_run_id,
            "url": run_url(settings, run.workflow_id, run.temporal_run_id) if settings else None,
        },
        "inserted_at": timestamp(run.inserted_at),
        "updated_at": timestamp(run.updated_at),
        "started_at": _timestamp(run.started_at),
        "finished_at": _timestamp(run.finished_at),
    }


def run_step(step: RunStep) -> Json:
    """A step of a run: Doorbell's own."""
    return {
        "__typename": "WorkflowRunStep",
        "position": step.position,
        "ref": step.ref,
        "type": step.type,
        "channel_type": step.channel_type,
        "status": step.status,
        "attempts": step.attempts,
        "error": step.error,
        "wait_until": _timestamp(step.wait_until),
        "message_id": str(step.message_id) if step.message_id else None,
        "started_at": timestamp(step.started_at),
        "finished_at": _timestamp(step.finished_at),
    }


def run_event(run: RecipientRun, step: RunStep) -> Json:
    """What a step did, as Knock tells it: an event of the run."""
    data: Json = {"status": step.status}
    if step.message_id is not None:
        data |= {"message_id": str(step.message_id), "channel_type": step.channel_type}
    if step.wait_until is not None:
        data["wait_until"] = timestamp(step.wait_until)
    if step.error is not None:
        data["error"] = step.error
    return {
        "__typename": "WorkflowRecipientRunEvent",
        "id": f"{run.id}:{step.position}",
        "event": "message_enqueued" if step.message_id is not None else f"step_{step.status}",
        "status": "error" if step.error is not None else "ok",
        "attempt": max(step.attempts, 1),
        "step_ref": step.ref,
        "step_type": step.type,
        "data": data,
        "inserted_at": timestamp(step.finished_at or step.started_at),
    }


def message(found: StoredMessage) -> Json:
    return {
        "__typename": "Message",
        "id": str(found.id),
        "channel_id": found.channel_key,
        "channel": {
            "id": found.channel_key,
            "key": found.channel_key,
            "name": found.channel_key,
            "type": found.channel_type,
            "provider": _PROVIDERS[found.channel_type],
            "created_at": timestamp(found.version_created_at),
            "updated_at": timestamp(found.version_created_at),
        },
        "recipient": reference(Reference(found.recipient_collection, found.recipient_id)),
        "actors": [reference(Reference(found.actor_collection, found.actor_id))]
        if found.actor_collection is not None and found.actor_id is not None
        else [],
        "tenant": found.tenant,
        "workflow": found.workflow,
        "source": {
            "__typename": "Workflow",
            "type": "workflow",
            "key": found.workflow,
            "version_id": str(found.version_id),
            "categories": found.categories,
            "step_ref": found.step_ref,
            "workflow_run_id": str(found.workflow_run_id),
            "workflow_recipient_run_id": str(found.run_id),
        },
        "status": found.status,
        "error": found.error,
        "engagement_statuses": engagement(found),
        "data": found.data,
        "metadata": None,
        "seen_at": _timestamp(found.seen_at),
        "read_at": _timestamp(found.read_at),
        "interacted_at": _timestamp(found.interacted_at),
        "archived_at": _timestamp(found.archived_at),
        "clicked_at": None,
        "link_clicked_at": None,
        "scheduled_at": None,
        "inserted_at": timestamp(found.inserted_at),
        "updated_at": timestamp(found.updated_at),
    }


def message_content(found: StoredMessage) -> Json:
    """What was sent. Values of a webhook's headers, which may be credentials, are not shown."""
    shown = dict(found.content)
    if found.channel_type == "http":
        shown["headers"] = [{"key": name, "value": "[redacted]"} for name, _ in shown["headers"]]
        shown["query_params"] = [{"key": name, "value": value} for name, value in shown["query_params"]]
    return {
        "__typename": "MessageContents",
        "message_id": str(found.id),
        "inserted_at": timestamp(found.inserted_at),
        "data": {"__typename": _CONTENTS[found.channel_type], **shown},
    }


def page(found: Page[Item], render: Callable[[Item], Json], name: str = "entries") -> Answer:
    """A list in Knock's wrapper."""
    info = {"__typename": "PageInfo", "after": found.after, "before": found.before, "page_size": found.size}
    return Answer({name: [render(each) for each in found.items], "page_info": info})


def _timestamp(moment: datetime | None) -> str | None:
    return None if moment is None else timestamp(moment)


def timestamp(moment: datetime) -> str:
    """In UTC, with Z as Knock writes it."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _timestamp_or_none(moment: datetime | None) -> str | None:
    return None if moment is None else timestamp(moment)
