"""What handlers of the Management API are given: a session, the caller's access, environment and page.

Every handler that changes something ends with `save`, which is its one commit.
"""

from collections.abc import Callable, Coroutine, Sequence
from contextvars import ContextVar
from typing import Annotated, Any

from fastapi import Depends, Header, Query, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import AfterValidator
from sqlmodel.ext.asyncio.session import AsyncSession

from app.account.environments import list_environments, unknown_environment
from app.account.tokens import Access, Scope, check_token
from app.api.dependencies import RuntimeDep, SessionDep
from app.api.management.environment_limits import check_environments
from app.core.errors import FieldError, RequestError
from app.core.validation import invalid_fields
from app.database.pages import PageRequest
from app.models.environment import Environment
from app.models.source import SourceEnvironment
from app.runtime.resources import Runtime
from app.sources.store import get_configured

BEARER = HTTPBearer(auto_error=False, scheme_name="Service token", description="`doorbell token create`")
DEFAULT_PAGE_SIZE = 25
MAXIMUM_PAGE_SIZE = 100


async def admit(request: Request) -> None:
    """Find out who calls, by the headers alone, before the body is read; no connection is held meanwhile.

    Raises:
        RequestError: 401, without a token or with one that opens nothing; 403, with one of other
            environments; 422, for a branch, which would be ignored.
    """
    runtime: Runtime = request.app.state.runtime
    async with AsyncSession(runtime.engine, expire_on_commit=False) as session:
        request.state.access = await _access(request, runtime, session, await BEARER(request))
    if branch := request.query_params.get("branch"):
        message = f"there is no branch {branch!r}: Doorbell has no branches, leave it out"
        raise invalid_fields([FieldError("branch", message)])


async def authenticate(
    request: Request,
    runtime: RuntimeDep,
    session: SessionDep,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)],
) -> Access:
    """Who calls, as `admit` found out."""
    found: Access | None = getattr(request.state, "access", None)
    return found or await _access(request, runtime, session, credentials)


async def _access(
    request: Request,
    runtime: Runtime,
    session: AsyncSession,
    credentials: HTTPAuthorizationCredentials | None,
) -> Access:
    if credentials is None or not credentials.credentials:
        message = "Send a service token: `Authorization: Bearer dbl_st_...`"
        code = "api_key_malformed" if "authorization" in request.headers else "api_key_missing"
        raise RequestError(401, code, message, headers={"www-authenticate": "Bearer"})
    access = await check_token(session, runtime.settings, credentials.credentials)
    await check_environments(request, session, access)
    return access


def _allowed(needed: Scope) -> Callable[..., Coroutine[Any, Any, Access]]:
    async def check(access: Annotated[Access, Depends(authenticate)]) -> Access:
        if not access.scope.includes(needed):
            message = f"This needs a service token with scope {needed}; {access.name!r} has {access.scope}"
            raise RequestError(403, "insufficient_scope", message)
        return access

    return check


ReadAccess = Annotated[Access, Depends(_allowed(Scope.READ))]
WriteAccess = Annotated[Access, Depends(_allowed(Scope.WRITE))]
AdminAccess = Annotated[Access, Depends(_allowed(Scope.ADMIN))]

EnvironmentQuery = Annotated[str, Query(description="The environment slug.", examples=["development"])]


# The environments of a request while its parameters are validated: an unknown one is found together with
# everything else that is wrong, as FastAPI collects it, instead of ending the request before the rest is
# looked at.
_ENVIRONMENTS: ContextVar[Sequence[Environment]] = ContextVar("environments")


async def _environments(session: SessionDep) -> Sequence[Environment]:
    """All environments, read before the parameters of what depends on this are validated."""
    environments = await list_environments(session)
    _ENVIRONMENTS.set(environments)
    return environments


def _known(slug: str) -> str:
    environments = _ENVIRONMENTS.get()
    if slug not in {each.slug for each in environments}:
        raise ValueError(unknown_environment(slug, environments))
    return slug


EnvironmentsDep = Annotated[Sequence[Environment], Depends(_environments)]
KnownQuery = Annotated[EnvironmentQuery, AfterValidator(_known)]
KnownOptionalQuery = Annotated[
    Annotated[str, AfterValidator(_known)] | None,
    Query(description="The environment slug.", examples=["development"]),
]


async def _required(environments: EnvironmentsDep, environment: KnownQuery) -> str:
    return environment


async def _optional(environments: EnvironmentsDep, environment: KnownOptionalQuery = None) -> str | None:
    return environment


async def _first_if_not_given(
    environments: EnvironmentsDep,
    access: Annotated[Access, Depends(authenticate)],
    environment: KnownOptionalQuery = None,
) -> str:
    permitted = [each.slug for each in environments if access.permits(each.slug)]
    if not permitted:
        raise access.refused("there is no such environment any more")
    return environment or permitted[0]


EnvironmentDep = Annotated[str, Depends(_required)]
EnvironmentFilterDep = Annotated[str | None, Depends(_optional)]
# Knock leaves the environment open for some lists; the first one is where people begin.
DefaultedEnvironmentDep = Annotated[str, Depends(_first_if_not_given)]


async def _configured(key: str, session: SessionDep, environment: EnvironmentDep) -> SourceEnvironment:
    return await get_configured(session, key, environment)


# The source of the path in the environment of the query.
ConfiguredDep = Annotated[SourceEnvironment, Depends(_configured)]
IfMatch = Annotated[
    str | None,
    Header(
        description="The `ETag` that you read: the change is refused with 412 if it is not that any more."
    ),
]
Annotate = Annotated[bool | None, Query(description="Accepted for tools made for Knock; without effect.")]


async def _page_request(
    after: Annotated[str | None, Query(description="The cursor to fetch entries after.")] = None,
    before: Annotated[str | None, Query(description="The cursor to fetch entries before.")] = None,
    limit: Annotated[
        int, Query(ge=1, le=MAXIMUM_PAGE_SIZE, description="The number of entries to fetch per page.")
    ] = DEFAULT_PAGE_SIZE,
) -> PageRequest:
    return PageRequest(limit, after or None, before or None)


PageDep = Annotated[PageRequest, Depends(_page_request)]


async def _optional_page(request: Request, page: PageDep) -> PageRequest | None:
    return page if request.query_params.keys() & {"after", "before", "limit"} else None


# For lists that Knock's contract does not page and its command line does.
OptionalPageDep = Annotated[PageRequest | None, Depends(_optional_page)]


def separated(values: list[str]) -> list[str]:
    """A list that may be written `include=a&include=b` (or `include[]=`) and `include=a,b`."""
    return [part for value in values for part in value.split(",") if part]
