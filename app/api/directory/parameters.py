"""Query parameters that several lists share."""

from typing import Annotated, Any, Literal, TypeVar

import orjson
from fastapi import Depends, Query
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, TypeAdapter, ValidationError

from app.api.directory.requests import RecipientReference, reference_of
from app.core import exact_json
from app.core.errors import FieldError, RequestError
from app.database.pages import PageRequest
from app.directory.recipients import Reference

Body = TypeVar("Body", bound=BaseModel)

# What Knock gives at most; asking for more gets this many.
MAXIMUM_PAGE_SIZE = 50

_REFERENCE: TypeAdapter[Any] = TypeAdapter(RecipientReference)


async def page_request(
    after: Annotated[str | None, Query(description="The cursor to fetch entries after.")] = None,
    before: Annotated[str | None, Query(description="The cursor to fetch entries before.")] = None,
    page_size: Annotated[
        int, Query(ge=1, description=f"Entries a page, at most {MAXIMUM_PAGE_SIZE}.")
    ] = MAXIMUM_PAGE_SIZE,
) -> PageRequest:
    return PageRequest(min(page_size, MAXIMUM_PAGE_SIZE), after or None, before or None)


PageDep = Annotated[PageRequest, Depends(page_request)]
Include = Annotated[list[Literal["preferences"]], Query(description="What to show beside the properties.")]


def references(texts: list[str], field: str) -> list[Reference]:
    """Recipients as a query writes them: an id, or JSON of a reference or of a list of them.

    Raises:
        RequestError: one of them is neither.
    """
    return [reference_of(each) for text in texts for each in _references(text, field)]


def reference(text: str, field: str) -> Reference:
    """One recipient, as `references` reads it.

    Raises:
        RequestError: it is none, or not one.
    """
    found = references([text], field)
    if len(found) != 1:
        raise _unreadable(field, f"names {len(found)} recipients: give one")
    return found[0]


def in_query(model: type[Body], name: str, text: str | None) -> Body:
    """A body of one field, which a request without a body has as JSON in its query.

    Raises:
        RequestError: the parameter is missing or not JSON.
        RequestValidationError: the field does not fit.
    """
    try:
        return model.model_validate({} if text is None else {name: exact_json.loads(text)})
    except orjson.JSONDecodeError:
        error = FieldError(name, "is not JSON")
        raise RequestError(422, "invalid_params", f"{name} {error.message}", errors=[error]) from None
    except ValidationError as error:
        found = [{**each, "loc": ("query", *each["loc"])} for each in error.errors()]
        raise RequestValidationError(found) from None


def _references(text: str, field: str) -> list[Any]:
    try:
        values = exact_json.loads(text) if text.startswith(("{", "[")) else text
        return [
            _REFERENCE.validate_python(each) for each in (values if isinstance(values, list) else [values])
        ]
    except (orjson.JSONDecodeError, ValidationError):
        raise _unreadable(field, "is not a user's id or an object's id and collection") from None


def _unreadable(field: str, message: str) -> RequestError:
    error = FieldError(field, message)
    return RequestError(422, "invalid_params", f"{field} {message}", errors=[error])
