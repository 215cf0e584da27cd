"""From a mapping's configured parameters and a decoded event to the payload of an action's call.

Values are coerced only where Knock's API does; anything else that does not fit is an error that names the
parameter, the path, what was found and what was expected.
"""

from collections.abc import Callable, Iterator
from typing import Any

from app.actions.base import ActionType, Kind, Parameter, Payload
from app.actions.paths import (
    MISSING,
    DecodedEvent,
    PathError,
    TemplateError,
    evaluate,
    is_constant,
    paths_in,
)
from app.actions.spelling import advice_on, check_path, looks_like_a_path
from app.core.errors import DoorbellError, FieldError
from app.core.identifiers import identifier_of, may_be_rounded
from app.database.engine import to_json
from app.models.status import ActionStatus

MAXIMUM_SHOWN = 60
_ID = "an id: a non-empty string or a whole number"
_ROUNDED = f"{_ID}; with a fraction or an exponent a number this large is rounded, send its digits alone"
_RECIPIENT = "a recipient: an id, or an object with an id"
_TENANT = "a tenant: an id, or an object with an id"
_NO_EVENT = DecodedEvent(body={})


class MissingParameter(DoorbellError):
    """A required parameter has no value in this event: the action is skipped."""


class InvalidParameter(DoorbellError):
    """A parameter's value is not of the kind that the action needs: the action fails."""


def outcome_of(
    action: ActionType, configured: dict[str, Any], event: DecodedEvent
) -> tuple[ActionStatus, Payload | None, str | None]:
    """What comes of a mapping before its action runs: pending with a payload, or skipped or failed with the
    reason."""
    try:
        return ActionStatus.PENDING, evaluate_parameters(action, configured, event), None
    except MissingParameter as error:
        return ActionStatus.SKIPPED, None, str(error)
    except InvalidParameter as error:
        return ActionStatus.FAILED, None, str(error)


def evaluate_parameters(action: ActionType, configured: dict[str, Any], event: DecodedEvent) -> Payload:
    """The payload of an action: its parameters by name, evaluated and coerced.

    Raises:
        MissingParameter: a required parameter has no value.
        InvalidParameter: a value does not fit, or a path is not written as one.
    """
    payload: Payload = {}
    for parameter in action.parameters:
        value = evaluate_parameter(parameter, configured, event)
        if value is not MISSING:
            payload[parameter.name] = value
    return payload


def evaluate_parameter(parameter: Parameter, configured: dict[str, Any], event: DecodedEvent) -> Any:
    """The value of one parameter, evaluated and coerced; MISSING when it has none and needs none.

    Raises as `evaluate_parameters` does.
    """
    template = template_of(parameter, configured)
    value = _evaluate(parameter, template, event)
    if value is MISSING or _is_empty(value):
        if parameter.required:
            raise MissingParameter(_missing_message(parameter, template, value))
        return MISSING
    return _coerce(parameter, template, value)


def paths_of(action: ActionType, configured: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The paths of a saved mapping's parameters, each with the parameter's name."""
    for name, template in configured.items():
        parameter = action.parameter(name)
        if parameter is not None and template != "" and not parameter.is_literal(template):
            yield from ((name, path) for path in paths_in(template))


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
        else:
            errors += [
                FieldError(f"{field}.{name}", message) for message in _template_errors(parameter, template)
            ]
    for parameter in action.parameters:
        if parameter.required and template_of(parameter, configured) in (None, ""):
            errors.append(FieldError(f"{field}.{parameter.name}", f"is required by {action.name}"))
    return errors


def _template_errors(parameter: Parameter, template: Any) -> list[str]:
    if parameter.is_literal(template) and looks_like_a_path(template):
        return [advice_on(template)]
    try:
        paths = [] if parameter.is_literal(template) or template == "" else list(paths_in(template))
    except TemplateError as error:
        return [str(error)]
    return _path_errors(paths) if paths else _constant_errors(parameter, template)


def _path_errors(paths: list[str]) -> list[str]:
    errors = []
    for path in paths:
        try:
            check_path(path)
        except PathError as error:
            errors.append(str(error))
    return errors


def _constant_errors(parameter: Parameter, template: Any) -> list[str]:
    """What is wrong with a template that reads nothing of an event, and so would be wrong each time."""
    if template in (None, ""):
        return []
    try:
        evaluate_parameter(parameter, {parameter.name: template}, _NO_EVENT)
    except (InvalidParameter, MissingParameter) as error:
        return [str(error).removeprefix(parameter.name).lstrip(": ")]
    return []


def template_of(parameter: Parameter, configured: dict[str, Any]) -> Any:
    """What a mapping sets a parameter to, under whichever of its names; None when it does not."""
    for name in (parameter.name, *parameter.aliases):
        if name in configured:
            return configured[name]
    return None


def _evaluate(parameter: Parameter, template: Any, event: DecodedEvent) -> Any:
    if template == "" or parameter.is_literal(template):
        return template
    try:
        value = evaluate(template, event)
    except TemplateError as error:
        raise InvalidParameter(_storable(f"{parameter.name}: {error}")) from error
    return _flat(value) if parameter.kind in LIST_KINDS and isinstance(value, list) else value


def _flat(values: list[Any]) -> list[Any]:
    """Values of a projection within a projection in one list, without those that are no values.

    Not recursive: a sender decides how deep an event is nested.
    """
    found, remaining = [], values[::-1]
    while remaining:
        value = remaining.pop()
        if isinstance(value, list):
            remaining.extend(reversed(value))
        elif not _is_empty(value):
            found.append(value)
    return found


def _is_empty(value: Any) -> bool:
    """Whether Knock would make nothing of the value: null and empty text are not set, an empty list names
    nobody."""
    return value is None or value == "" or value == []


def _missing_message(parameter: Parameter, template: Any, value: Any) -> str:
    if template in (None, ""):
        return f"{parameter.name} is required and the mapping does not set it"
    found = "has no value" if value is MISSING else f"is {_shown(value)}"
    return _storable(f"{parameter.name} is required and {_shown_template(template)} {found} in this event")


def _coerce(parameter: Parameter, template: Any, value: Any) -> Any:
    shown = _shown_template(template)
    try:
        coerced = _COERCIONS[parameter.kind](value)
        size = len(_json(coerced))
    except _Mismatch as mismatch:
        which = f"item {mismatch.position} of {shown}" if mismatch.position else shown
        found, expected = _shown(mismatch.found), mismatch.expected
        raise InvalidParameter(
            _storable(f"{parameter.name}: {which} is {found}, expected {expected}")
        ) from None
    if parameter.limit is not None and len(coerced) > parameter.limit:
        raise InvalidParameter(
            _storable(
                f"{parameter.name}: {shown} has {len(coerced)} values, at most {parameter.limit} are allowed"
            )
        )
    if parameter.maximum_bytes is not None and size > parameter.maximum_bytes:
        raise InvalidParameter(
            _storable(
                f"{parameter.name}: {shown} has {size} bytes as JSON, "
                f"at most {parameter.maximum_bytes} are allowed"
            )
        )
    return coerced


def _json(value: Any) -> bytes:
    """The value as it will be stored and sent, within the parameter's name.

    Raises:
        _Mismatch: it cannot be written; decoding an event takes deeper nesting than encoding does.
    """
    try:
        return to_json([value]).encode()[1:-1]
    except TypeError:
        raise _Mismatch(value, "a value that can be written as JSON: nested at most 250 deep") from None


def _storable(text: str) -> str:
    """Text that Postgres takes: a key of the event may hold what its text type does not."""
    return text.replace("\x00", "\\u0000")


class _Mismatch(Exception):
    """Carries what was found, what was expected and, within a list, the position counted from 1."""

    def __init__(self, found: Any, expected: str, position: int = 0) -> None:
        super().__init__(expected)
        self.found = found
        self.expected = expected
        self.position = position


def _id(value: Any) -> str:
    identifier = identifier_of(value)
    if identifier is None:
        raise _Mismatch(value, _ROUNDED if may_be_rounded(value) else _ID)
    return identifier


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


def _tenant(value: Any) -> Any:
    """A tenant's id, or a tenant to set, with its id."""
    try:
        return {**value, "id": _id(value.get("id"))} if isinstance(value, dict) else _id(value)
    except _Mismatch as mismatch:
        raise _Mismatch(mismatch.found, _TENANT) from None


def _user(value: Any) -> dict[str, Any]:
    recipient = _recipient(value)
    return recipient if isinstance(recipient, dict) else {"id": recipient}


def _many(one: Callable[[Any], Any]) -> Callable[[Any], list[Any]]:
    """One value or a list of them, as a list without repeats."""

    def coerce(value: Any) -> list[Any]:
        found: dict[bytes, Any] = {}
        for position, item in enumerate(value if isinstance(value, list) else [value], start=1):
            try:
                coerced = one(item)
                found.setdefault(_json(coerced), coerced)
            except _Mismatch as mismatch:
                position = position if isinstance(value, list) else 0
                raise _Mismatch(mismatch.found, mismatch.expected, position) from None
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
    Kind.TENANT: _tenant,
}
LIST_KINDS = frozenset({Kind.RECIPIENTS, Kind.REFERENCES, Kind.MEMBERS})


def _shown_template(template: Any) -> str:
    if isinstance(template, str):
        return template
    return "the constant" if is_constant(template) else "the template"


def _shown(value: Any) -> str:
    """The value's type, and the value itself as JSON when it is short and plain."""
    if value is None:
        return "null"
    if isinstance(value, list):
        return f"an array with {len(value)} entries" if value else "an empty array"
    if isinstance(value, dict):
        return f"an object with {len(value)} entries" if value else "an empty object"
    name = "a boolean" if isinstance(value, bool) else "a string" if isinstance(value, str) else "a number"
    text = repr(value) if isinstance(value, str) else str(value).lower()
    return f"{name} ({text if len(text) <= MAXIMUM_SHOWN else text[:MAXIMUM_SHOWN] + '...'})"
