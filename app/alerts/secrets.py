"""The secret that signs a source's failure alerts (`app/activities/deliver_alert.py`), as Standard Webhooks
has it."""

import base64

from sqlmodel.ext.asyncio.session import AsyncSession

from app.core.errors import FieldError, RequestError
from app.core.secrets import SecretBox
from app.core.validation import invalid_fields
from app.models.alert import AlertSecret
from app.models.source import SourceEnvironment
from app.models.types import now

MINIMUM_KEY_BYTES, MAXIMUM_KEY_BYTES = 24, 64
_NO_SECRET = (
    f"is not whsec_ and after it base64 of {MINIMUM_KEY_BYTES} to {MAXIMUM_KEY_BYTES} random bytes, "
    "as openssl rand -base64 32 prints it"
)


async def find_alert_secret(session: AsyncSession, configured: SourceEnvironment) -> AlertSecret | None:
    """The secret that signs a source's alerts in an environment, if there is one."""
    return await session.get(AlertSecret, configured.id)


async def get_alert_secret(session: AsyncSession, configured: SourceEnvironment) -> AlertSecret:
    """The secret that signs a source's alerts in an environment.

    Raises:
        RequestError: 404, there is none.
    """
    secret = await find_alert_secret(session, configured)
    if secret is None:
        where = f"Source {configured.source_key!r} in {configured.environment!r}"
        raise RequestError(404, "resource_missing", f"{where} has no secret for its alerts")
    return secret


async def set_alert_secret(
    session: AsyncSession, box: SecretBox, configured: SourceEnvironment, value: str
) -> AlertSecret:
    """Sign alerts with this secret from now on.

    Raises:
        RequestError: 422, it is none of Standard Webhooks.
    """
    if not _is_signing_secret(value):
        raise invalid_fields([FieldError("secret.value", _NO_SECRET)])
    secret = await find_alert_secret(session, configured) or AlertSecret(
        source_environment_id=configured.id, ciphertext=b""
    )
    secret.ciphertext, secret.created_at = box.encrypt(value.encode()), now()
    session.add(secret)
    await session.flush()
    return secret


def _is_signing_secret(value: str) -> bool:
    """Whether receivers' libraries verify with it, and nobody guesses it."""
    try:
        key = base64.b64decode(value.removeprefix("whsec_"), validate=True)
    except ValueError:
        return False
    return value.startswith("whsec_") and MINIMUM_KEY_BYTES <= len(key) <= MAXIMUM_KEY_BYTES
