"""From a mapping's parameters and an event to the payload of an action: kinds, aliases, limits, errors."""

import copy
import re
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.actions.base import MAXIMUM_DATA_BYTES, ActionType
from app.actions.parameters import (
    InvalidParameter,
    MissingParameter,
    check_parameters,
    evaluate_parameters,
    outcome_of,
)
from app.actions.paths import DecodedEvent
from app.actions.registry import action_types
from app.database.engine import to_json
from tests.actions.test_paths import EVENTS, JSON, TEMPLATES

ACTIONS = list(action_types().values())


def payload_of(action: str, parameters: dict[str, Any], body: Any, **event: Any) -> dict[str, Any]:
    return evaluate_parameters(action_types()[action], parameters, DecodedEvent(body=body, **event))


def complaint(action: str, parameters: dict[str, Any], body: Any) -> str:
    """Why the action fails, or else the first thing that is left out of it."""
    outcome = outcome_of(action_types()[action], parameters, DecodedEvent(body=body))
    if outcome.error is not None:
        return outcome.error
    assert outcome.payload is not None
    return "left out: {parameter}: {reason}".format(**outcome.left_out[0])


def test_order_of_kinds() -> None:
    assert list(action_types()) == [
        "users_identify",
        "users_merge",
        "users_delete",
        "objects_set",
        "objects_delete",
        "tenants_set",
        "tenants_delete",
        "objects_subscribe",
        "objects_unsubscribe",
        "audiences_add_member",
        "audiences_remove_member",
        "workflows_cancel",
        "workflows_trigger",
    ]


@pytest.mark.parametrize("action", ACTIONS, ids=lambda each: each.name)
def test_declarations(action: ActionType) -> None:
    """Each name and alias means one parameter, and the example is one that the API takes."""
    names = [name for each in action.parameters for name in (each.name, *each.aliases)]
    assert len(names) == len(set(names))
    assert all(each.help and each.label and each.placeholder for each in action.parameters)
    assert check_parameters(action, action.example.parameters, "p") == []
    assert action.calls(
        evaluate_parameters(action, action.example.parameters, DecodedEvent(action.example.body)), "k"
    )


@pytest.mark.parametrize("action", ACTIONS, ids=lambda each: each.name)
def test_aliases(action: ActionType) -> None:
    """A parameter under any of its names gives the same payload."""
    event = DecodedEvent(action.example.body)
    expected = evaluate_parameters(action, action.example.parameters, event)
    for parameter in action.parameters:
        if parameter.name in action.example.parameters:
            for alias in parameter.aliases:
                renamed = dict(action.example.parameters)
                renamed[alias] = renamed.pop(parameter.name)
                assert check_parameters(action, renamed, "p") == []
                assert evaluate_parameters(action, renamed, event) == expected


@pytest.mark.parametrize("action", ACTIONS, ids=lambda each: each.name)
def test_required(action: ActionType) -> None:
    """Without a value of a required parameter there is nothing to send; without the parameter, nothing to save."""
    event = DecodedEvent({**action.example.body, "null": None, "blank": "", "none": []})
    for parameter in action.parameters:
        given = action.example.parameters.get(parameter.name)
        if not parameter.required:
            without = {
                name: each for name, each in action.example.parameters.items() if name != parameter.name
            }
            assert parameter.name not in evaluate_parameters(action, without, event)
            continue
        rest = {name: each for name, each in action.example.parameters.items() if name != parameter.name}
        errors = check_parameters(action, rest, "action_parameters")
        assert [(each.field, each.message) for each in errors] == [
            (f"action_parameters.{parameter.name}", f"is required by {action.name}")
        ]
        with pytest.raises(
            MissingParameter, match=f"^{parameter.name} is required and the mapping does not set it$"
        ):
            evaluate_parameters(action, rest, event)
        for path, says in [
            ("body.nowhere", "has no value"),
            ("body.null", "is null"),
            ("body.blank", "is a string ('')"),
            ("body.none", "is an empty array"),
        ]:
            with pytest.raises(MissingParameter) as raised:
                evaluate_parameters(action, {**rest, parameter.name: path}, event)
            assert str(raised.value) == f"{parameter.name} is required and {path} {says} in this event"
        assert given is not None, "the example sets what is required"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("u1", ["u1"]),
        (7, ["7"]),
        (7.0, ["7"]),
        (2**63, [str(2**63)]),
        ({"id": 7, "email": "a@example.com"}, [{"id": "7", "email": "a@example.com"}]),
        ({"id": "p", "collection": 5}, [{"id": "p", "collection": "5"}]),
        (["u1", 2, {"id": 3}], ["u1", "2", {"id": "3"}]),
        (["u1", "u1", 1, "1"], ["u1", "1"]),
        ([["a", ["b"]], [], [None, ""], "a"], ["a", "b"]),
    ],
)
def test_recipients(value: Any, expected: list[Any]) -> None:
    found = payload_of("workflows_trigger", {"key": "w", "recipients": "who"}, {"who": value})
    assert found == {"key": "w", "recipients": expected}


def test_references_leave_profiles_out() -> None:
    who = [{"id": 1, "email": "a@example.com"}, {"id": 2, "collection": "teams", "name": "T"}, "u3"]
    found = payload_of(
        "objects_unsubscribe", {"collection": "c", "id": "id", "recipients": "who"}, {"id": 1, "who": who}
    )
    assert found["recipients"] == ["1", {"id": "2", "collection": "teams"}, "u3"]


def test_members() -> None:
    users = [
        "u1",
        2,
        {"id": 3, "name": "Three"},
        {"user": "u4", "tenant": 9},
        {"user": {"id": 5}, "tenant": None},
    ]
    found = payload_of("audiences_add_member", {"audience_key": "vip", "users": "users"}, {"users": users})
    assert found["members"] == [
        {"user": {"id": "u1"}},
        {"user": {"id": "2"}},
        {"user": {"id": "3", "name": "Three"}},
        {"user": {"id": "u4"}, "tenant": "9"},
        {"user": {"id": "5"}},
    ]


def test_a_cohort_in_one_event() -> None:
    """Projections within projections name everyone; who has no id is nobody."""
    body = {"groups": [{"users": [{"user_id": n}, {"device": "d"}, {"user_id": None}]} for n in range(3)]}
    found = payload_of("workflows_trigger", {"key": "w", "recipients": "groups.*.users.*.user_id"}, body)
    assert found["recipients"] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("welcome", "welcome"),
        ("order.confirmed", "order.confirmed"),
        ("bodyguard", "bodyguard"),
        ("body.kind", "from-the-event"),
        ("headers.x-key", "from-a-header"),
        ("preprocess.key", "from-the-script"),
        ({"value": "body.kind"}, "body.kind"),
    ],
)
def test_keys_are_text_or_paths(template: Any, expected: str) -> None:
    found = payload_of(
        "workflows_trigger",
        {"key": template, "recipients": {"value": "u"}},
        {"kind": "from-the-event"},
        headers={"x-key": "from-a-header"},
        preprocess={"key": "from-the-script"},
    )
    assert found["key"] == expected


def test_tenants_are_ids_or_tenants_to_set() -> None:
    for value, expected in [(7, "7"), ({"id": 7, "name": "Acme"}, {"id": "7", "name": "Acme"})]:
        found = payload_of(
            "workflows_trigger",
            {"key": "w", "recipients": {"value": "u"}, "tenant": "tenant"},
            {"tenant": value},
        )
        assert found["tenant"] == expected


@pytest.mark.parametrize(
    ("action", "parameters", "body", "message"),
    [
        ("users_identify", {"id": "id"}, {"id": True}, "id: id is a boolean (true), expected an id: a non-empty string or a whole number"),
        ("users_identify", {"id": "id"}, {"id": 1.5}, "id: id is a number (1.5), expected an id: a non-empty string or a whole number"),
        ("users_identify", {"id": "id"}, {"id": {"a": 1}}, "id: id is an object with 1 entries, expected an id: a non-empty string or a whole number"),
        ("users_identify", {"id": {"value": "u"}, "email": "body.e"}, {"e": {}}, "left out: email: body.e is an empty object, expected a string"),
        ("users_identify", {"id": {"value": "u"}, "name": {"a": "e"}}, {"e": 5}, "left out: name: the template is an object with 1 entries, expected a string"),
        ("users_identify", {"id": {"value": "u"}, "properties": "e"}, {"e": ["x"]}, "left out: properties: e is an array with 1 entries, expected an object"),
        ("users_identify", {"id": {"value": "u"}, "properties": {"value": "x" * 99}}, {}, f"left out: properties: the constant is a string ('{'x' * 59}...), expected an object"),
        ("users_identify", {"id": "a..b"}, {}, "id: 'a..b' is not a path: expected a key at position 3. Write keys between dots, and keys with dots in quotes: body.\"a.b\".c"),
        ("workflows_trigger", {"key": "w", "recipients": "r"}, {"r": ["u", {"email": "x"}]}, "left out: recipients: recipient 2 of r is an object without an id, expected a recipient: an id, or an object with an id"),
        ("workflows_trigger", {"key": "w", "recipients": "r"}, {"r": [False]}, "recipients: recipient 1 of r is a boolean (false), expected a recipient: an id, or an object with an id"),
        ("workflows_trigger", {"key": "w", "recipients": {"value": "u"}, "tenant": "t"}, {"t": {"name": "x"}}, "left out: tenant: t is null, expected a tenant: an id, or an object with an id"),
        ("audiences_add_member", {"key": "a", "members": {"value": "u"}, "create_audience": "c"}, {"c": "yes"}, "left out: create_audience: c is a string ('yes'), expected true or false"),
        ("audiences_add_member", {"key": "a", "members": "m"}, {"m": [{"user": "u", "tenant": []}]}, "members: member 1 of m is an empty array, expected an id: a non-empty string or a whole number"),
    ],
)  # fmt: skip
def test_errors_name_parameter_path_found_and_expected(
    action: str, parameters: dict[str, Any], body: Any, message: str
) -> None:
    assert complaint(action, parameters, body) == message


@pytest.mark.parametrize(
    ("action", "name", "limit"),
    [
        ("workflows_trigger", "recipients", 10_000),
        ("workflows_cancel", "recipients", 10_000),
        ("objects_subscribe", "recipients", 10_000),
        ("objects_unsubscribe", "recipients", 10_000),
        ("audiences_add_member", "members", 10_000),
        ("audiences_remove_member", "members", 10_000),
    ],
)
def test_limits_of_lists(action: str, name: str, limit: int) -> None:
    parameters = {**action_types()[action].example.parameters, name: "who"}
    body = dict(action_types()[action].example.body)
    assert len(payload_of(action, parameters, {**body, "who": list(range(limit))})[name]) == limit
    with pytest.raises(InvalidParameter) as raised:
        payload_of(action, parameters, {**body, "who": list(range(limit + 1))})
    assert str(raised.value) == f"{name}: who has {limit + 1} values, at most {limit} are allowed"


def test_limit_of_data() -> None:
    parameters = {"key": "w", "recipients": {"value": "u"}, "data": {"text": "t"}}
    room = MAXIMUM_DATA_BYTES - len(b'{"text":""}')
    assert payload_of("workflows_trigger", parameters, {"t": "x" * room})["data"]
    found = complaint("workflows_trigger", parameters, {"t": "x" * (room + 1)})
    assert found.startswith(f"left out: data: the template has {MAXIMUM_DATA_BYTES + 1} bytes as JSON")
    assert "bytes as JSON" in complaint("workflows_trigger", parameters, {"t": "é" * (room // 2 + 1)})


def test_what_is_too_deep_to_be_stored_is_named() -> None:
    deep = orjson.loads(b'{"a":' * 300 + b"1" + b"}" * 300)
    parameters = {"key": "w", "recipients": {"value": "u"}, "data": "body"}
    found = complaint("workflows_trigger", parameters, deep)
    assert "data: body is an object with 1 entries, expected a value that can be" in found


def test_errors_can_be_stored_in_postgres() -> None:
    """Its text has no NUL; JSON does."""
    with pytest.raises(InvalidParameter) as raised:
        payload_of("users_identify", {"id": '"a\x00"'}, {"a\x00": []} | {"a\x00": {"x": 1}})
    assert "\x00" not in str(raised.value)
    with pytest.raises(MissingParameter) as missing:
        payload_of("users_identify", {"id": '"b\x00"'}, {})
    assert "\x00" not in str(missing.value)


def test_check_names_every_wrong_field() -> None:
    parameters = {"id": "a..b", "nope": "x", "properties": {"x": {"y": ".z"}, "c": {"value": ".."}}}
    errors = check_parameters(action_types()["users_identify"], parameters, "mappings.0.action_parameters")
    assert [each.field.rsplit(".", 1)[1] for each in errors] == ["id", "nope", "properties"]
    assert "it has id, name, email" in errors[1].message
    deep: Any = "x"
    for _ in range(500):
        deep = {"a": deep}
    (error,) = check_parameters(action_types()["users_identify"], {"id": "x", "properties": deep}, "p")
    assert re.search("nested at most 32 deep", error.message)


@pytest.mark.parametrize(
    ("action", "parameter", "template", "message"),
    [
        (
            "workflows_trigger",
            "recipients",
            {"value": True},
            "the constant is a boolean (true), expected a recipient",
        ),
        ("workflows_trigger", "recipients", {"value": []}, "is required and the constant is an empty array"),
        ("workflows_trigger", "data", 5, "the template is a number (5), expected an object"),
        (
            "users_identify",
            "properties",
            {"value": "gold"},
            "the constant is a string ('gold'), expected an object",
        ),
        ("users_identify", "id", {"value": 1.5}, "the constant is a number (1.5), expected an id"),
    ],
)
def test_a_constant_that_never_fits_is_refused(
    action: str, parameter: str, template: Any, message: str
) -> None:
    example = action_types()[action].example.parameters
    errors = check_parameters(action_types()[action], {**example, parameter: template}, "p")
    assert [each.field for each in errors] == [f"p.{parameter}"]
    assert errors[0].message.startswith(message)


@given(action=st.sampled_from(ACTIONS), event=EVENTS, data=st.data())
def test_a_mapping_of_constants_is_refused_or_runs_whatever_comes(
    action: ActionType, event: DecodedEvent, data: st.DataObject
) -> None:
    configured = {each.name: data.draw(st.fixed_dictionaries({"value": JSON})) for each in action.parameters}
    if not check_parameters(action, configured, "p"):
        evaluate_parameters(action, configured, event)


@given(action=st.sampled_from(ACTIONS), event=EVENTS, data=st.data())
def test_any_mapping_of_any_event_is_a_payload_or_a_named_error(
    action: ActionType, event: DecodedEvent, data: st.DataObject
) -> None:
    """Whatever is configured and whatever comes: nothing else is raised, the event stays, the payload is JSON."""
    values = TEMPLATES | st.fixed_dictionaries({"value": JSON})
    configured = {each.name: data.draw(values) for each in action.parameters}
    before = copy.deepcopy((configured, event))
    try:
        payload = evaluate_parameters(action, configured, event)
    except (MissingParameter, InvalidParameter) as error:
        named = str(error).startswith(tuple(each.name for each in action.parameters))
        assert named, "the error names its parameter"
    else:
        assert orjson.loads(to_json(payload)) == payload
        assert payload == evaluate_parameters(action, configured, event)
        assert "k" in [key for _, key in action.calls(payload, "k")]
    assert (configured, event) == before
