"""Clay, through an HTTP API column: https://www.clay.com/university/guide/http-api-integration-overview"""

from app.providers.base import DefaultMapping, Example, Provider, SecretField, Sending, here, there
from app.providers.verification import SharedSecret

provider = Provider(
    key="clay",
    name="Clay",
    description="Identify the leads that a Clay table enriches.",
    categories=("CRM",),
    website_url="https://www.clay.com",
    webhook_docs_url="https://www.clay.com/university/guide/http-api-integration-overview",
    knock_tutorial_url="https://docs.knock.app/api/reverse_etl/sources/clay",
    event_type_path="body.event",
    idempotency_key_path=None,
    timestamp_path=None,
    ordering_key_path="body.email",
    scheme=SharedSecret(headers=(("authorization", "Bearer "),)),
    secret=SecretField(
        label="Webhook secret",
        help="Any random text of your own. Clay sends it in the header Authorization, after `Bearer `.",
        issued_by="you",
    ),
    default_mappings=(
        DefaultMapping(
            "lead.enriched",
            "users_identify",
            {
                "id": "body.email",
                "name": "body.full_name",
                "email": "body.email",
                "phone_number": "body.phone_number",
                "avatar": "body.avatar_url",
                "properties": "body",
            },
        ),
    ),
    examples={
        "lead.enriched": (
            Example(
                body={
                    "event": "lead.enriched",
                    "full_name": "Ada Example",
                    "email": "ada@example.com",
                    "phone_number": "+15550100100",
                    "avatar_url": "https://example.com/ada.png",
                    "job_title": "Engineer",
                    "company_name": "Example Inc",
                    "company_domain": "example.com",
                }
            ),
        ),
    },
    setup=(
        here("Add a random secret of your own to this source."),
        there("In the Clay table choose Add enrichment, HTTP API."),
        there("Choose the method POST and paste this source's URL as the endpoint."),
        there("Add the header Authorization with the value `Bearer <secret>`."),
        there(
            'As the body write JSON with `"event": "lead.enriched"` and the columns, for example `"email": '
            "/Email`."
        ),
        there("Set a rate limit below this source's, and run the column for one row."),
    ),
    sending=Sending(
        timeout="Not published.",
        retries="Not published. A row that failed can be run again from the table.",
    ),
    notes=(
        (
            "Clay sends a request for each row; there is no idempotency key, and identifying a user twice "
            "does "
            "no harm."
        ),
        (
            "A cell without a value arrives as empty text, which counts as missing: such a row identifies "
            "nobody."
        ),
    ),
)
