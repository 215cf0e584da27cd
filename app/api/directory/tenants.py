"""Tenants."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from app.api.directory import answers, schemas
from app.api.directory.access import CallerDep, KeyRoute
from app.api.directory.answers import Answer
from app.api.directory.parameters import PageDep
from app.api.directory.requests import MAXIMUM_BULK_ITEMS, BulkSetTenantsRequest, Id, SetTenantRequest
from app.directory.bulk_operations import Name, ask_to_delete, ask_to_set
from app.directory.lists import list_recipients
from app.directory.recipients import Reference, delete_recipients, get_recipient, set_recipient
from app.models.directory import TENANTS

router = APIRouter(prefix="/v1/tenants", tags=["Tenants"], route_class=KeyRoute)

TenantId = Annotated[Id, Path(description="The tenant's id.")]
Resolve = Annotated[
    bool,
    Query(description="Show the preference set merged over the environment's defaults, which are empty."),
]


@router.get(
    "",
    summary="List tenants",
    responses=schemas.answers(schemas.DirectoryPage[schemas.Tenant], "A page of tenants."),
)
async def list_tenants(
    caller: CallerDep, page: PageDep, tenant_id: str | None = None, name: str | None = None
) -> Answer:
    """The environment's tenants by id, all or those with this id or name."""
    async with caller.statement() as connection:
        found = await list_recipients(connection, caller.environment, TENANTS, page, id=tenant_id, name=name)
    return answers.page(found, answers.tenant)


@router.put("/{id}", summary="Set a tenant", responses=schemas.answers(schemas.Tenant, "The tenant."))
async def set_tenant(
    id: TenantId,
    body: SetTenantRequest,
    caller: CallerDep,
    resolve_full_preference_settings: Resolve = False,
) -> Answer:
    """Create the tenant, or merge these properties into what it has."""
    async with caller.statement() as connection:
        tenant = await set_recipient(connection, caller.environment, body.profile(Reference.to_tenant(id)))
    return Answer(answers.tenant(tenant, resolved=resolve_full_preference_settings))


@router.get(
    "/{id}", summary="Get a tenant", responses=schemas.answers(schemas.Tenant, "The tenant.", missing=True)
)
async def get_tenant(
    id: TenantId, caller: CallerDep, resolve_full_preference_settings: Resolve = False
) -> Answer:
    """The tenant with its settings and properties."""
    async with caller.statement() as connection:
        tenant = await get_recipient(connection, caller.environment, Reference.to_tenant(id))
    if tenant is None:
        raise answers.missing("tenant")
    return Answer(answers.tenant(tenant, resolved=resolve_full_preference_settings))


@router.delete("/{id}", summary="Delete a tenant", status_code=204)
async def delete_tenant(id: TenantId, caller: CallerDep) -> Response:
    """Delete the tenant, if there is one."""
    async with caller.statement() as connection:
        await delete_recipients(connection, caller.environment, TENANTS, [id])
    return Response(status_code=204)


@router.post(
    "/bulk/set",
    summary="Set tenants in bulk",
    responses=schemas.answers(
        schemas.BulkOperationResponse, "The operation, which goes on in the background."
    ),
)
async def set_tenants(body: BulkSetTenantsRequest, caller: CallerDep, request: Request) -> Answer:
    """Create or update up to 1,000 tenants."""
    async with caller.transaction() as connection:
        operation = await ask_to_set(
            connection, caller.environment, Name.SET_TENANTS, TENANTS, body.profiles()
        )
    return Answer(answers.bulk_operation(operation, str(request.base_url)))


@router.post(
    "/bulk/delete",
    summary="Delete tenants in bulk",
    responses=schemas.answers(
        schemas.BulkOperationResponse, "The operation, which goes on in the background."
    ),
)
async def delete_tenants(
    tenant_ids: Annotated[
        list[Id], Query(max_length=MAXIMUM_BULK_ITEMS, description="The tenants to delete.")
    ],
    caller: CallerDep,
    request: Request,
) -> Answer:
    """Delete up to 1,000 tenants."""
    async with caller.transaction() as connection:
        operation = await ask_to_delete(
            connection, caller.environment, Name.DELETE_TENANTS, TENANTS, tenant_ids
        )
    return Answer(answers.bulk_operation(operation, str(request.base_url)))
