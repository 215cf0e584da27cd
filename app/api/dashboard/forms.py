"""The forms that pages send: `application/x-www-form-urlencoded`, bounded, as text by name."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from fastapi import Request
from pydantic import BaseModel, ValidationError

from app.core.errors import FieldError, RequestError
from app.core.validation import field_errors, invalid_fields

# Room for a script or a sample event and what stands around it, with every character escaped.
MAXIMUM_FORM_BYTES = 4 * 1024 * 1024
MAXIMUM_FIELDS = 2000
Body = TypeVar("Body", bound=BaseModel)


class Form:
    """What a form sent. A box that is not ticked is not sent; `is_on` reads that as no."""

    def __init__(self, fields: Sequence[tuple[str, str]]) -> None:
        self._fields = fields

    def text(self, name: str) -> str:
        """A field without spaces around it, "" when it was not sent; of several the last."""
        return self.raw(name).strip()

    def raw(self, name: str) -> str:
        """A field as typed, with `\\n` at the ends of lines."""
        return next((value for each, value in reversed(self._fields) if each == name), "").replace(
            "\r\n", "\n"
        )

    def optional(self, name: str) -> str | None:
        """A field, None when it is empty."""
        return self.text(name) or None

    def number(self, name: str) -> int | str | None:
        """A field as a number, None when it is empty; as typed when it is no number, for the domain to
        refuse."""
        text = self.text(name)
        return int(text) if text.isascii() and text.removeprefix("-").isdigit() else text or None

    def all(self, name: str) -> list[str]:
        """All values of a field, in order."""
        return [value for each, value in self._fields if each == name]

    def is_on(self, name: str) -> bool:
        """Whether a box was ticked."""
        return self.text(name) not in ("", "false")

    def __contains__(self, name: str) -> bool:
        return any(each == name for each, _ in self._fields)


async def read_form(request: Request) -> Form:
    """The form of a request; it may be read again.

    Raises:
        RequestError: 413, it is too large; 422, it is not text that can be stored.
    """
    if not hasattr(request.state, "form"):
        request.state.form = Form(_parsed(await _body(request)))
    form: Form = request.state.form
    return form


async def _body(request: Request) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAXIMUM_FORM_BYTES:
            raise RequestError(413, "request_too_large", f"A form has at most {MAXIMUM_FORM_BYTES} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


def _parsed(body: bytes) -> list[tuple[str, str]]:
    try:
        fields = parse_qsl(
            body.decode(), keep_blank_values=True, errors="strict", max_num_fields=MAXIMUM_FIELDS
        )
    except ValueError:
        raise RequestError(422, "invalid_params", "The form cannot be read") from None
    for name, value in fields:
        if "\x00" in value:
            raise invalid_fields([FieldError(name, "contains the character U+0000")])
    return fields


def parse_body(model: type[Body], fields: Mapping[str, Any]) -> Body:
    """The body that the Management API would be sent for a form.

    Raises:
        RequestError: 422, naming the fields that are wrong.
    """
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise invalid_fields(field_errors(error.errors())) from None


def field_messages(error: RequestError, within: str = "", names: Mapping[str, str] = {}) -> dict[str, str]:
    """What is wrong, by field of the form: the domain's paths without `within`, renamed by `names`.

    What belongs to no field of its own stands under "".
    """
    messages: dict[str, str] = {}
    for each in error.errors:
        field = each.field.removeprefix(within).lstrip(".")
        messages.setdefault(names.get(field, field), each.message)
    return messages or {"": error.message}
