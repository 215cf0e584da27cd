"""Bulk operations: how far they are."""

from typing import Annotated

from fastapi import APIRouter, Path, Request

from app.api.directory import answers, schemas
from app.api.directory.access import CallerDep, KeyRoute
from app.api.directory.answers import Answer
from app.directory.bulk_operations import get_operation

router = APIRouter(prefix="/v1/bulk_operations", tags=["Bulk operations"], route_class=KeyRoute)


@router.get(
    "/{id}",
    summary="Get a bulk operation",
    responses=schemas.answers(schemas.BulkOperationResponse, "The operation.", missing=True),
)
async def get_bulk_operation(
    id: Annotated[str, Path(description="The operation's id.")], caller: CallerDep, request: Request
) -> Answer:
    """The operation as it stands."""
    operation_id = answers.identifier(id, "bulk operation")
    async with caller.statement() as connection:
        operation = await get_operation(connection, caller.environment, operation_id)
    if operation is None:
        raise answers.missing("bulk operation")
    return Answer(answers.bulk_operation(operation, str(request.base_url)))
