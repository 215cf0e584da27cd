"""Actions on users."""

from typing import Any

from app.actions.base import (
    ActionExample,
    ChangeKind,
    Effect,
    Parameter,
    Payload,
    Subject,
    Tier,
    ValueKind,
    action,
)
from app.actions.profiles import CHANNEL_DATA, FIELDS, NAME, PREFERENCES, upserted
from app.core.errors import Refused
from app.models.directory import USERS
from app.outbound.destinations import Knock, as_data

USER_ID = Parameter(
    "id",
    ValueKind.ID,
    "ID",
    "The user's id in your system.",
    required=True,
    aliases=("user_id",),
    placeholder="body.user_id",
    names_user=True,
)


def _user(payload: Payload) -> Subject:
    return Subject(USERS, payload["id"])


@action(
    "users_identify",
    title="Identify user",
    order=10,
    fields={**FIELDS, "email": ValueKind.TEXT, "phone_number": ValueKind.TEXT, "avatar": ValueKind.TEXT},
    tier=Tier.THREE,
    effect=Effect(ChangeKind.SETS, _user),
    example=ActionExample(
        {
            "id": "body.user_id",
            "name": "body.traits.name",
            "email": "body.traits.email",
            "properties": {"plan": "body.traits.plan", "signed_up_via": {"value": "web"}},
        },
        {"user_id": 42, "traits": {"name": "Ada Example", "email": "ada@example.com", "plan": "pro"}},
    ),
    parameters=(
        USER_ID,
        NAME,
        Parameter(
            "email", ValueKind.TEXT, "Email", "Primary email address.", placeholder="body.email", clears=True
        ),
        Parameter(
            "phone_number",
            ValueKind.TEXT,
            "Phone number",
            "In E.164, for example +15550100100.",
            clears=True,
            placeholder="body.phone",
        ),
        Parameter(
            "avatar",
            ValueKind.TEXT,
            "Avatar",
            "URL of a picture.",
            placeholder="body.avatar_url",
            clears=True,
        ),
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
        Parameter(
            "created_at",
            ValueKind.MOMENT,
            "Created at",
            "When the user was created in your system: ISO 8601, or seconds or milliseconds since 1970.",
            clears=True,
            placeholder="body.created_at",
        ),
        CHANNEL_DATA,
        PREFERENCES,
        Parameter(
            "properties",
            ValueKind.OBJECT,
            "Custom properties",
            "An object whose keys are set on the user beside the fields above.",
            aliases=("custom_properties",),
            placeholder="body.metadata",
        ),
    ),
)
async def users_identify(knock: Knock, payload: Payload, idempotency_key: str) -> dict[str, Any] | None:
    """Create the user, or update the properties that are given."""
    body = upserted(payload, address=("id",))
    user = await knock.users.update(payload["id"], extra_body=body, idempotency_key=idempotency_key)
    return as_data(user)


@action(
    "users_merge",
    title="Merge users",
    order=15,
    tier=Tier.TWO,
    example=ActionExample(
        {"id": "body.userId", "from_user_id": "body.previousId"},
        {"type": "alias", "userId": "ada", "previousId": "visitor-7"},
    ),
    parameters=(
        Parameter(
            "id",
            ValueKind.ID,
            "ID",
            "The id of the user that remains. It is created if there is none.",
            required=True,
            aliases=("user_id",),
            placeholder="body.userId",
            names_user=True,
        ),
        Parameter(
            "from_user_id",
            ValueKind.ID,
            "From user ID",
            "The id of the user that is merged into it, and is deleted.",
            required=True,
            aliases=("previous_id",),
            placeholder="body.previousId",
            names_user=True,
        ),
    ),
)
async def users_merge(knock: Knock, payload: Payload, idempotency_key: str) -> dict[str, Any] | None:
    """Merge a user into another one. Where there is no user to merge, nothing changes."""
    from app.outbound.knock import attempt

    user_id, from_user_id = payload["id"], payload["from_user_id"]
    if user_id == from_user_id:
        return {"merged": False}
    try:
        return as_data(await attempt(_merge(knock, payload, idempotency_key)))
    except Refused as refused:
        if refused.status not in (404, 422):
            raise
        # Also what an attempt finds that repeats a merge.
        if not await _exists(knock, from_user_id):
            return {"merged": False}
        if await _exists(knock, user_id):
            raise
    await knock.users.update(user_id, extra_body={}, idempotency_key=f"{idempotency_key}-user")
    # A key that names what failed cannot name what comes next.
    return as_data(await _merge(knock, payload, f"{idempotency_key}-again"))


async def _merge(knock: Knock, payload: Payload, idempotency_key: str) -> Any:
    return await knock.users.merge(
        payload["id"], from_user_id=payload["from_user_id"], idempotency_key=idempotency_key
    )


async def _exists(knock: Knock, user_id: str) -> bool:
    from app.outbound.knock import attempt

    try:
        await attempt(knock.users.get(user_id))
    except Refused as refused:
        if refused.status == 404:
            return False
        raise
    return True


@action(
    "users_delete",
    title="Delete user",
    order=20,
    tier=Tier.TWO,
    effect=Effect(ChangeKind.DELETES, _user),
    example=ActionExample({"id": "body.user_id"}, {"user_id": 42}),
    parameters=(USER_ID,),
)
async def users_delete(knock: Knock, payload: Payload, idempotency_key: str) -> dict[str, Any] | None:
    """Delete the user."""
    await knock.users.delete(payload["id"], idempotency_key=idempotency_key)
    return None
