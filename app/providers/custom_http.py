"""Any HTTP service that can POST JSON with a secret in a header."""

from app.providers.base import DefaultMapping, Example, Provider, SecretField, Sending, here, there
from app.providers.handshakes import COMMON
from app.providers.verification import SharedSecret

# What the scheme below does, as the script that people start from (docs/scripts.md).
_SCRIPT = """\
function main({ headers, secrets }) {
  const sent = headers["x-webhook-secret"];
  return { verified: secrets.some((secret) => timingSafeEqual(sent, secret)) };
}
"""

provider = Provider(
    key="custom_http",
    name="Custom HTTP",
    description="Receive events from any service that can send JSON over HTTP.",
    categories=("Infrastructure",),
    website_url=None,
    webhook_docs_url="https://docs.knock.app/api/reverse_etl/sources/custom",
    event_type_path="body.type",
    idempotency_key_path=None,
    timestamp_path=None,
    scheme=SharedSecret(headers=(("x-webhook-secret", ""),)),
    secret=SecretField(
        label="Webhook secret",
        help="Any random text of your own. The service sends it in the header X-Webhook-Secret.",
        issued_by="you",
    ),
    default_mappings=(
        DefaultMapping(
            "user.identified",
            "users_identify",
            {
                "id": "body.user_id",
                "name": "body.name",
                "email": "body.email",
                "phone_number": "body.user_phone",
                "avatar": "body.avatar_url",
                "properties": "body.metadata",
            },
        ),
    ),
    examples={
        "user.identified": (
            Example(
                body={
                    "type": "user.identified",
                    "user_id": "user_123",
                    "name": "Jane Doe",
                    "email": "jane@example.com",
                    "metadata": {"plan": "pro", "signup_source": "custom_http"},
                }
            ),
        ),
    },
    setup=(
        here("Add a random secret of your own to this source."),
        there("Let your service POST its events as JSON to this source's URL, one event in a request."),
        there("Let it send the secret in the header X-Webhook-Secret with each request."),
        here("Set event_type_path to where the type stands, for example body.type or headers.x-event."),
        here("If each event carries an id, set idempotency_key_path so that repeats run no action twice."),
    ),
    sending=Sending(
        timeout="Whatever your service waits; we answer within milliseconds of storing the event.",
        retries="Whatever your service does. Repeat on 429, 5xx and timeouts, honour Retry-After, and do not "
        "repeat on other 4xx.",
    ),
    knock_tutorial_url="https://docs.knock.app/api/reverse_etl/sources/custom",
    handshakes=COMMON,
    script=_SCRIPT,
    version="0.0.1",
)
