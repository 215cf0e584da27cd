"""Variables: listed and read in Knock's shapes; written and deleted in the same style, which is Doorbell's
own."""

import re
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from app.account.audit import note_change, variable_snapshot
from app.account.tokens import Access
from app.account.variables import (
    KEY_PATTERN,
    MAXIMUM_VALUE_LENGTH,
    FoundVariable,
    VariableChange,
    VariableType,
    delete_variable,
    find_variable,
    get_variable,
    list_variables,
    save_variable,
)
from app.api.dependencies import RuntimeDep, SessionDep
from app.api.errors import RESPONSES
from app.api.management.dependencies import EnvironmentFilterDep, PageDep, ReadAccess, WriteAccess
from app.api.management.request import ManagementRoute
from app.api.management.schemas import EntriesPage, Timestamp, WrappedRequest, example, page_of
from app.core.errors import FieldError
from app.core.secrets import REDACTED
from app.core.validation import invalid_fields
from app.runtime.resources import save

router = APIRouter(prefix="/variables", tags=["Variables"], route_class=ManagementRoute)

Value = Annotated[str, StringConstraints(max_length=MAXIMUM_VALUE_LENGTH)]

_VARIABLE = {
    "key": "CUSTOM_HTTP_SIGNING_SECRET",
    "type": "secret",
    "description": "Sent by our CRM in X-Webhook-Secret.",
    "value": REDACTED,
    "environment_values": {"production": REDACTED},
    "inserted_at": "2026-01-01T00:00:00Z",
    "updated_at": "2026-01-01T00:00:00Z",
}


class VariableResponse(BaseModel):
    """A variable. Values of a secret one are never shown."""

    model_config = example(**_VARIABLE)

    key: str
    type: Literal["public", "secret"]
    description: str | None
    value: str | None = Field(description="The default value, or that of the environment asked for.")
    environment_values: dict[str, str] | None = Field(
        None, description="Values in place of the default, by environment slug."
    )
    inserted_at: Timestamp
    updated_at: Timestamp


class WrappedVariableResponse(BaseModel):
    """A variable under the key `variable`."""

    model_config = example(variable=_VARIABLE)

    variable: VariableResponse


class VariableRequest(BaseModel):
    """A variable as it shall be. Fields that are not given stay as they are."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: VariableType = Field("public", description="A secret one is never shown again.")
    description: Annotated[str, StringConstraints(max_length=4096)] | None = Field(
        None, description="What it is for."
    )
    value: Value | None = Field(None, description="The default value.")
    environment_values: dict[str, Value | None] = Field(
        {}, description="The whole set of values in place of the default, by environment slug."
    )


class WrappedVariableRequest(WrappedRequest):
    """A variable under the key `variable`."""

    model_config = example(
        variable={
            "type": "secret",
            "value": "open-sesame",
            "environment_values": {"production": "open-barley"},
        }
    )

    variable: VariableRequest


async def check_key(key: str) -> str:
    """The key.

    Raises:
        RequestError: 422, it cannot be one.
    """
    if not re.fullmatch(KEY_PATTERN, key):
        message = f"{key!r} is not a key: a letter or _, then letters, digits, _, . and - (at most 255)"
        raise invalid_fields([FieldError("key", message)])
    return key


KeyPath = Annotated[str, Depends(check_key)]


def variable_response(
    found: FoundVariable, access: Access, environment: str | None = None
) -> VariableResponse:
    """The variable as seen from an environment, or for None with all overrides that the caller may see."""
    variable = found.variable
    hidden = variable.type == "secret"
    value = found.environment_values.get(environment, found.value) if environment else found.value
    response = VariableResponse(
        key=variable.key,
        type="secret" if hidden else "public",
        description=variable.description,
        value=REDACTED if hidden and value is not None else value,
        inserted_at=variable.created_at,
        updated_at=variable.updated_at,
    )
    if environment is None:
        response.environment_values = {
            slug: REDACTED if hidden else each
            for slug, each in found.environment_values.items()
            if access.permits(slug)
        }
    return response


@router.get(
    "",
    summary="List variables",
    response_model=EntriesPage[VariableResponse],
    response_model_exclude_unset=True,
)
async def list_all_variables(
    access: ReadAccess,
    session: SessionDep,
    runtime: RuntimeDep,
    page: PageDep,
    environment: EnvironmentFilterDep = None,
    type: Annotated[VariableType | None, Query(description="Only variables of this type.")] = None,
) -> EntriesPage[VariableResponse]:
    """The variables by key, with their values in `environment`; without it, with the default value and all
    overrides."""
    found = await list_variables(session, runtime.box, page, type=type)
    return page_of(found, VariableResponse, lambda each: variable_response(each, access, environment))


@router.get("/{key}", summary="Get a variable", responses={404: RESPONSES[404]})
async def read_variable(
    key: KeyPath, access: ReadAccess, session: SessionDep, runtime: RuntimeDep
) -> VariableResponse:
    """The variable with its default value and all overrides."""
    return variable_response(await get_variable(session, runtime.box, key), access)


@router.put("/{key}", summary="Create or change a variable")
async def write_variable(
    key: KeyPath,
    access: WriteAccess,
    session: SessionDep,
    runtime: RuntimeDep,
    body: WrappedVariableRequest,
) -> WrappedVariableResponse:
    """Scripts read it as `vars[key]` from now on, in every environment."""
    wanted = body.variable
    change = VariableChange(
        given=frozenset(wanted.model_fields_set),
        type=wanted.type,
        description=wanted.description,
        value=wanted.value,
        environment_values=wanted.environment_values,
    )
    earlier = await find_variable(session, runtime.box, key)
    before = None if earlier is None else variable_snapshot(earlier)
    found = await save_variable(session, runtime.box, key, change)
    action = "variable.updated" if earlier else "variable.created"
    after = variable_snapshot(found, earlier)
    note_change(session, access, action, ("variable", key), before=before, after=after)
    await save(session, runtime)
    return WrappedVariableResponse(variable=variable_response(found, access))


@router.delete("/{key}", summary="Delete a variable", status_code=204, responses={404: RESPONSES[404]})
async def remove_variable(
    key: KeyPath, access: WriteAccess, session: SessionDep, runtime: RuntimeDep
) -> None:
    """Scripts find no such variable from now on."""
    before = variable_snapshot(await get_variable(session, runtime.box, key))
    await delete_variable(session, key)
    note_change(session, access, "variable.deleted", ("variable", key), before=before)
    await save(session, runtime)
