"""What Knock's own clients send and read, and where they stumbled."""

from datetime import datetime
from typing import Any

import httpx
import pytest

from app.providers.registry import providers
from tests.api.management.conftest import Put, fields
from tests.api.management.contract import Sources
from tests.bench import Api

DEVELOPMENT = {"environment": "development"}
CONTRACT_ACTIONS = {
    "workflows_trigger",
    "users_identify",
    "users_delete",
    "objects_set",
    "objects_delete",
    "objects_subscribe",
    "objects_unsubscribe",
    "tenants_set",
    "tenants_delete",
    "audiences_add_member",
    "audiences_remove_member",
}


def in_development(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["source"]["environment_settings"]["development"]
    return found


async def test_the_list_has_what_the_command_line_reads(client: httpx.AsyncClient, put: Put) -> None:
    """`knock source list` formats `created_at` and follows `page_info`."""
    for key in ("a", "b", "c"):
        await put(key, {"name": key})
    whole = (await client.get("/v1/sources")).json()
    assert [each["key"] for each in whole["entries"]] == ["a", "b", "c"]
    assert whole["page_info"] == {"after": None, "before": None, "page_size": 3}
    for each in whole["entries"]:
        datetime.fromisoformat(each["created_at"])
        datetime.fromisoformat(each["updated_at"])
    first = (await client.get("/v1/sources", params={"limit": 2})).json()
    assert [each["key"] for each in first["entries"]] == ["a", "b"]
    after = first["page_info"]["after"]
    second = (await client.get("/v1/sources", params={"limit": 2, "after": after})).json()
    assert [each["key"] for each in second["entries"]] == ["c"]
    assert second["page_info"]["after"] is None
    before = second["page_info"]["before"]
    back = (await client.get("/v1/sources", params={"limit": 2, "before": before})).json()
    assert back["entries"] == first["entries"]
    Sources.model_validate(first)


async def test_a_cursor_of_another_list(client: httpx.AsyncClient) -> None:
    assert fields(await client.get("/v1/sources", params={"after": "WyJhIiwiYiJd"})) == ["after"]
    assert fields(await client.get("/v1/sources", params={"limit": 0})) == ["limit"]


async def test_get_without_an_environment(client: httpx.AsyncClient, put: Put) -> None:
    saved = (await put("shop", {"name": "Shop"})).json()["source"]
    assert (await client.get("/v1/sources/shop")).json() == saved


@pytest.mark.parametrize(
    "script",
    [
        "return event;",
        "export function main(event) { return { verified: true }; }",
        "export async function main({ body }) {\n  return { verified: true, type: body.type };\n}",
        "export default function (event) { return { verified: true }; }",
        "const of = (event) => ({ verified: true });\nexport default of;",
        "const helper = 1;\nevent.helper = helper;\nreturn event;",
    ],
)
async def test_scripts_as_knocks_pages_show_them(client: httpx.AsyncClient, put: Put, script: str) -> None:
    settings = {"preprocess_script": {"language": "javascript", "source": script}}
    answer = await put(
        "shop", {"name": "Shop", "environment_settings": {"development": {"settings": settings}}}
    )
    assert in_development(answer)["settings"]["preprocess_script"]["source"] == script
    rehearsed = await client.post(
        "/v1/sources/shop/script/rehearse",
        params=DEVELOPMENT,
        json={"sample": {"body": {"type": "a"}, "headers": {"authorization": "Bearer hidden"}}},
    )
    assert rehearsed.status_code == 200, rehearsed.text
    assert rehearsed.json()["error"] is None
    assert "hidden" not in rehearsed.text


@pytest.mark.parametrize(
    ("script", "line"),
    [
        ("\nexport function main() {\n  throw new Error('x');\n}", 3),
        ("\n\nexport default function () {\n  toHex(5);\n}", 4),
        ("const a = 1;\nthrow new Error(a);\nreturn a;", 2),
    ],
)
async def test_errors_of_such_scripts_name_their_line(
    client: httpx.AsyncClient, put: Put, script: str, line: int
) -> None:
    await put("shop", {"name": "Shop"})
    answer = await client.post(
        "/v1/sources/shop/script/rehearse",
        params=DEVELOPMENT,
        json={
            "script": {"language": "javascript", "source": script},
            "sample": {"body": {"type": "a"}, "headers": {}},
        },
    )
    assert answer.json()["error"]["line"] == line, answer.text


@pytest.mark.parametrize(
    "script",
    ["export const x = 1;", "export function main( {", "return (;", "import x from 'y'; export { x };"],
)
async def test_scripts_without_a_main_are_refused(put: Put, script: str) -> None:
    settings = {"preprocess_script": {"language": "javascript", "source": script}}
    source = {"name": "Shop", "environment_settings": {"development": {"settings": settings}}}
    assert fields(await put("shop", source)) == [
        "source.environment_settings.development.settings.preprocess_script.source"
    ]


async def test_an_answer_saved_under_another_key_keeps_its_provider(
    client: httpx.AsyncClient, put: Put
) -> None:
    await put("stripe", {"name": "Stripe", "preconfigured_provider": "stripe"})
    read = (await client.get("/v1/sources/stripe")).json()
    copied = await put("copy", read)
    assert copied.status_code == 200, copied.text
    copy = copied.json()["source"]
    assert copy["provider"] == "stripe"
    for slug, environment in read["environment_settings"].items():
        shown = [
            [(each["event_type"], each["action_parameters"]) for each in one["mappings"]]
            for one in (environment, copy["environment_settings"][slug])
        ]
        assert shown[0] == shown[1]
    assert fields(await put("copy", {**read, "provider": "clerk"})) == ["source.provider"]
    assert fields(await put("other", {"name": "O", "provider": "nope"})) == ["source.provider"]
    both = {"name": "O", "provider": "clerk", "preconfigured_provider": "stripe"}
    assert fields(await put("other", both)) == ["source.provider"]


async def test_a_name_alone_adds_no_mapping(put: Put) -> None:
    source = (await put("shop", {"name": "Shop"})).json()["source"]
    assert all(each["mappings"] == [] for each in source["environment_settings"].values())


@pytest.mark.parametrize("key", sorted(providers()))
async def test_default_mappings_are_within_the_contract(
    client: httpx.AsyncClient, put: Put, key: str
) -> None:
    source = (await put("shop", {"name": "Shop", "preconfigured_provider": key})).json()["source"]
    shown = {
        each["action_type"] for one in source["environment_settings"].values() for each in one["mappings"]
    }
    assert shown <= CONTRACT_ACTIONS
    provider = await client.get(f"/v1/source_providers/{key}", params={"include": "default_action_mappings"})
    assert {each["action_type"] for each in provider.json()["default_action_mappings"]} <= CONTRACT_ACTIONS


async def test_parameters_may_be_null(put: Put) -> None:
    mapping = {"event_type": "a", "action_type": "workflows_trigger", "action_parameters": None}
    source = {"name": "Shop", "environment_settings": {"development": {"mappings": [mapping]}}}
    answer = await put("shop", source)
    [saved] = in_development(answer)["mappings"]
    assert saved["action_parameters"] is None
    assert saved["created_at"] == saved["updated_at"]
    assert (await put("shop", answer.json()["source"])).json() == answer.json()


async def test_branches_are_refused(client: httpx.AsyncClient, put: Put) -> None:
    await put("shop", {"name": "Shop"})
    answer = await client.get("/v1/sources/shop", params={**DEVELOPMENT, "branch": "feature"})
    assert fields(answer) == ["branch"]
    body = {"source": {"name": "Renamed"}}
    refused = await client.put("/v1/sources/shop", params={**DEVELOPMENT, "branch": "feature"}, json=body)
    assert fields(refused) == ["branch"]
    assert (await client.get("/v1/sources/shop")).json()["name"] == "Shop"


async def test_the_advertised_secret_can_be_set_with_the_settings(
    client: httpx.AsyncClient, put: Put
) -> None:
    fields_of = await client.get("/v1/source_providers/custom_http", params={"include": "static_fields"})
    assert "signing_secret" in fields_of.json()["static_fields"]["properties"]
    settings = {"signing_secret": "open-sesame"}
    source = {"name": "Shop", "environment_settings": {"development": {"settings": settings}}}
    for _ in range(2):
        answer = await put("shop", source)
        assert "signing_secret" not in in_development(answer)["settings"]
    secrets = await client.get("/v1/sources/shop/secrets", params=DEVELOPMENT)
    assert len(secrets.json()["entries"]) == 1, secrets.text
    settings["signing_secret"] = " spaces "
    assert len(fields(await put("shop", source))) == 1


@pytest.mark.usefixtures("worker")
async def test_a_rehearsal_names_the_error_of_the_script(api: Api, bench: Any) -> None:
    script = "function main() { throw new Error('the script is wrong'); }"
    source = await bench.source(
        "custom_http", preprocess_script=script, mappings={}, enforce_verification=False
    )
    answer = await api.post(
        f"/v1/sources/{source.key}/rehearse",
        params={"environment": bench.environment},
        json={"payload": {"body": {"type": "a"}, "headers": {}}},
    )
    result = answer.json()
    assert result["status"] == "error", answer.text
    assert result["errors"][0]["field"] == "event"
    assert "the script is wrong" in result["errors"][0]["message"]


FRAMEWORK = (
    "Input should",
    "Value error",
    "after validation",
    "should have at",
    "pydantic",
    "Field required",
)


@pytest.mark.parametrize(
    "source",
    [
        {"name": 5},
        {"name": "x" * 256},
        {"name": " "},
        {"name": ""},
        {"name": "S", "custom_image_url": "ftp://x"},
        {"name": "S", "description": "x" * 5000},
        {"name": "S", "environment_settings": []},
        {"name": "S", "environment_settings": {"development": {"settings": {"rate_limit_per_second": 0}}}},
        {"name": "S", "environment_settings": {"development": {"settings": {"rate_limit_per_second": "x"}}}},
        {"name": "S", "environment_settings": {"development": {"settings": {"preprocess_script": {}}}}},
        {
            "name": "S",
            "environment_settings": {
                "development": {"settings": {"preprocess_script": {"language": "ruby", "source": ""}}}
            },
        },
        {
            "name": "S",
            "environment_settings": {
                "development": {"mappings": [{"event_type": str(n), "action_type": "a"} for n in range(1001)]}
            },
        },
    ],
)
async def test_no_text_of_a_framework(put: Put, source: dict[str, Any]) -> None:
    answer = await put("shop", source)
    assert answer.status_code == 422
    assert not any(each in answer.text for each in FRAMEWORK), answer.text
