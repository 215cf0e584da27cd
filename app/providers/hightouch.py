"""Hightouch: its Embedded Destination, and its HTTP Request destination calling Knock's API.

https://hightouch.com/docs/destinations/custom, https://hightouch.com/docs/destinations/http-request
"""

from app.providers import reverse_etl
from app.providers.base import ORDERING_KEYS_PATH, Provider, SecretField, Sending, there

provider = Provider(
    key="hightouch",
    name="Hightouch",
    description="Sync audiences, users and objects from your warehouse.",
    categories=("Infrastructure",),
    website_url="https://hightouch.com",
    webhook_docs_url="https://hightouch.com/docs/destinations/custom",
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
        there(
            "For audiences: in Hightouch open Destinations, Add destination, and choose Embedded Destination."
        ),
        there("Enter this server's address with the path /v1/integrations/hightouch/embedded-destination."),
        there("Add the header `Authorization: Bearer <source key>`."),
        there(
            "Create a sync: choose Audiences, a mode, the column of the user's id, and the audience's key."
        ),
        there(
            "For users, objects, tenants and triggers: add an HTTP Request destination with this server's "
            "address as "
            "base URL and the same header, and call Knock's API, for example PUT /v1/users/{{ row.user_id }}."
        ),
    ),
    sending=Sending(
        timeout="30 seconds, unless the destination says otherwise.",
        retries="3 times, unless the destination says otherwise; rejected rows come again with the next run.",
    ),
    kind="reverse_etl",
    notes=("A row is accepted when its event is durable; what its action did is in the action log.",),
)
