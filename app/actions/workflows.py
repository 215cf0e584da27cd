"""Actions on Knock's workflows."""

from datetime import timedelta
from typing import Any

from app.actions.base import (
    MAXIMUM_DATA_BYTES,
    MAXIMUM_LISTED,
    ActionExample,
    Chunk,
    Parameter,
    Payload,
    Tier,
    ValueKind,
    action,
)
from app.outbound.destinations import Knock, as_data

# What Knock takes in one call.
RECIPIENTS_A_CALL = 1000
CHUNK = Chunk("recipients", RECIPIENTS_A_CALL)

KEY = Parameter(
    "key",
    ValueKind.KEY,
    "Workflow",
    "The key of the workflow, as text.",
    required=True,
    literal=True,
    aliases=("workflow", "workflow_key"),
    placeholder="welcome",
)


@action(
    "workflows_cancel",
    title="Cancel workflow",
    order=110,
    tier=Tier.FIVE,
    example=ActionExample(
        {"key": "order-reminder", "cancellation_key": "body.order_id", "recipients": "body.user_id"},
        {"order_id": 9001, "user_id": "ada"},
    ),
    chunk=CHUNK,
    parameters=(
        KEY,
        Parameter(
            "cancellation_key",
            ValueKind.ID,
            "Cancellation key",
            "The key that the workflow was triggered with.",
            required=True,
            placeholder="body.order_id",
        ),
        Parameter(
            "recipients",
            ValueKind.REFERENCES,
            "Recipients",
            f"Cancel for these recipients only. More than {RECIPIENTS_A_CALL} go in several calls.",
            limit=MAXIMUM_LISTED,
            narrows=True,
            placeholder="body.user_id",
        ),
    ),
)
async def workflows_cancel(knock: Knock, payload: Payload, idempotency_key: str) -> dict[str, Any] | None:
    """Cancel the runs of a workflow that were triggered with a cancellation key."""
    arguments = {name: value for name, value in payload.items() if name != "key"}
    await knock.workflows.cancel(payload["key"], **arguments, idempotency_key=idempotency_key)
    return None


@action(
    "workflows_trigger",
    title="Trigger workflow",
    order=120,
    tier=Tier.FIVE,
    example=ActionExample(
        {
            "key": "invoice-paid",
            "recipients": "body.customer",
            "data": {"amount": "body.amount_paid", "lines": "body.lines.*.description"},
            "tenant": "body.account",
            "cancellation_key": "body.id",
        },
        {
            "id": "in_1",
            "customer": "cus_ada",
            "account": "acme",
            "amount_paid": 4999,
            "lines": [{"description": "Pro plan"}, {"description": "Extra seat"}],
        },
    ),
    # Knock remembers an idempotency key for 24 hours: a retry after that could notify twice.
    give_up_after=timedelta(hours=23),
    chunk=CHUNK,
    parameters=(
        KEY,
        Parameter(
            "recipients",
            ValueKind.RECIPIENTS,
            "Recipients",
            "Who is notified: user ids, users to identify, or objects with a collection. "
            f"More than {RECIPIENTS_A_CALL} go in several calls.",
            required=True,
            limit=MAXIMUM_LISTED,
            placeholder="body.user_id",
        ),
        Parameter(
            "data",
            ValueKind.OBJECT,
            "Data",
            "An object for the workflow's templates.",
            maximum_bytes=MAXIMUM_DATA_BYTES,
            placeholder="body",
        ),
        Parameter("actor", ValueKind.RECIPIENT, "Actor", "Who did it.", placeholder="body.actor_id"),
        Parameter("tenant", ValueKind.TENANT, "Tenant", "On whose behalf.", placeholder="body.tenant_id"),
        Parameter(
            "cancellation_key",
            ValueKind.ID,
            "Cancellation key",
            "Names this trigger, so that it can be cancelled.",
            placeholder="body.order_id",
        ),
        Parameter(
            "settings",
            ValueKind.OBJECT,
            "Settings",
            "An object with `sandbox_mode` (deliver nothing) or `skip_delay` (pass over delay steps), true "
            "or false.",
            narrows=True,
            placeholder='{"sandbox_mode": true}',
        ),
    ),
)
async def workflows_trigger(knock: Knock, payload: Payload, idempotency_key: str) -> dict[str, Any] | None:
    """Run a workflow for its recipients."""
    # As the client's typed arguments it would all be copied and looked through, which JSON does not need.
    body = {name: value for name, value in payload.items() if name not in ("key", "recipients")}
    run = await knock.workflows.trigger(
        payload["key"], recipients=payload["recipients"], extra_body=body, idempotency_key=idempotency_key
    )
    return as_data(run)
