"""What a service token that is limited to some environments may call: decided here for all routes.

An operation about one environment names it, in its path or query, and needs that environment. Every other one
is refused to such a token, unless it is listed here: a route that nobody thought of is refused.
"""

from typing import Any
from uuid import UUID

from fastapi import Request
from sqlmodel.ext.asyncio.session import AsyncSession

from app.account.tokens import Access
from app.models.event import Event
from app.models.replay import Replay

# They show what belongs to the account, and of environments only what the token may see.
OPEN = frozenset(
    {
        "GET /environments",
        "GET /source_providers",
        "GET /source_providers/{key}",
        "GET /sources",
        "GET /sources/{key}/events",
        "GET /sources/{key}/events/{event:path}/sample",
        "GET /sources/{key}/status",
        "GET /variables",
        "GET /variables/{key}",
        "GET /whoami",
        # Names two environments in its body, and checks both.
        "POST /sources/{key}/promote",
    }
)
# About a row with this id, whose environment counts.
OF_ROWS: dict[str, type[Event | Replay]] = {
    "GET /sources/{key}/logs/{id}": Event,
    "POST /sources/{key}/logs/{id}/replay": Event,
    "GET /sources/{key}/replays/{id}": Replay,
    "POST /sources/{key}/replays/{id}/cancel": Replay,
}
# About the account, though they name an environment.
OF_ACCOUNT = frozenset(
    {
        "DELETE /environments/{environment_slug}",
        "GET /audit_log",
        "PUT /environments/{environment_slug}",
    }
)


async def check_environments(request: Request, session: AsyncSession, access: Access) -> None:
    """Refuse what a limited token may not call.

    Raises:
        RequestError: 403, it concerns another environment, or the whole account.
    """
    if access.environments is None:
        return
    route = request.scope["route"]
    operation = f"{request.method} {route.path}"
    named = [request.path_params[name] for name in ("environment_slug",) if name in request.path_params]
    if _reads_environment(route.dependant):
        named += request.query_params.getlist("environment")
    access.require(*named)
    if operation in OF_ROWS:
        await _check_row(session, access, OF_ROWS[operation], request.path_params["id"])
    elif operation in OF_ACCOUNT or not (named or operation in OPEN):
        raise access.refused("this concerns all environments, or does not name one with `environment`")


async def check_entry(session: AsyncSession, access: Access, identifier: str | UUID | None) -> None:
    """Refuse an entry of the log that is of another environment. One that is not there is left to the
    handler.

    Raises:
        RequestError: 403, it is.
    """
    if identifier is not None:
        await _check_row(session, access, Event, identifier)


async def _check_row(
    session: AsyncSession, access: Access, model: type[Event | Replay], identifier: str | UUID
) -> None:
    try:
        row: Event | Replay | None = await session.get(model, UUID(str(identifier)))
    except ValueError:
        return
    if row is not None:
        access.require(row.environment)


def _reads_environment(dependant: Any) -> bool:
    """Whether an operation has the parameter `environment`: elsewhere its value would say nothing."""
    return any(each.alias == "environment" for each in dependant.query_params) or any(
        map(_reads_environment, dependant.dependencies)
    )
