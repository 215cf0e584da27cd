"""What the directory answers, in Knock's shapes."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import orjson
from fastapi import Response

from app.directory.pages import Page
from app.directory.recipients import Json, Recipient, Reference
from app.directory.workflow_runs import RecipientRun
from app.errors import RequestError
from app.models.directory import USERS

Item = TypeVar("Item")

NO_CONTENT = 204
_USER_FIELDS: Json = dict.fromkeys(("avatar", "created_at", "email", "name", "phone_number", "timezone"))


class Answer(Response):
    """A JSON answer."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content)


def missing(what: str) -> RequestError:
    """Knock's answer about something that is not there."""
    return RequestError(404, "resource_missing", f"The {what} you requested does not exist")


def user(recipient: Recipient, *, preferences: bool = False) -> Json:
    shown = {
        "__typename": "User",
        **_USER_FIELDS,
        **recipient.properties,
        "id": recipient.reference.id,
        "updated_at": timestamp(recipient.updated_at),
    }
    return {**shown, "preferences": preference_sets(recipient)} if preferences else shown


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
        name: {"id": name, **{key: value for key, value in each.items() if key != "__persistence_strategy__"}}
        for name, each in recipient.preferences.items()
    }


def recipient_run(run: RecipientRun) -> Json:
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
        "inserted_at": timestamp(run.inserted_at),
        "updated_at": timestamp(run.updated_at),
    }


def page(found: Page[Item], render: Callable[[Item], Json], name: str = "entries") -> Answer:
    """A list in Knock's wrapper."""
    info = {"__typename": "PageInfo", "after": found.after, "before": found.before, "page_size": found.size}
    return Answer({name: [render(each) for each in found.items], "page_info": info})


def timestamp(moment: datetime) -> str:
    """In UTC, with Z as Knock writes it."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
