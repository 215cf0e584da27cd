"""The providers as the API shows them."""

import httpx

from app.providers.registry import providers
from tests.api.management.conftest import fields

PATH = "/v1/source_providers/stripe"


async def test_list(client: httpx.AsyncClient) -> None:
    entries = (await client.get("/v1/source_providers")).json()["entries"]
    assert [each["key"] for each in entries] == list(providers())
    assert all(each.keys() == {"key", "version", "provider"} for each in entries)
    assert all(each["provider"].keys() == {"name", "description"} for each in entries)


async def test_get(client: httpx.AsyncClient) -> None:
    answer = (await client.get(PATH)).json()
    assert answer.keys() == {"key", "version", "provider", "default_settings"}
    assert answer["provider"].keys() == {
        "name",
        "description",
        "categories",
        "website_url",
        "webhook_docs_url",
        "webhook_config_deep_link",
        "knock_tutorial_url",
    }
    assert answer["default_settings"] == {
        "event_type_path": "body.type",
        "enforce_verification": True,
        "idempotency_key_path": "body.id",
        "timestamp_path": "body.created",
    }


async def test_include_in_all_spellings(client: httpx.AsyncClient) -> None:
    everything = "branding,default_action_mappings,example_payloads,preprocessing_script,static_fields"
    answers = [
        (await client.get(f"{PATH}?include={everything}")).json(),
        (await client.get(PATH, params={"include": everything.split(",")})).json(),
        (await client.get(PATH, params={"include[]": everything.split(",")})).json(),
    ]
    assert answers[0] == answers[1] == answers[2]
    shown = answers[0]
    assert shown["provider"]["branding"] is None
    assert shown["default_settings"]["preprocessing_script"] is None
    assert shown["default_action_mappings"][0].keys() == {"event_type", "action_type", "action_parameters"}
    assert shown["example_payloads"]["invoice.paid"][0].keys() == {"headers", "body"}
    assert shown["static_fields"]["properties"]["signing_secret"]["title"] == "Signing secret"


async def test_unknown(client: httpx.AsyncClient) -> None:
    missing = await client.get("/v1/source_providers/nope")
    assert missing.status_code == 404
    assert "stripe" in missing.json()["message"]
    assert fields(await client.get(f"{PATH}?include=everything,static_fields")) == ["include.0"]
