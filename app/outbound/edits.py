"""Where an environment's actions run: changed, and tried before it is saved."""

from sqlmodel.ext.asyncio.session import AsyncSession

from app.core.errors import FieldError, Permanent, Refused, Retryable
from app.core.secrets import SecretBox
from app.core.validation import invalid_fields
from app.models.environment import Environment
from app.models.types import now


async def set_destination(
    session: AsyncSession,
    box: SecretBox,
    environment: Environment,
    url: str | None,
    api_key: str | None,
    *,
    verify: bool,
) -> None:
    """Let an environment's actions run against `url`, or None for the embedded directory.

    Without `api_key` the present one stays, for the present URL only: a key is never sent to another host.
    `verify` makes a call there first that changes nothing.

    Raises:
        RequestError: 422, a key is needed, or the call failed.
    """
    if url is None:
        environment.destination_url = environment.destination_key = None
    elif api_key is not None:
        if verify:
            await _check(url, api_key)
        environment.destination_url, environment.destination_key = url, box.encrypt(api_key.encode())
    elif url != environment.destination_url or environment.destination_key is None:
        raise invalid_fields([FieldError("destination.api_key", "is required with a new URL")])
    elif verify:
        await _check(url, box.decrypt(environment.destination_key).decode())
    environment.updated_at = now()
    await session.flush()


async def _check(url: str, api_key: str) -> None:
    from app.outbound.knock import check_destination

    anyway = "To save it all the same, leave the check out (`verify: false`)"
    try:
        await check_destination(url, api_key)
    except Retryable as error:
        raise invalid_fields(
            [FieldError("destination.url", f"cannot be tried now: {error}. {anyway}")]
        ) from error
    except Permanent as error:
        key_is_wrong = isinstance(error, Refused) and error.status in (401, 403)
        field = "destination.api_key" if key_is_wrong else "destination.url"
        raise invalid_fields([FieldError(field, f"is refused: {error}. {anyway}")]) from error
