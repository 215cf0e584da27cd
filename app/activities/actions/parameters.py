"""From a mapping's configured parameters and a decoded event to the payload of an action's call.

Values are coerced only where Knock's API does; anything else that does not fit is an error that names the
parameter, the path, what was found and what was expected.
"""

from collections.abc import Callable
from typing import Any

from app.activities.actions.base import ActionType, Kind, Parameter, Payload
from app.database import to_json
from app.errors import DoorbellError, FieldError
from app.mapping import MISSING, DecodedEvent, PathError, evaluate, is_constant, parse_path, paths_in

_RECIPIENT = "a recipient: an id, or an object with an id"


class MissingParameter(DoorbellError):
    """A required parameter has no value in this event: the action is skipped."""


class InvalidParameter(DoorbellError):
    """A parameter's value is not of the kind that the action needs: the action fails."""


def evaluate_parameters(action: ActionType, configured: dict[str, Any], event: DecodedEvent) -> Payload:
    """The payload of an action: its parameters by name, evaluated and coerced.

    Raises:
        MissingParameter: a required parameter has no value.
        InvalidParameter: a value does not fit, or a path is not written as one.
    """
    payload: Payload = {}
    for parameter in action.parameters:
        template = _template(parameter, configured)
        value = _evaluate(parameter, template, event)
        if value is MISSING or value is None or value == "" or value == []:
            if parameter.required:
                raise MissingParameter(_missing_message(parameter, template))
            continue
        payload[parameter.name] = _coerce(parameter, template, value)
    return payload


def check_parameters(action: ActionType, configured: dict[str, Any], field: str) -> list[FieldError]:
    """Everything that is wrong with a mapping's parameters before any event arrives."""
    errors = []
    for name, template in configured.items():
        parameter = action.parameter(name)
        if parameter is None:
            known = ", ".join(each.name for each in action.parameters)
            errors.append(
                FieldError(f"{field}.{name}", f"is not a parameter of {action.name}; it has {known}")
            )
        elif not parameter.is_literal(template):
            errors += [FieldError(f"{field}.{name}", message) for message in _path_errors(template)]
    for parameter in action.parameters:
        if parameter.required and _template(parameter, configured) in (None, ""):
            errors.append(FieldError(f"{field}.{parameter.name}", f"is required by {action.name}"))
    return errors


def _path_errors(template: Any) -> list[str]:
    errors = []
    for path in paths_in(template):
        try:
            parse_path(path)
        except PathError as error:
            errors.append(str(error))
    return errors


def _template(parameter: Parameter, configured: dict[str, Any]) -> Any:
    for name in (parameter.name, *parameter.aliases):
        if name in configured:
            return configured[name]
    return None


def _evaluate(parameter: Parameter, template: Any, event: DecodedEvent) -> Any:
    if template == "" or parameter.is_literal(template):
        return template
    try:
        return evaluate(template, event)
    except PathError as error:
        raise InvalidParameter(f"{parameter.name}: {error}") from error


def _missing_message(parameter: Parameter, template: Any) -> str:
    if template in (None, ""):
        return f"{parameter.name} is required and the mapping does not set it"
    return f"{parameter.name} is required and {_shown_template(template)} has no value in this event"


def _coerce(parameter: Parameter, template: Any, value: Any) -> Any:
    shown = _shown_template(template)
    try:
        coerced = _COERCIONS[parameter.kind](value)
    except _Mismatch as mismatch:
        which = f"item {mismatch.position} of {shown}" if mismatch.position else shown
        raise InvalidParameter(
            f"{parameter.name}: {which} is {_shown(mismatch.found)}, expected {mismatch.expected}"
        ) from None
    if parameter.limit is not None and len(coerced) > parameter.limit:
        raise InvalidParameter(
            f"{parameter.name}: {shown} has {len(coerced)} values, at most {parameter.limit} are allowed"
        )
    if (
        parameter.maximum_bytes is not None
        and (size := len(to_json(coerced).encode())) > parameter.maximum_bytes
    ):
        raise InvalidParameter(
            f"{parameter.name}: {shown} has {size} bytes as JSON, at most {parameter.maximum_bytes} are allowed"
        )
    return coerced


class _Mismatch(Exception):
    """Carries what was found, what was expected and, within a list, the position counted from 1."""

    def __init__(self, found: Any, expected: str, position: int = 0) -> None:
        super().__init__(expected)
        self.found = found
        self.expected = expected
        self.position = position


def _id(value: Any) -> str:
    if isinstance(value, str) and value:
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise _Mismatch(value, "an id: a non-empty string or a whole number")


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise _Mismatch(value, "a string")


def _object(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise _Mismatch(value, "an object")


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise _Mismatch(value, "true or false")


def _recipient(value: Any) -> Any:
    """A user's id, or an object with an id (a user to identify, or an object when it has a collection)."""
    try:
        if not isinstance(value, dict):
            return _id(value)
        recipient = {**value, "id": _id(value.get("id"))}
        return {**recipient, "collection": _id(value["collection"])} if "collection" in value else recipient
    except _Mismatch as mismatch:
        raise _Mismatch(mismatch.found, _RECIPIENT) from None


def _reference(value: Any) -> Any:
    """A user's id, or `{id, collection}`; whatever else an object has is left out."""
    recipient = _recipient(value)
    if isinstance(recipient, str):
        return recipient
    if "collection" in recipient:
        return {"id": recipient["id"], "collection": _text(recipient["collection"])}
    return recipient["id"]


def _member(value: Any) -> dict[str, Any]:
    """An audience's member: a user's id or a user, or one of these under `user` with a `tenant` beside it."""
    if not isinstance(value, dict) or "user" not in value:
        return {"user": _user(value)}
    tenant = value.get("tenant")
    return {"user": _user(value["user"]), **({} if tenant in (None, "") else {"tenant": _id(tenant)})}


def _user(value: Any) -> dict[str, Any]:
    recipient = _recipient(value)
    return recipient if isinstance(recipient, dict) else {"id": recipient}


def _many(one: Callable[[Any], Any]) -> Callable[[Any], list[Any]]:
    """One value or a list of them, as a list without repeats."""

    def coerce(value: Any) -> list[Any]:
        found: dict[str, Any] = {}
        for position, item in enumerate(value if isinstance(value, list) else [value], start=1):
            try:
                coerced = one(item)
            except _Mismatch as mismatch:
                position = position if isinstance(value, list) else 0
                raise _Mismatch(mismatch.found, mismatch.expected, position) from None
            found.setdefault(to_json(coerced), coerced)
        return list(found.values())

    return coerce


_COERCIONS: dict[Kind, Callable[[Any], Any]] = {
    Kind.KEY: _id,
    Kind.ID: _id,
    Kind.TEXT: _text,
    Kind.OBJECT: _object,
    Kind.BOOLEAN: _boolean,
    Kind.RECIPIENT: _recipient,
    Kind.RECIPIENTS: _many(_recipient),
    Kind.REFERENCES: _many(_reference),
    Kind.MEMBERS: _many(_member),
    Kind.TENANT: _recipient,
}


def _shown_template(template: Any) -> str:
    if isinstance(template, str):
        return template
    return "the constant" if is_constant(template) else "the template"


def _shown(value: Any) -> str:
    """The value's type, and the value itself when it is short and plain."""
    names = {
        bool: "a boolean",
        int: "a number",
        float: "a number",
        str: "a string",
        list: "an array",
        dict: "an object",
    }
    name = names.get(type(value), type(value).__name__)
    if isinstance(value, list | dict):
        return f"{name} with {len(value)} entries" if value else f"an empty {name.split()[1]}"
    text = repr(value)
    return f"{name} ({text if len(text) <= 60 else text[:60] + '...'})"
