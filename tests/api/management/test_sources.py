"""Sources over HTTP: created with a provider's defaults, changed field by field, refused with all errors at
once."""

import asyncio
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.actions.registry import action_types
from app.models.types import new_id
from app.providers.registry import providers
from app.runtime.resources import Runtime
from tests.api.management.conftest import Put, fields

SOURCE_FIELDS = {
    "key",
    "name",
    "description",
    "custom_image_url",
    "environment_settings",
    "created_at",
    "updated_at",
    "provider",
}
SETTINGS_FIELDS = {
    "endpoint",
    "event_type_path",
    "idempotency_key_path",
    "ordering_key_path",
    "ordering_hold",
    "timestamp_path",
    "enforce_verification",
    "preprocess_script",
    "enforce_idempotency",
    "idempotency_window_seconds",
    "start_unmapped",
    "handle_identifies",
    "strict_batches",
    "rate_limit_per_second",
    "failure_alert",
}
MAPPING_FIELDS = {
    "id",
    "event_type",
    "action_type",
    "action_parameters",
    "active",
    "is_deleted",
    "created_at",
    "updated_at",
    "skip_older",
    "conditions",
}
TRIGGER = {"key": "welcome", "recipients": "body.user"}


def mapping(event_type: str = "a", **changes: Any) -> dict[str, Any]:
    return {
        "event_type": event_type,
        "action_type": "workflows_trigger",
        "action_parameters": TRIGGER,
        **changes,
    }


def development(**configuration: Any) -> dict[str, Any]:
    return {"name": "Shop", "environment_settings": {"development": configuration}}


async def created(put: Put, **configuration: Any) -> dict[str, Any]:
    """A source `shop` as answered."""
    answer = await put("shop", development(**configuration))
    assert answer.status_code == 200, answer.text
    return settled(answer)


def settled(answer: httpx.Response) -> dict[str, Any]:
    """What an answer says about development."""
    found: dict[str, Any] = answer.json()["source"]["environment_settings"]["development"]
    return found


async def test_a_new_source_starts_with_its_providers_defaults(put: Put, runtime: Runtime) -> None:
    answer = await put("stripe", {"name": "Stripe", "preconfigured_provider": "stripe"})
    source = answer.json()["source"]
    assert answer.status_code == 200
    assert source.keys() == SOURCE_FIELDS
    assert source["provider"] == "stripe"
    assert source["created_at"].endswith("Z")
    assert list(source["environment_settings"]) == ["development", "production"]
    tokens = set()
    for environment, configured in source["environment_settings"].items():
        assert configured.keys() == {"settings", "mappings", "updated_at"}
        assert configured["settings"].keys() == SETTINGS_FIELDS
        assert configured["settings"]["event_type_path"] == "body.type"
        assert configured["settings"]["enforce_verification"] is True
        assert {each["event_type"] for each in configured["mappings"]} == {
            each.event_type
            for each in providers()["stripe"].default_mappings
            if each.action_type in action_types()
        }
        assert all(each.keys() == MAPPING_FIELDS for each in configured["mappings"])
        base, _, token = configured["settings"]["endpoint"].rpartition("/")
        assert base == f"{runtime.settings.base_url}/integrations/receive"
        assert len(token) >= 22
        tokens.add(token)
        served = runtime.configuration.by_token(token)
        assert served is not None
        assert served.environment == environment
    assert len(tokens) == 2


async def test_custom_http_is_the_default_provider(put: Put) -> None:
    assert (await put("shop", {"name": "Shop"})).json()["source"]["provider"] == "custom_http"


async def test_get_and_list(client: httpx.AsyncClient, put: Put) -> None:
    saved = (await put("shop", {"name": "Shop", "description": "Ours"})).json()["source"]
    await put("another", {"name": "Another"})
    answer = await client.get("/v1/sources/shop", params={"environment": "development", "annotate": "true"})
    assert answer.json() == saved
    plain = (await client.get("/v1/sources")).json()["entries"]
    assert [{**each, "created_at": None, "updated_at": None} for each in plain] == [
        {
            "key": key,
            "name": name,
            "description": text,
            "custom_image_url": None,
            "provider": "custom_http",
            "created_at": None,
            "updated_at": None,
        }
        for key, name, text in [("another", "Another", None), ("shop", "Shop", "Ours")]
    ]
    whole = (await client.get("/v1/sources?include=environment_settings")).json()["entries"][1]
    assert whole["environment_settings"] == saved["environment_settings"]
    one = (await client.get("/v1/sources?include[]=environment_settings&environment=production")).json()
    assert list(one["entries"][0]["environment_settings"]) == ["production"]


async def test_missing_and_unknown(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/sources/none", params={"environment": "development"})
    assert answer.status_code == 404
    assert answer.json() == {
        "code": "resource_missing",
        "message": "There is no source 'none'",
        "status": 404,
        "type": "invalid_request_error",
    }
    assert (await client.get("/v1/sources/none")).json() == answer.json()
    assert fields(await client.get("/v1/sources/none?environment=staging")) == ["environment"]
    assert fields(await client.get("/v1/sources?environment=staging")) == ["environment"]
    assert fields(await client.get("/v1/sources?include=actions")) == ["include.0"]


async def test_given_settings_change_and_the_others_stay(put: Put) -> None:
    before = await created(put, settings={"event_type_path": "body.kind", "start_unmapped": False})
    after = settled(
        await put("shop", development(settings={"timestamp_path": "at", "idempotency_window_seconds": 60}))
    )
    assert after["settings"] == {
        **before["settings"],
        "timestamp_path": "at",
        "idempotency_window_seconds": 60,
    }
    assert after["updated_at"] > before["updated_at"]
    cleared = settled(await put("shop", development(settings={"timestamp_path": None})))
    assert cleared["settings"]["timestamp_path"] is None
    assert cleared["settings"]["event_type_path"] == "body.kind"


async def test_the_same_again_changes_nothing(put: Put) -> None:
    wanted = development(settings={"enforce_verification": False}, mappings=[mapping()])
    first = await put("shop", wanted)
    assert (await put("shop", wanted)).json() == first.json()


async def test_an_answer_can_be_sent_back(put: Put) -> None:
    first = (await put("stripe", {"name": "Stripe", "preconfigured_provider": "stripe"})).json()
    sent = {**first["source"], "__annotation": {"editable": True}, "$schema": "source.json"}
    assert (await put("stripe", sent)).json() == first


async def test_the_provider_of_a_source_stays(put: Put) -> None:
    await put("stripe", {"name": "Stripe", "preconfigured_provider": "stripe"})
    again = await put("stripe", {"name": "Paid", "preconfigured_provider": "whatever"})
    assert again.json()["source"]["provider"] == "stripe"
    assert again.json()["source"]["name"] == "Paid"


async def test_mappings_are_the_whole_list(put: Put) -> None:
    before = (await created(put, mappings=[mapping("a"), mapping("b"), mapping("c")]))["mappings"]
    after = settled(
        await put(
            "shop",
            development(mappings=[mapping("a", active=False), mapping("b", is_deleted=True), mapping("d")]),
        )
    )["mappings"]
    assert [each["event_type"] for each in after] == ["a", "d"]
    assert [each["active"] for each in after] == [False, True]
    assert after[0]["id"] == before[0]["id"]
    assert after[0]["created_at"] == before[0]["created_at"]
    assert after[0]["updated_at"] > before[0]["updated_at"]
    untouched = settled(await put("shop", development(settings={"enforce_verification": False})))["mappings"]
    assert untouched == after
    assert settled(await put("shop", development(mappings=[])))["mappings"] == []


async def test_mappings_of_one_kind_keep_their_ids(put: Put) -> None:
    def to(workflow: str, **changes: Any) -> dict[str, Any]:
        return mapping(action_parameters={**TRIGGER, "key": workflow}, **changes)

    before = {
        each["action_parameters"]["key"]: each["id"]
        for each in (await created(put, mappings=[to("one"), to("two"), to("three")]))["mappings"]
    }
    after = settled(await put("shop", development(mappings=[to("new"), to("three"), to("one")])))["mappings"]
    assert {each["action_parameters"]["key"]: each["id"] for each in after} == {
        "one": before["one"],
        "new": before["two"],
        "three": before["three"],
    }
    renamed = settled(
        await put(
            "shop",
            development(mappings=[to("new", id=before["two"], event_type="z"), to("x", id=str(new_id()))]),
        )
    )["mappings"]
    assert {each["id"]: each["event_type"] for each in renamed}[before["two"]] == "z"
    assert len(renamed) == 2


async def test_all_errors_at_once(put: Put, client: httpx.AsyncClient) -> None:
    answer = await put(
        "Shop!",
        {
            "name": 5,
            "preconfigured_provider": "nope",
            "descripton": "",
            "custom_image_url": "javascript:alert(1)",
            "environment_settings": {
                "staging": {},
                "development": {
                    "settings": {
                        "event_type_path": "a..b",
                        "enforce_verification": "yes",
                        "enforce_verificaton": True,
                        "idempotency_window_seconds": 0,
                        "preprocess_script": {"language": "javascript", "source": "return ("},
                    },
                    "mappings": [
                        {"action_type": "send_pigeon", "active": 1},
                        mapping(action_parameters={"recipients": "a..b", "colour": "red"}),
                        mapping(),
                        mapping(),
                        mapping(is_deleted=True, action_parameters={}),
                    ],
                },
            },
        },
        environment="prod",
    )
    inside = "source.environment_settings.development"
    assert sorted(fields(answer)) == sorted(
        [
            "key",
            "environment",
            "source.name",
            "source.preconfigured_provider",
            "source.descripton",
            "source.custom_image_url",
            "source.environment_settings.staging",
            f"{inside}.settings.event_type_path",
            f"{inside}.settings.enforce_verification",
            f"{inside}.settings.enforce_verificaton",
            f"{inside}.settings.idempotency_window_seconds",
            f"{inside}.settings.preprocess_script.source",
            f"{inside}.mappings.0.event_type",
            f"{inside}.mappings.0.action_type",
            f"{inside}.mappings.0.active",
            f"{inside}.mappings.1.action_parameters.recipients",
            f"{inside}.mappings.1.action_parameters.colour",
            f"{inside}.mappings.1.action_parameters.key",
            f"{inside}.mappings.3",
        ]
    )
    said = {each["field"]: each["message"] for each in answer.json()["errors"]}
    assert ", ".join(providers()) in said["source.preconfigured_provider"]
    assert "workflows_trigger" in said[f"{inside}.mappings.0.action_type"]
    assert "development, production" in said["environment"]
    assert said[f"{inside}.mappings.0.event_type"] == "is required"
    assert (await client.get("/v1/sources")).json()["entries"] == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "source"),
        ({"source": None}, "source"),
        ([], "body"),
        ({"source": {"name": " "}}, "source.name"),
        ({"source": {"name": "x" * 256}}, "source.name"),
        (
            {"source": {"name": "S", "environment_settings": {"development": {"mappings": {}}}}},
            "source.environment_settings.development.mappings",
        ),
    ],
)
async def test_bodies_of_another_shape(client: httpx.AsyncClient, body: Any, field: str) -> None:
    answer = await client.put("/v1/sources/shop?environment=development", json=body)
    assert fields(answer) == [field]


async def test_parameters_nested_too_deep(put: Put) -> None:
    deep: Any = "body"
    for _ in range(30):
        deep = {"x": deep}
    answer = await put("shop", development(mappings=[mapping(action_parameters={**TRIGGER, "data": deep})]))
    assert fields(answer) == ["source.environment_settings.development.mappings.0.action_parameters"]


@pytest.mark.parametrize(
    ("content", "status"), [(b"{", 400), (b'{"source": NaN}', 400), (b"\xff", 400), (b"", 422)]
)
async def test_bodies_that_are_not_json(client: httpx.AsyncClient, content: bytes, status: int) -> None:
    answer = await client.put("/v1/sources/shop?environment=development", content=content)
    assert answer.status_code == status
    assert answer.json()["status"] == status


async def test_a_body_without_a_content_type(client: httpx.AsyncClient) -> None:
    answer = await client.put(
        "/v1/sources/shop?environment=development",
        content=b'{"source": {"name": "Shop"}}',
        headers={"content-type": "application/x-www-form-urlencoded"},
    )
    assert answer.status_code == 200


async def test_requests_at_the_same_time_make_one_source(put: Put, client: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(*(put("shop", development(mappings=[mapping()])) for _ in range(8)))
    assert {each.status_code for each in answers} == {200}
    ids = {UUID(settled(each)["mappings"][0]["id"]) for each in answers}
    assert len(ids) == 1
