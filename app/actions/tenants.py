"""Actions on tenants."""

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
from app.actions.profiles import CHANNEL_DATA, FIELDS, NAME, upserted
from app.models.directory import TENANTS
from app.outbound.destinations import Knock, as_data

TENANT_ID = Parameter(
    "id",
    ValueKind.ID,
    "Tenant ID",
    "The tenant's id in your system.",
    required=True,
    aliases=("tenant_id",),
    placeholder="body.organization_id",
)


def _tenant(payload: Payload) -> Subject:
    return Subject(TENANTS, payload["id"])


@action(
    "tenants_set",
    title="Set tenant",
    order=50,
    fields={**FIELDS, "settings": ValueKind.OBJECT},
    tier=Tier.THREE,
    effect=Effect(ChangeKind.SETS, _tenant),
    example=ActionExample(
        {
            "id": "body.organization.id",
            "name": "body.organization.name",
            "settings": {"branding": {"primary_color": "body.organization.color"}},
            "properties": {"plan": "body.organization.plan"},
        },
        {"organization": {"id": "org_7", "name": "Acme", "color": "#336699", "plan": "pro"}},
    ),
    parameters=(
        TENANT_ID,
        NAME,
        Parameter(
            "settings",
            ValueKind.OBJECT,
            "Settings",
            "The tenant's `branding` and `preference_set`.",
            placeholder="body.settings",
        ),
        CHANNEL_DATA,
        Parameter(
            "properties",
            ValueKind.OBJECT,
            "Custom properties",
            "An object whose keys are set on the tenant beside the fields above.",
            aliases=("custom_properties",),
            placeholder="body.organization",
        ),
    ),
)
async def tenants_set(knock: Knock, payload: Payload, idempotency_key: str) -> dict[str, Any] | None:
    """Create the tenant, or update the properties that are given."""
    body = upserted(payload, address=("id",))
    tenant = await knock.tenants.set(payload["id"], extra_body=body, idempotency_key=idempotency_key)
    return as_data(tenant)


@action(
    "tenants_delete",
    title="Delete tenant",
    order=60,
    tier=Tier.TWO,
    effect=Effect(ChangeKind.DELETES, _tenant),
    example=ActionExample({"id": "body.organization_id"}, {"organization_id": "org_7"}),
    parameters=(TENANT_ID,),
)
async def tenants_delete(knock: Knock, payload: Payload, idempotency_key: str) -> dict[str, Any] | None:
    """Delete the tenant."""
    await knock.tenants.delete(payload["id"], idempotency_key=idempotency_key)
    return None
