"""Actions on objects and their subscriptions."""

from typing import Any

from app.activities.actions.base import MAXIMUM_LISTED, Kind, Parameter, Payload, action, in_chunks
from app.destinations import Knock, as_data

# What Knock takes in one call.
SUBSCRIBERS_A_CALL = 100

COLLECTION = Parameter(
    "collection",
    Kind.KEY,
    "Collection",
    "The collection that the object belongs to, as text.",
    required=True,
    literal=True,
    placeholder="projects",
)
OBJECT_ID = Parameter(
    "id",
    Kind.ID,
    "Object ID",
    "The object's id in your system.",
    required=True,
    aliases=("object_id",),
    placeholder="body.project_id",
)


@action(
    "objects_set",
    title="Set object",
    order=30,
    parameters=(
        COLLECTION,
        OBJECT_ID,
        Parameter("name", Kind.TEXT, "Name", "Display name.", placeholder="body.name"),
        Parameter(
            "properties",
            Kind.OBJECT,
            "Custom properties",
            "An object whose keys are set on the object beside its name.",
            aliases=("custom_properties",),
            placeholder="body.project",
        ),
    ),
)
async def objects_set(knock: Knock, payload: Payload, idempotency_key: str) -> dict[str, Any] | None:
    """Create the object, or update the properties that are given."""
    names = {"name": payload["name"]} if "name" in payload else {}
    properties = {
        name: value
        for name, value in payload.get("properties", {}).items()
        if name not in ("id", "collection")
    }
    found = await knock.objects.set(
        payload["collection"],
        payload["id"],
        extra_body={**properties, **names},
        idempotency_key=idempotency_key,
    )
    return as_data(found)


@action("objects_delete", title="Delete object", order=40, parameters=(COLLECTION, OBJECT_ID))
async def objects_delete(knock: Knock, payload: Payload, idempotency_key: str) -> dict[str, Any] | None:
    """Delete the object."""
    await knock.objects.delete(payload["collection"], payload["id"], idempotency_key=idempotency_key)
    return None


@action(
    "objects_subscribe",
    title="Subscribe to object",
    order=70,
    parameters=(
        COLLECTION,
        OBJECT_ID,
        Parameter(
            "recipients",
            Kind.RECIPIENTS,
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
            Kind.OBJECT,
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
    subscribed = 0
    for recipients, key in in_chunks(payload["recipients"], SUBSCRIBERS_A_CALL, idempotency_key):
        subscribed += len(
            await knock.objects.add_subscriptions(
                payload["collection"], payload["id"], recipients=recipients, **optional, idempotency_key=key
            )
        )
    return {"subscriptions": subscribed}


@action(
    "objects_unsubscribe",
    title="Unsubscribe from object",
    order=80,
    parameters=(
        COLLECTION,
        OBJECT_ID,
        Parameter(
            "recipients",
            Kind.REFERENCES,
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
    removed = 0
    for recipients, key in in_chunks(payload["recipients"], SUBSCRIBERS_A_CALL, idempotency_key):
        removed += len(
            await knock.objects.delete_subscriptions(
                payload["collection"], payload["id"], recipients=recipients, idempotency_key=key
            )
        )
    return {"subscriptions": removed}
