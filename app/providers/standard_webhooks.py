"""Any service that follows Standard Webhooks: https://www.standardwebhooks.com"""

from app.providers.base import Example, Provider, SecretField, Sending, here, there
from app.providers.verification import StandardWebhook

provider = Provider(
    key="standard_webhooks",
    name="Standard Webhooks",
    description=(
        "Receive events from any service that signs them as Standard Webhooks says, or sends through Svix."
    ),
    categories=("Infrastructure",),
    website_url="https://www.standardwebhooks.com",
    webhook_docs_url="https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md",
    event_type_path="body.type",
    idempotency_key_path="headers.webhook-id",
    timestamp_path="body.timestamp",
    scheme=StandardWebhook(prefixes=("webhook", "svix")),
    secret=SecretField(
        label="Signing secret or public key",
        help="What the service shows: a secret (whsec_...) or a public key (whpk_...).",
        placeholder="whsec_...",
    ),
    default_mappings=(),
    examples={
        "contact.created": (
            Example(
                body={
                    "type": "contact.created",
                    "timestamp": "2026-01-01T00:00:00Z",
                    "data": {"id": "c_1", "email": "ada@example.com"},
                }
            ),
        ),
    },
    setup=(
        there(
            "In the service's webhook settings add this source's URL as an endpoint and choose the events."
        ),
        there("Copy the endpoint's signing secret (whsec_...) or public key (whpk_...)."),
        here("Add it to this source."),
        here("Add mappings for the event types; the service's next event shows what it carries."),
    ),
    sending=Sending(
        timeout="15 to 30 s as the specification suggests",
        retries="As the specification suggests: at once, then after 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 "
        "h, 20 h and "
        "24 h. 429, 502 and 504 slow it down, Retry-After is honoured, 410 disables the endpoint (we never "
        "send it).",
    ),
    notes=(
        "The idempotency key is the id that the signature covers: `webhook-id` or `svix-id`.",
        "Supabase's Auth hooks sign this way: their secret `v1,whsec_...` can be pasted as it is.",
        "`whsk_...`, a private key, works too and lets `doorbell send` sign as the service would.",
    ),
)
