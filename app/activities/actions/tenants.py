"""Actions on tenants."""

from typing import Any

from app.activities.actions.base import Kind, Parameter, Payload, action
from app.destinations import Knock, as_data

TENANT_ID = Parameter(
    "id",
    Kind.ID,
    "Tenant ID",
    "The tenant's id in your system.",
    required=True,
    aliases=("tenant_id",),
    placeholder="body.organization_id",
)


@action(
    "tenants_set",
    title="Set tenant",
    order=50,
    parameters=(
        TENANT_ID,
        Parameter("name", Kind.TEXT, "Name", "Display name.", placeholder="body.name"),
        Parameter(
            "settings",
            Kind.OBJECT,
            "Settings",
            "The tenant's `branding` and `preference_set`.",
            placeholder="body.settings",
        ),
        Parameter(
            "properties",
            Kind.OBJECT,
            "Custom properties",
            "An object whose keys are set on the tenant beside the fields above.",
            aliases=("custom_properties",),
            placeholder="body.organization",
        ),
    ),
)
async def tenants_set(knock: Knock, payload: Payload, idempotency_key: str) -> dict[str, Any] | None:
    """Create the tenant, or update the properties that are given."""
    fields = {name: payload[name] for name in ("name", "settings") if name in payload}
    properties = {name: value for name, value in payload.get("properties", {}).items() if name != "id"}
    tenant = await knock.tenants.set(
        payload["id"], extra_body={**properties, **fields}, idempotency_key=idempotency_key
    )
    return as_data(tenant)


@action("tenants_delete", title="Delete tenant", order=60, parameters=(TENANT_ID,))
async def tenants_delete(knock: Knock, payload: Payload, idempotency_key: str) -> dict[str, Any] | None:
    """Delete the tenant."""
    await knock.tenants.delete(payload["id"], idempotency_key=idempotency_key)
    return None
