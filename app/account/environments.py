"""Environments: which there are. Where their actions run is set in `app/outbound/edits.py`."""

from collections.abc import Callable, Sequence

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core.errors import FieldError, RequestError
from app.core.validation import invalid_fields
from app.database.pages import Page, PageRequest
from app.models.environment import Environment


async def list_environments(session: AsyncSession) -> Sequence[Environment]:
    """All environments in their order."""
    query = select(Environment).where(col(Environment.deleted_at).is_(None))
    return (await session.exec(query.order_by(col(Environment.order), col(Environment.slug)))).all()


async def page_of_environments(
    session: AsyncSession, page: PageRequest, shown_if: Callable[[str], bool]
) -> Page[Environment]:
    """A page of the environments in their order. There are few of them, and their slugs are the cursors."""
    environments = [each for each in await list_environments(session) if shown_if(each.slug)]
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
