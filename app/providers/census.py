"""Census (Fivetran Activations): its Custom Destination, and its HTTP Request destination calling Knock's
API.

https://github.com/sutrolabs/census-docs, basics/developers/custom-api.md
"""

from app.providers import reverse_etl
from app.providers.base import ORDERING_KEYS_PATH, Provider, SecretField, Sending, there

provider = Provider(
    key="census",
    name="Census",
    description="Sync audiences, users and objects from your warehouse.",
    categories=("Infrastructure",),
    website_url="https://www.getcensus.com",
    webhook_docs_url="https://docs.getcensus.com/basics/developers/custom-api",
    event_type_path=reverse_etl.EVENT_TYPE_PATH,
    idempotency_key_path=reverse_etl.IDEMPOTENCY_KEY_PATH,
    timestamp_path=None,
    optional_paths=(reverse_etl.IDEMPOTENCY_KEY_PATH,),
    ordering_key_path=ORDERING_KEYS_PATH,
    ordering_keys=reverse_etl.ordering_keys,
    scheme=reverse_etl.SCHEME,
    secret=SecretField(
        label="Webhook secret",
        help=(
            "Only for requests to this source's URL: any random text, sent as Authorization: Bearer <secret>."
        ),
        issued_by="you",
    ),
    default_mappings=reverse_etl.DEFAULT_MAPPINGS,
    implicit_mappings=reverse_etl.IMPLICIT_MAPPINGS,
    examples=reverse_etl.EXAMPLES,
    setup=(
        reverse_etl.ISSUE_KEY,
        there("For audiences: in Census open Destinations, New destination, and choose Custom API."),
        there(
            "Enter this server's address, which must be HTTPS, with the path "
            "/v1/integrations/census/custom-destination."
        ),
        there("Add the header `Authorization: Bearer <source key>` and test the connection."),
        there("Create a sync to Audiences: User ID is the sync key, Knock audience key a constant."),
        there(
            "For users, objects, tenants and triggers: add an HTTP Request destination with this server's "
            "address and the same header, for example POST /v1/users/bulk/identify."
        ),
    ),
    sending=Sending(
        timeout="Census does not publish it.",
        retries=(
            "429 and 5xx up to 7 times with growing pauses; rejected records come again with the next run."
        ),
    ),
    kind="reverse_etl",
    notes=(
        "A record is accepted when its event is durable; what its action did is in the action log.",
        (
            "An audience sync carries no user properties and no tenants: identify users by the HTTP Request "
            "destination."
        ),
    ),
)
