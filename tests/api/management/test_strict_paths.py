"""Saved paths are parsed strictly: another language's is refused, with the spelling that works."""

from typing import Any

import httpx
import pytest

from app.actions.registry import action_types
from app.actions.spelling import check_path
from app.providers.registry import providers
from tests.api.management.conftest import fields
from tests.bench import Bench, BenchSource

REFUSED = [
    ("{{ body.user.id }}", "write body.user.id"),
    ("{{body.items[0].id}}", "write body.items.0.id"),
    ("${body.user.id}", "write body.user.id"),
    ("<%= body.user.id %>", "write body.user.id"),
    ("=body.user.id", "write body.user.id"),
    ("$.user.id", "write body.user.id"),
    ("$['user']['first name']", 'write body.user."first name"'),
    ("$", "write body"),
    ("@.user", "write body.user"),
    ("$body.user", "write body.user"),
    ("items[0].id", "write items.0.id"),
    ("items[*].id", "write items.*.id"),
    ("body['user'].id", "write body.user.id"),
    ("body?.user?.id", "write body.user.id"),
    ("/user/id", "write user.id"),
    ("user->id", "write user.id"),
    (" user.id", "write user.id"),
    (".user.id", "write user.id"),
    ("body.a ?? body.b", "?? is no operator"),
    ("body.a || body.b", "|| is no operator"),
    ('body.a || "none"', "|| is no operator"),
    ("body.first + body.last", "+ is no operator"),
    ("body.a - body.b", "- is no operator"),
    ("body.a*2", "* is no operator"),
    ("body.vip ? a : b", "? is no operator"),
    ("body.name | upcase", "| is no operator"),
    ("a or b", "or is no operator"),
    ("Hi {{ body.name }}", "it mixes text with values"),
    ("{{ body.first }} {{ body.last }}", "it mixes text with values"),
    ("upper(body.name)", "( stands in a key"),
    ("body.items.-1.id", "none from the end"),
    ("body.first name", 'body."first name"'),
    ("Hello World", '{"value": ...}'),
    ("'text'", '{"value": ...}'),
    ("https://example.com/a", '{"value": ...}'),
    ("a, b", '{"value": ...}'),
]
LEGAL = [
    "body",
    "user",
    "user.id",
    "body.user.id",
    "items.0.id",
    "items.*.tags.*",
    "headers.X-Event-Type",
    "preprocess.name",
    "body.properties.$current_url",
    "$set.email",
    "body.@type",
    "dc:title",
    "größe.日本",
    'body."first name"',
    'body."a[0]"."{{ x }}"',
    '"a + b"',
]


async def save(source: BenchSource, parameters: dict[str, Any], event_type: str = "t") -> httpx.Response:
    mapping = {"event_type": event_type, "action_type": "users_identify", "action_parameters": parameters}
    return await source.bench.api.post(
        f"/v1/sources/{source.key}/mappings",
        params={"environment": source.bench.environment},
        json={"mapping": mapping},
    )


async def put(source: BenchSource, environment: dict[str, Any]) -> httpx.Response:
    return await source.bench.api.put(
        f"/v1/sources/{source.key}",
        params={"environment": source.bench.environment},
        json={"source": {"name": "S", "environment_settings": {source.bench.environment: environment}}},
    )


async def test_another_language_is_refused_with_the_spelling_that_works(bench: Bench) -> None:
    source = await bench.source("custom_http", secret=None)
    for path, says in REFUSED:
        answer = await save(source, {"id": "body.id", "properties": {"deep": [path]}})
        assert fields(answer) == ["mapping.action_parameters.properties"], path
        assert says in answer.json()["message"], path
        assert repr(path) in answer.json()["message"]
        answer = await put(source, {"settings": {"event_type_path": path}})
        assert fields(answer) == [
            f"source.environment_settings.{bench.environment}.settings.event_type_path"
        ], path
        assert says in answer.json()["message"], path


async def test_the_whole_source_names_every_wrong_path(bench: Bench) -> None:
    source = await bench.source("custom_http", secret=None)
    mapping = {"event_type": "t", "action_type": "users_identify", "action_parameters": {"id": "$.id"}}
    settings = {"idempotency_key_path": "{{ body.id }}", "timestamp_path": "body[at]"}
    answer = await put(source, {"settings": settings, "mappings": [mapping]})
    within = f"source.environment_settings.{bench.environment}"
    assert sorted(fields(answer)) == [
        f"{within}.mappings.0.action_parameters.id",
        f"{within}.settings.idempotency_key_path",
        f"{within}.settings.timestamp_path",
    ]


@pytest.mark.parametrize("key", ["{{ body.workflow }}", "$.workflow", "${body.workflow}", "body['workflow']"])
async def test_a_key_that_is_meant_as_a_path_is_refused(bench: Bench, key: str) -> None:
    source = await bench.source("custom_http", secret=None)
    mapping = {"event_type": "t", "action_type": "workflows_trigger"}
    answer = await bench.api.post(
        f"/v1/sources/{source.key}/mappings",
        params={"environment": bench.environment},
        json={"mapping": {**mapping, "action_parameters": {"key": key, "recipients": "body.user"}}},
    )
    assert fields(answer) == ["mapping.action_parameters.key"]
    assert "write body.workflow" in answer.json()["message"]


async def test_paths_of_this_language_stay_legal(bench: Bench) -> None:
    source = await bench.source("custom_http", secret=None)
    for path in LEGAL:
        answer = await save(source, {"id": path}, event_type=path)
        assert (answer.status_code, answer.json()["warnings"]) == (201, []), answer.text
        answer = await put(source, {"settings": {"timestamp_path": path}})
        assert answer.status_code == 200, answer.text


def test_what_we_ship_is_legal() -> None:
    for provider in providers().values():
        for path in (provider.event_type_path, provider.idempotency_key_path, provider.timestamp_path):
            if path is not None:
                check_path(path)
    for action in action_types().values():
        for parameter in action.parameters:
            if not parameter.literal and not parameter.placeholder.startswith(("{", "true")):
                check_path(parameter.placeholder)


async def test_a_path_without_a_root_that_no_event_has_is_warned_of(bench: Bench) -> None:
    source = await bench.source("custom_http", secret=None, enforce_verification=False, mappings={})
    # Nothing is stored: nothing is known of it.
    answer = await save(source, {"id": "userid"})
    assert answer.json()["warnings"] == []
    await source.post(b'{"type": "t", "user": "ada", "plan": null, "items": []}', {})
    await source.post(b'{"type": "t", "user": "ada", "since": 2024}', {})
    answer = await save(
        source,
        {
            "id": "user",
            "name": "Ada",
            "email": "body.nowhere",
            "locale": {"value": "Ada"},
            "properties": {"plan": "plan", "since": "since", "items": "items.*.id", "kind": "customer"},
        },
    )
    says = "is read from body, and has no value in the latest events of this type."
    assert answer.json()["warnings"] == [
        f't: name: Ada {says} For a constant write {{"value": "Ada"}}',
        f't: properties: items.*.id {says} For a constant write {{"value": "items.*.id"}}',
        f't: properties: customer {says} For a constant write {{"value": "customer"}}',
    ]
    answer = await put(
        source,
        {
            "mappings": [
                {
                    "event_type": "t",
                    "action_type": "users_identify",
                    "action_parameters": {"id": "user", "name": "Ada"},
                }
            ]
        },
    )
    assert answer.json()["warnings"] == [
        f'{bench.environment}: t: name: Ada {says} For a constant write {{"value": "Ada"}}'
    ]
