"""Actions on audiences."""

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
from app.outbound.destinations import Knock

# The collection under which Doorbell counts audiences among what actions change.
AUDIENCES = "$audiences"
# What Knock takes in one call.
MEMBERS_A_CALL = 1000
CHUNK = Chunk("members", MEMBERS_A_CALL)

KEY = Parameter(
    "key",
    ValueKind.KEY,
    "Audience",
    "The key of the audience, as text.",
    required=True,
    literal=True,
    aliases=("audience", "audience_key"),
    placeholder="trial-users",
)
MEMBERS = Parameter(
    "members",
    ValueKind.MEMBERS,
    "Members",
    "One user or many: ids, users to identify, or objects with a `user` and a `tenant`. "
    f"More than {MEMBERS_A_CALL} go in several calls.",
    required=True,
    aliases=("user_id", "user_ids", "user", "users"),
    limit=MAXIMUM_LISTED,
    placeholder="body.users.*.user_id",
)
TENANT = Parameter(
    "tenant",
    ValueKind.ID,
    "Tenant",
    "The id of the tenant within which they are members, unless a member names its own.",
    aliases=("tenant_id",),
    narrows=True,
    placeholder="body.tenant_id",
)


def _audience(payload: Payload) -> Subject:
    return Subject(AUDIENCES, payload["key"])


@action(
    "audiences_add_member",
    title="Add to audience",
    order=90,
    tier=Tier.THREE,
    effect=Effect(ChangeKind.ADDS, _audience, "members"),
    waits_for_parent=LATE_PARENT,
    example=ActionExample(
        {"key": "vip", "members": "body.users.*.user_id"},
        {"cohort_name": "VIP", "in_cohort": True, "users": [{"user_id": "ada"}, {"user_id": "grace"}]},
    ),
    chunk=CHUNK,
    parameters=(
        KEY,
        MEMBERS,
        TENANT,
        Parameter(
            "create_audience",
            ValueKind.BOOLEAN,
            "Create audience",
            "Whether to create the audience when it is not there; it is, unless this is false.",
            placeholder="true",
        ),
    ),
)
async def audiences_add_member(knock: Knock, payload: Payload, idempotency_key: str) -> dict[str, Any] | None:
    """Add users to the audience."""
    members = _members(payload)
    await knock.audiences.add_members(
        payload["key"],
        members=members,
        create_audience=payload.get("create_audience", True),
        idempotency_key=idempotency_key,
    )
    return {"members": len(members)}


@action(
    "audiences_remove_member",
    title="Remove from audience",
    order=100,
    tier=Tier.THREE,
    effect=Effect(ChangeKind.REMOVES, _audience, "members"),
    example=ActionExample(
        {"key": "vip", "members": "body.users.*.user_id"},
        {"cohort_name": "VIP", "in_cohort": False, "users": [{"user_id": "ada"}, {"user_id": "grace"}]},
    ),
    chunk=CHUNK,
    parameters=(KEY, MEMBERS, TENANT),
)
async def audiences_remove_member(
    knock: Knock, payload: Payload, idempotency_key: str
) -> dict[str, Any] | None:
    """Remove users from the audience."""
    members: list[Any] = [{**each, "user": {"id": each["user"]["id"]}} for each in _members(payload)]
    await knock.audiences.remove_members(payload["key"], members=members, idempotency_key=idempotency_key)
    return {"members": len(members)}


def _members(payload: Payload) -> list[Any]:
    """The members, each with its tenant: its own, or the one for all."""
    common = {"tenant": payload["tenant"]} if "tenant" in payload else {}
    return [{**common, **each} for each in payload["members"]]
