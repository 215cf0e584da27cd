"""From a mapping's configured parameters and a decoded event to the payload of an action's call.

Values are coerced only where Knock's API does; anything else that does not fit is an error that names the
parameter, the path, what was found and what was expected.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any

from app.actions.base import ActionType, Parameter, Payload, ValueKind
from app.actions.conditions import ConditionError, reason_unmet
from app.actions.liquid_values import MAXIMUM_LIQUIDS, liquid_problem
from app.actions.paths import (
    EXPRESSIONS,
    MISSING,
    DecodedEvent,
    PathError,
    TemplateError,
    evaluate,
    is_constant,
    liquid_in,
    paths_in,
)
from app.actions.spelling import advice_on, check_path, looks_like_a_path
from app.core import exact_json
from app.core.errors import DoorbellError, FieldError
from app.core.identifiers import identifier_of, may_be_rounded
from app.core.moments import moment_of
from app.database.engine import to_json
from app.models.status import ActionStatus

MAXIMUM_SHOWN = 60
# Of what is left out, so many are named.
MAXIMUM_NAMED = 100
_ITEM_NAMES = {
    ValueKind.RECIPIENTS: "recipient",
    ValueKind.REFERENCES: "recipient",
    ValueKind.MEMBERS: "member",
}
_ID = "an id: a non-empty string or a whole number"
_ROUNDED = f"{_ID}; with a fraction or an exponent a number this large is rounded, send its digits alone"
_RECIPIENT = "a recipient: an id, or an object with an id"
_TENANT = "a tenant: an id, or an object with an id"
_NO_EVENT = DecodedEvent(body={})


class MissingParameter(DoorbellError):
    """A required parameter has no value in this event: the action is skipped."""


class InvalidParameter(DoorbellError):
    """A parameter's value is not of the kind that the action needs: the action fails."""


@dataclass(frozen=True)
class Evaluated:
    """The payload of an action, and what of the mapping is not in it: a parameter, or an item of a list, with
    the reason."""

    payload: Payload
    left_out: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Outcome:
    """What comes of a mapping before its action runs: pending with a payload, or skipped or failed with the
    reason."""

    status: ActionStatus
    payload: Payload | None = None
    error: str | None = None
    left_out: list[dict[str, Any]] = field(default_factory=list)


def outcome_of(
    action: ActionType,
    configured: dict[str, Any],
    event: DecodedEvent,
    conditions: dict[str, Any] | None = None,
    variables: Mapping[str, str] = MappingProxyType({}),
) -> Outcome:
    """What comes of a mapping before its action runs. `variables`: those that conditions may read."""
    try:
        if conditions is not None and (reason := reason_unmet(conditions, event, variables)):
            return Outcome(ActionStatus.SKIPPED, error=reason)
        evaluated = evaluate_action(action, configured, event)
    except MissingParameter as error:
        return Outcome(ActionStatus.SKIPPED, error=str(error))
    except (InvalidParameter, ConditionError) as error:
        return Outcome(ActionStatus.FAILED, error=str(error))
    return Outcome(ActionStatus.PENDING, evaluated.payload, left_out=evaluated.left_out)


def evaluate_action(action: ActionType, configured: dict[str, Any], event: DecodedEvent) -> Evaluated:
    """The parameters of an action by name, evaluated and coerced. An optional value that does not fit is left
    out, and named.

    Raises:
        MissingParameter: a required parameter has no value.
        InvalidParameter: a value does not fit that the action cannot do without.
    """
    payload: Payload = {}
    left_out: list[dict[str, Any]] = []
    for parameter in action.parameters:
        try:
            value = _evaluated(parameter, configured, event, left_out)
        except InvalidParameter as error:
            if parameter.required or parameter.narrows:
                raise
            left_out.append(_left_out(parameter.name, str(error).removeprefix(f"{parameter.name}: ")))
            continue
        if value is not MISSING:
            payload[parameter.name] = value
    return Evaluated(_with_fitting_properties(action, payload, left_out), left_out[:MAXIMUM_NAMED])


def evaluate_parameters(action: ActionType, configured: dict[str, Any], event: DecodedEvent) -> Payload:
    """The payload of an action. Raises as `evaluate_action` does."""
    return evaluate_action(action, configured, event).payload


def _with_fitting_properties(action: ActionType, payload: Payload, left_out: list[dict[str, Any]]) -> Payload:
    """The payload, whose custom properties stand beside the fields of the action: one that has the name of a
    field is held to what the field takes, and none reaches a structured field; that one is mapped is not
    said again."""
    properties = payload.get("properties")
    if not isinstance(properties, dict):
        return payload
    kept = {}
    for name, value in properties.items():
        kind = action.fields.get(name)
        if kind is ValueKind.OBJECT and name in payload:
            continue
        try:
            kept[name] = value if kind is None or value is None else _as_property(kind, name, value)
        except InvalidParameter as error:
            left_out.append(_left_out(f"properties.{name}", str(error)))
    return {**payload, "properties": kept}


def _as_property(kind: ValueKind, name: str, value: Any) -> Any:
    if kind is ValueKind.OBJECT:
        raise InvalidParameter(f"is no custom property: to set it, map the parameter {name}")
    try:
        return _COERCIONS[kind](value)
    except _Mismatch as mismatch:
        raise InvalidParameter(_storable(_why(f"properties.{name}", mismatch))) from None


def _left_out(what: str, reason: str) -> dict[str, Any]:
    return {"parameter": what, "reason": reason}


def evaluate_parameter(parameter: Parameter, configured: dict[str, Any], event: DecodedEvent) -> Any:
    """The value of one parameter, evaluated and coerced; MISSING when it has none and needs none.

    Raises:
        MissingParameter: it is required and has no value.
        InvalidParameter: its value does not fit.
    """
    return _evaluated(parameter, configured, event, [])


def _evaluated(
    parameter: Parameter, configured: dict[str, Any], event: DecodedEvent, left_out: list[dict[str, Any]]
) -> Any:
    template = template_of(parameter, configured)
    value = _evaluate(parameter, template, event)
    if value is None and parameter.clears:
        return None
    if value is MISSING or _is_empty(value):
        if parameter.required:
            raise MissingParameter(_missing_message(parameter, template, value))
        return MISSING
    return _coerce(parameter, template, value, left_out)


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
        liquids = list(liquid_in(template))
    except TemplateError as error:
        return [str(error)]
    errors = [*_path_errors(paths), *_liquid_errors(liquids)]
    return errors if paths or liquids else _constant_errors(parameter, template)


def _liquid_errors(sources: list[str]) -> list[str]:
    if len(sources) > MAXIMUM_LIQUIDS:
        return [f"has {len(sources)} Liquid templates, at most {MAXIMUM_LIQUIDS} are allowed"]
    return [problem for each in sources if (problem := liquid_problem(each)) is not None]


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


def _coerce(
    parameter: Parameter, template: Any, value: Any, left_out: list[dict[str, Any]] | None = None
) -> Any:
    """The value as the parameter takes it. Items of a list that do not fit are added to `left_out`.

    Raises:
        InvalidParameter: it does not fit, or no item of it does.
    """
    shown = _shown_template(template)
    try:
        if parameter.kind in _ITEMS and isinstance(value, list):
            coerced: Any = _coerce_items(parameter, shown, value, left_out)
        elif parameter.kind in _ITEMS:
            coerced = [_ITEMS[parameter.kind](value)]
        else:
            coerced = _COERCIONS[parameter.kind](value)
        size = len(_json(coerced))
    except _Mismatch as mismatch:
        raise InvalidParameter(_storable(f"{parameter.name}: {_why(shown, mismatch)}")) from None
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


def _coerce_items(
    parameter: Parameter, shown: str, values: list[Any], left_out: list[dict[str, Any]] | None
) -> list[Any]:
    """The items of a list that fit, without repeats.

    Raises:
        _Mismatch: none does; it is the first one's. So it is with any item of a list that must be whole.
    """
    found: dict[bytes, Any] = {}
    first: _Mismatch | None = None
    for position, item in enumerate(values, start=1):
        try:
            coerced = _ITEMS[parameter.kind](item)
            found.setdefault(_json(coerced), coerced)
        except _Mismatch as mismatch:
            mismatch.item = f"{_ITEM_NAMES[parameter.kind]} {position}"
            if parameter.narrows:
                raise
            first = first or mismatch
            if left_out is not None:
                left_out.append(_left_out(parameter.name, _storable(_why(shown, mismatch))))
    if first is not None and not found:
        raise first
    return list(found.values())


def _why(shown: str, mismatch: "_Mismatch") -> str:
    which = f"{mismatch.item} of {shown}" if mismatch.item else shown
    return f"{which} is {_shown(mismatch.found)}, expected {mismatch.expected}"


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
    """Carries what was found and what was expected. `item` names the item of a list that it is about."""

    def __init__(self, found: Any, expected: str) -> None:
        super().__init__(expected)
        self.found = found
        self.expected = expected
        self.item = ""


@dataclass(frozen=True)
class _Described:
    """What was found, in words."""

    text: str


def _id(value: Any) -> str:
    identifier = identifier_of(value)
    if identifier is None:
        raise _Mismatch(value, _ROUNDED if may_be_rounded(value) else _ID)
    return identifier


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float) and not value.is_integer():
        return repr(value)
    if isinstance(value, int | float) and (digits := identifier_of(value)) is not None:
        return digits
    raise _Mismatch(value, "a string")


def _moment(value: Any) -> str:
    """A moment in ISO 8601."""
    moment = moment_of(value)
    if moment is None:
        raise _Mismatch(value, "a moment: ISO 8601 text, or seconds or milliseconds since 1970")
    is_complete = (
        isinstance(value, str) and value[10:11] in ("T", "t") and datetime.fromisoformat(value).tzinfo
    )
    return value if is_complete else moment.isoformat().replace("+00:00", "Z")


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
        if value.get("id") in (None, ""):
            raise _Mismatch(_Described("an object without an id"), _RECIPIENT)
        recipient = {**value, "id": _id(value["id"])}
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


_COERCIONS: dict[ValueKind, Callable[[Any], Any]] = {
    ValueKind.KEY: _id,
    ValueKind.ID: _id,
    ValueKind.TEXT: _text,
    ValueKind.MOMENT: _moment,
    ValueKind.OBJECT: _object,
    ValueKind.BOOLEAN: _boolean,
    ValueKind.RECIPIENT: _recipient,
    ValueKind.TENANT: _tenant,
}
# Of parameters that take one value or many, how each is coerced.
_ITEMS: dict[ValueKind, Callable[[Any], Any]] = {
    ValueKind.RECIPIENTS: _recipient,
    ValueKind.REFERENCES: _reference,
    ValueKind.MEMBERS: _member,
}
LIST_KINDS = frozenset(_ITEMS)


def _shown_template(template: Any) -> str:
    if isinstance(template, str):
        return template
    if isinstance(template, dict) and len(template) <= 2 and any(each in template for each in EXPRESSIONS):
        text = exact_json.dumps(template, default=str).decode()
        return text if len(text) <= MAXIMUM_SHOWN else f"{text[:MAXIMUM_SHOWN]}..."
    return "the constant" if is_constant(template) else "the template"


def _shown(value: Any) -> str:
    """The value's type, and the value itself as JSON when it is short and plain."""
    if isinstance(value, _Described):
        return value.text
    if value is None:
        return "null"
    if isinstance(value, list):
        return f"an array with {len(value)} entries" if value else "an empty array"
    if isinstance(value, dict):
        return f"an object with {len(value)} entries" if value else "an empty object"
    name = "a boolean" if isinstance(value, bool) else "a string" if isinstance(value, str) else "a number"
    text = repr(value) if isinstance(value, str) else str(value).lower()
    return f"{name} ({text if len(text) <= MAXIMUM_SHOWN else text[:MAXIMUM_SHOWN] + '...'})"
