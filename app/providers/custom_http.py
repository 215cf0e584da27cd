"""Any HTTP service that can POST JSON with a secret in a header."""

from app.providers.base import DefaultMapping, Example, Provider, SecretField
from app.verification import SharedSecret

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
    webhook_docs_url="https://docs.knock.app/integrations/sources/custom",
    event_type_path="body.type",
    idempotency_key_path=None,
    timestamp_path=None,
    scheme=SharedSecret(headers=(("x-webhook-secret", ""),)),
    secret=SecretField(
        label="Webhook secret",
        help="Any random text of your own. The service sends it in the header X-Webhook-Secret.",
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
        "Let your service POST its events as JSON to this source's URL.",
        "Choose a random secret, let the service send it in the header X-Webhook-Secret, and add it here.",
        "Set event_type_path to where the type stands in the body, for example body.type.",
        "If each event carries an id, set idempotency_key_path so that repeats run no action twice.",
    ),
    script=_SCRIPT,
    version="0.0.1",
)
