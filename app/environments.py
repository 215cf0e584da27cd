"""Environments: which there are, and where their actions run."""

from collections.abc import Sequence

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.destinations import Refused, check_destination
from app.directory.pages import Page, PageRequest
from app.errors import FieldError, Permanent, RequestError, Retryable
from app.models.environment import Environment
from app.models.types import now
from app.secrets import SecretBox
from app.validation import invalid_fields


async def list_environments(session: AsyncSession) -> Sequence[Environment]:
    """All environments in their order."""
    query = select(Environment).where(col(Environment.deleted_at).is_(None))
    return (await session.exec(query.order_by(col(Environment.order), col(Environment.slug)))).all()


async def page_of_environments(session: AsyncSession, page: PageRequest) -> Page[Environment]:
    """A page of the environments in their order. There are few of them, and their slugs are the cursors."""
    environments = await list_environments(session)
    backwards = page.before is not None and page.after is None
    start, end = 0, len(environments)
    if cursor := page.before if backwards else page.after:
        position = next((place for place, each in enumerate(environments) if each.slug == cursor), None)
        if position is None:
            field = "before" if backwards else "after"
            raise invalid_fields([FieldError(field, "is not a cursor of this list")])
        start, end = (max(0, position - page.size), position) if backwards else (position + 1, end)
    shown = list(environments[start : min(end, start + page.size)])
    return Page(
        items=shown,
        size=page.size,
        after=shown[-1].slug if shown and start + len(shown) < len(environments) else None,
        before=shown[0].slug if shown and start > 0 else None,
    )


async def get_environment(session: AsyncSession, slug: str) -> Environment:
    """The environment.

    Raises:
        RequestError: 404, there is none; the message names those that there are.
    """
    environment = await session.get(Environment, slug)
    if environment is None or environment.deleted_at is not None:
        raise RequestError(
            404, "resource_missing", unknown_environment(slug, await list_environments(session))
        )
    return environment


def unknown_environment(slug: str, environments: Sequence[Environment]) -> str:
    """What to say about a slug that is none of these environments."""
    known = ", ".join(each.slug for each in environments) or "none"
    return f"There is no environment {slug!r}; there are {known}"


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

    Without `api_key` the present one stays, for the present URL only: a key is never sent to another host. `verify`
    makes a call there first that changes nothing.

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
    anyway = "Send `verify: false` to save it all the same"
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
