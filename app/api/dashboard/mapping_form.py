"""A mapping as a form: a field for each parameter of its action, and back. `mappings.py` shows it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson
from pydantic import ValidationError

from app.actions.base import PREFIXES, ActionType, Parameter, ValueKind
from app.actions.parameters import check_parameters, template_of
from app.actions.paths import is_constant
from app.actions.registry import action_types
from app.api.dashboard.forms import Form, field_messages
from app.api.dashboard.json_view import json_text
from app.core import exact_json
from app.core.validation import field_errors, invalid_fields
from app.models.source import Mapping
from app.sources.changes import MappingChange

# How a field is read: as a path into the event, as the text that stands there, or as a template in JSON.
Mode = Literal["path", "fixed", "json"]
MODES: dict[Mode, str] = {"path": "Path", "fixed": "Text", "json": "JSON"}

_MODES_OF: dict[ValueKind, Sequence[Mode]] = {
    ValueKind.KEY: ("fixed", "path"),
    ValueKind.OBJECT: ("path", "json"),
    ValueKind.BOOLEAN: ("path", "json"),
}


@dataclass(frozen=True)
class ParameterField:
    """The field of a parameter with what stands in it."""

    parameter: Parameter
    mode: Mode
    text: str

    @property
    def modes(self) -> list[tuple[Mode, str]]:
        """The modes there are, with their names."""
        return [(mode, MODES[mode]) for mode in _modes(self.parameter)]

    @property
    def rows(self) -> int:
        """The height of the field in lines."""
        return min(max(self.text.count("\n") + 1, 4), 16) if self.mode == "json" else 1


@dataclass(frozen=True)
class MappingForm:
    """A mapping as its form shows it. `version` and `base` are what the editor began with: what they change
    is compared with it."""

    event_type: str
    action_type: str
    active: bool
    fields: list[ParameterField]
    skip_older: bool = False
    # As JSON; empty: the mapping has none.
    conditions: str = ""
    identifier: str = ""
    version: str = ""
    base: str = ""

    @property
    def action(self) -> ActionType | None:
        """The action that is chosen."""
        return action_types().get(self.action_type)

    @property
    def sets_something(self) -> bool:
        """Whether events can be older than what the action set."""
        return self.action is not None and self.action.effect is not None


@dataclass(frozen=True)
class Read:
    """What a form says. `errors`: by field of the form, what cannot be read."""

    shown: MappingForm
    parameters: dict[str, Any]
    errors: dict[str, str]
    conditions: Any = None

    def change(self) -> MappingChange:
        """The mapping as it shall be.

        Raises:
            RequestError: 422, naming everything that does not fit.
        """
        try:
            return MappingChange.model_validate(
                {
                    "event_type": self.shown.event_type,
                    "action_type": self.shown.action_type,
                    "action_parameters": self.parameters,
                    "active": self.shown.active,
                    "skip_older": self.shown.skip_older and self.shown.sets_something,
                    "conditions": self.conditions,
                }
            )
        except ValidationError as error:
            raise invalid_fields(field_errors(error.errors())) from None


def form_of(mapping: Mapping, version: str) -> MappingForm:
    """A mapping that is there, in its form."""
    return MappingForm(
        mapping.event_type,
        mapping.action_type,
        mapping.active,
        fields_of(mapping.action_type, mapping.action_parameters),
        mapping.skip_older,
        conditions_text(mapping.conditions),
        identifier=str(mapping.id),
        version=version,
        base=exact_json.dumps(state_of(mapping)).decode(),
    )


def new_form(
    event_type: str,
    action_type: str,
    parameters: dict[str, Any],
    *,
    skip_older: bool = False,
    conditions: dict[str, Any] | None = None,
) -> MappingForm:
    """The form of a mapping that is not there yet."""
    fields = fields_of(action_type, parameters)
    return MappingForm(event_type, action_type, True, fields, skip_older, conditions_text(conditions))


def conditions_text(conditions: dict[str, Any] | None) -> str:
    """Conditions as the form shows them."""
    return "" if conditions is None else json_text(conditions)


def state_of(mapping: Mapping) -> dict[str, Any]:
    """What people edit of a mapping."""
    names = ("event_type", "action_type", "active", "skip_older", "conditions", "action_parameters")
    return {name: getattr(mapping, name) for name in names}


def fields_of(action_type: str, parameters: dict[str, Any]) -> list[ParameterField]:
    """A field for each parameter of an action."""
    action = action_types().get(action_type)
    return [_field(each, template_of(each, parameters)) for each in action.parameters] if action else []


def read_mapping(form: Form) -> Read:
    """What a form says. Of another action than the one that its fields are of, what was saved for it comes
    back."""
    action = action_types().get(form.text("action_type"))
    saved = _saved(form)
    fields, parameters, errors = [], {}, {}
    for each in action.parameters if action else ():
        shown = _shown(form, each, saved)
        fields.append(shown)
        if not shown.text.strip():
            continue
        try:
            parameters[each.name] = _template(shown)
        except orjson.JSONDecodeError as error:
            errors[field_name(each.name)] = f"is not JSON: {error}"
    conditions = None
    # A page of the previous version has no such field.
    base = parse_base(form.raw("base"))
    text = form.raw("conditions") if "conditions" in form else conditions_text(base.get("conditions"))
    try:
        conditions = exact_json.loads(text) if text.strip() else None
    except orjson.JSONDecodeError as error:
        errors["conditions"] = f"is not JSON: {error}"
    shown_form = MappingForm(
        form.text("event_type"),
        form.text("action_type"),
        form.is_on("active"),
        fields,
        form.is_on("skip_older"),
        text,
        identifier=form.text("identifier"),
        version=form.text("version"),
        base=form.raw("base"),
    )
    return Read(shown_form, parameters, errors, conditions)


def field_name(parameter: str) -> str:
    """What the field of a parameter is called."""
    return f"parameter-{parameter}"


def messages_of(error: Any, action_type: str) -> dict[str, str]:
    """What is wrong with a mapping, by field of the form."""
    action = action_types().get(action_type)
    names = (
        {f"action_parameters.{each.name}": field_name(each.name) for each in action.parameters if action}
        if action
        else {}
    )
    messages = field_messages(error, names=names)
    for place in [each for each in messages if each.startswith("conditions.")]:
        messages.setdefault("conditions", f"{place}: {messages.pop(place)}")
    if repeated := messages.pop("mapping", None):
        messages[""] = f"This mapping {repeated}"
    return messages


def problems_of(action_type: str, parameters: dict[str, Any]) -> dict[str, str]:
    """What keeps a mapping's parameters from being saved, by field of the form: an earlier version may have
    saved them."""
    action = action_types().get(action_type)
    found: dict[str, str] = {}
    for error in check_parameters(action, parameters, "") if action else ():
        parameter = action.parameter(error.field.lstrip(".")) if action else None
        found.setdefault(field_name(parameter.name) if parameter else "", error.message)
    return found


def _modes(parameter: Parameter) -> Sequence[Mode]:
    return _MODES_OF.get(parameter.kind, ("path", "fixed", "json"))


def _saved(form: Form) -> dict[str, Any]:
    """The parameters that the mapping had for this action when its form was opened."""
    base = parse_base(form.raw("base"))
    return base.get("action_parameters", {}) if base.get("action_type") == form.text("action_type") else {}


def parse_base(text: str) -> dict[str, Any]:
    """What an editor began with, empty when a form does not say."""
    try:
        base = exact_json.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return base if isinstance(base, dict) else {}


def _shown(form: Form, parameter: Parameter, saved: dict[str, Any]) -> ParameterField:
    modes = _modes(parameter)
    if field_name(parameter.name) not in form:
        return _field(parameter, template_of(parameter, saved))
    wanted = form.text(f"mode-{parameter.name}")
    mode = next((each for each in modes if each == wanted), modes[0])
    return ParameterField(parameter, mode, form.raw(field_name(parameter.name)))


def _field(parameter: Parameter, template: Any) -> ParameterField:
    modes = _modes(parameter)
    if template is None:
        is_written_out = "json" in modes and parameter.placeholder.startswith("{")
        return ParameterField(parameter, "json" if is_written_out else modes[0], "")
    if parameter.is_literal(template):
        return ParameterField(parameter, "fixed", template)
    if isinstance(template, str):
        return ParameterField(parameter, "path", template)
    if "fixed" in modes and is_constant(template) and isinstance(template["value"], str):
        return ParameterField(parameter, "fixed", template["value"])
    return ParameterField(parameter, "json", json_text(template))


def _template(field: ParameterField) -> Any:
    """What a field sets its parameter to.

    Raises:
        orjson.JSONDecodeError: it is not the JSON that it should be.
    """
    if field.mode == "json":
        return exact_json.loads(field.text)
    text = field.text.strip()
    is_literal = field.parameter.is_literal(text)
    if field.mode == "fixed":
        return text if is_literal else {"value": text}
    # Where text is taken as it is, a path says so by its root.
    return f"{PREFIXES[0]}{text}" if is_literal else text
