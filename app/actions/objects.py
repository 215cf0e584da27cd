"""Actions on objects and their subscriptions."""

from typing import Any

from app.actions.base import (
    LATE_PARENT,
    MAXIMUM_LISTED,
    ActionExample,
    ChangeKind,
    Chunk,
    Effect,
    Parameter,
    Payload,
    Subject,
    Tier,
    ValueKind,
    action,
)
from app.actions.profiles import CHANNEL_DATA, FIELDS, NAME, PREFERENCES, upserted
from app.outbound.destinations import Knock, as_data, count

# What Knock takes in one call.
SUBSCRIBERS_A_CALL = 100
CHUNK = Chunk("recipients", SUBSCRIBERS_A_CALL)

COLLECTION = Parameter(
    "collection",
    ValueKind.KEY,
    "Collection",
    "The collection that the object belongs to, as text.",
    required=True,
    literal=True,
    placeholder="projects",
)
OBJECT_ID = Parameter(
    "id",
    ValueKind.ID,
    "Object ID",
    "The object's id in your system.",
    required=True,
    aliases=("object_id",),
    placeholder="body.project_id",
)


def _object(payload: Payload) -> Subject:
    return Subject(payload["collection"], payload["id"])


@action(
    "objects_set",
    title="Set object",
    order=30,
    fields=FIELDS,
    tier=Tier.THREE,
    effect=Effect(ChangeKind.SETS, _object),
    example=ActionExample(
        {
            "collection": "projects",
            "id": "body.project.id",
            "name": "body.project.title",
            "properties": {"status": "body.project.status"},
        },
        {"project": {"id": 7, "title": "Analytical Engine", "status": "open"}},
    ),
    parameters=(
        COLLECTION,
        OBJECT_ID,
        NAME,
        Parameter(
            "timezone",
            ValueKind.TEXT,
            "Timezone",
            "A tz database name.",
            placeholder="body.timezone",
            clears=True,
        ),
        Parameter(
            "locale", ValueKind.TEXT, "Locale", "For example en-GB.", placeholder="body.locale", clears=True
        ),
        CHANNEL_DATA,
        PREFERENCES,
        Parameter(
            "properties",
            ValueKind.OBJECT,
            "Custom properties",
            "An object whose keys are set on the object beside the fields above.",
            aliases=("custom_properties",),
            placeholder="body.project",
        ),
    ),
)
async def objects_set(knock: Knock, payload: Payload, idempotency_key: str) -> dict[str, Any] | None:
    """Create the object, or update the properties that are given."""
    body = upserted(payload, address=("collection", "id"))
    found = await knock.objects.set(
        payload["collection"], payload["id"], extra_body=body, idempotency_key=idempotency_key
    )
    return as_data(found)


@action(
    "objects_delete",
    title="Delete object",
    order=40,
    tier=Tier.THREE,
    effect=Effect(ChangeKind.DELETES, _object),
    example=ActionExample({"collection": "projects", "id": "body.project_id"}, {"project_id": 7}),
    parameters=(COLLECTION, OBJECT_ID),
)
async def objects_delete(knock: Knock, payload: Payload, idempotency_key: str) -> dict[str, Any] | None:
    """Delete the object."""
    await knock.objects.delete(payload["collection"], payload["id"], idempotency_key=idempotency_key)
    return None


@action(
    "objects_subscribe",
    title="Subscribe to object",
    order=70,
    tier=Tier.THREE,
    effect=Effect(ChangeKind.ADDS, _object, "recipients"),
    waits_for_parent=LATE_PARENT,
    example=ActionExample(
        {
            "collection": "projects",
            "id": "body.project_id",
            "recipients": "body.members.*.user_id",
            "properties": {"role": {"value": "reviewer"}},
        },
        {"project_id": "p-7", "members": [{"user_id": "ada"}, {"user_id": "grace"}]},
    ),
    chunk=CHUNK,
    parameters=(
        COLLECTION,
        OBJECT_ID,
        Parameter(
            "recipients",
            ValueKind.RECIPIENTS,
            "Recipients",
            "Who subscribes: user ids, users to identify, or objects with a collection. "
            f"More than {SUBSCRIBERS_A_CALL} go in several calls.",
            required=True,
            aliases=("recipient", "user_id"),
            limit=MAXIMUM_LISTED,
            placeholder="body.members.*.user_id",
        ),
        Parameter(
            "properties",
            ValueKind.OBJECT,
            "Custom properties",
            "An object that is kept on each subscription.",
            aliases=("custom_properties",),
            placeholder="body.subscription",
        ),
    ),
)
async def objects_subscribe(knock: Knock, payload: Payload, idempotency_key: str) -> dict[str, Any] | None:
    """Subscribe recipients to the object."""
    optional = {"properties": payload["properties"]} if "properties" in payload else {}
    subscriptions = await knock.objects.add_subscriptions(
        payload["collection"],
        payload["id"],
        recipients=payload["recipients"],
        **optional,
        idempotency_key=idempotency_key,
    )
    return {"subscriptions": count(subscriptions)}


@action(
    "objects_unsubscribe",
    title="Unsubscribe from object",
    order=80,
    tier=Tier.THREE,
    effect=Effect(ChangeKind.REMOVES, _object, "recipients"),
    example=ActionExample(
        {"collection": "projects", "id": "body.project_id", "recipients": "body.user_id"},
        {"project_id": "p-7", "user_id": "ada"},
    ),
    chunk=CHUNK,
    parameters=(
        COLLECTION,
        OBJECT_ID,
        Parameter(
            "recipients",
            ValueKind.REFERENCES,
            "Recipients",
            "Who is unsubscribed: user ids, or objects with a collection. "
            f"More than {SUBSCRIBERS_A_CALL} go in several calls.",
            required=True,
            aliases=("recipient", "user_id"),
            limit=MAXIMUM_LISTED,
            placeholder="body.members.*.user_id",
        ),
    ),
)
async def objects_unsubscribe(knock: Knock, payload: Payload, idempotency_key: str) -> dict[str, Any] | None:
    """Remove recipients' subscriptions to the object."""
    removed = await knock.objects.delete_subscriptions(
        payload["collection"],
        payload["id"],
        recipients=payload["recipients"],
        idempotency_key=idempotency_key,
    )
    return {"subscriptions": count(removed)}
