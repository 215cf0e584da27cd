"""Service tokens that are limited to some environments: every route, and what answers and changes hold."""

from typing import Any

import httpx
import pytest

from app.account.tokens import issue_token
from app.api.management.environment_limits import OF_ACCOUNT, OF_ROWS, OPEN
from app.core.errors import ConfigurationError
from app.runtime.resources import Runtime
from tests.api.management.conftest import Put, fields
from tests.api.management.test_access import ROUTES
from tests.bench import Api, Bench

MISSING = "01a20df1-e8fc-72f9-a988-19f172a42afd"
HERE, THERE = {"environment": "development"}, {"environment": "production"}


@pytest.fixture
async def limited(client: httpx.AsyncClient) -> dict[str, str]:
    """The headers of an admin whose token is limited to development."""
    asked = {"name": "dev", "scope": "admin", "environments": ["development"]}
    issued = await client.post("/v1/service_tokens", json={"service_token": asked})
    assert issued.status_code == 201, issued.text
    assert issued.json()["service_token"]["environments"] == ["development"]
    return {"authorization": f"Bearer {issued.json()['service_token']['token']}"}


def refused(answer: httpx.Response) -> bool:
    if answer.status_code != 403:
        return False
    assert answer.json()["code"] == "environment_not_permitted"
    assert answer.json()["message"].startswith("The service token 'dev' is limited to development: ")
    return True


async def test_every_route_is_closed_to_other_environments(
    client: httpx.AsyncClient, limited: dict[str, str]
) -> None:
    """With another environment named, and with none: what is not refused is known by name."""
    operations = {f"{method} {path.removeprefix('/v1')}": (method, path) for method, path in ROUTES}
    assert operations.keys() >= OPEN | OF_ROWS.keys() | OF_ACCOUNT, "the lists name routes that there are"
    answered_elsewhere, answered_without = set(), set()
    for operation, (method, path) in operations.items():
        url = path.replace("{key}", "shop").replace("{id}", MISSING).replace("{event:path}", "a")
        url = url.replace("{workflow_key}", "ring").replace("{environment_slug}", "production")
        named = await client.request(method, url, params=THERE, headers=limited, json={})
        unnamed = await client.request(method, url, headers=limited, json={})
        answered_elsewhere |= set() if refused(named) else {operation}
        answered_without |= set() if refused(unnamed) else {operation}
    without_environment = {
        "GET /environments",
        "GET /source_providers",
        "GET /source_providers/{key}",
        "GET /variables/{key}",
        "GET /whoami",
        "POST /sources/{key}/promote",
    }
    assert answered_elsewhere == without_environment | OF_ROWS.keys()
    assert answered_without == OPEN | OF_ROWS.keys()


async def test_answers_show_the_token_s_environments_only(
    client: httpx.AsyncClient, put: Put, limited: dict[str, str]
) -> None:
    assert (await put("shop", {"name": "Shop", "preconfigured_provider": "stripe"})).status_code == 200
    values = {"development": "d", "production": "p"}
    variable = {"value": "x", "environment_values": values}
    await client.put("/v1/variables/REGION", json={"variable": variable})

    async def read(path: str, **params: str) -> Any:
        answer = await client.get(path, params=params, headers=limited)
        assert answer.status_code == 200, answer.text
        return answer.json()

    assert (await read("/v1/sources/shop", **HERE))["environment_settings"].keys() == {"development"}
    listed = await read("/v1/sources", include="environment_settings")
    assert listed["entries"][0]["environment_settings"].keys() == {"development"}
    assert [each["slug"] for each in (await read("/v1/environments"))["entries"]] == ["development"]
    assert (await read("/v1/variables/REGION"))["environment_values"] == {"development": "d"}
    assert (await read("/v1/variables"))["entries"][0]["environment_values"] == {"development": "d"}
    assert (await read("/v1/whoami"))["service_token_environments"] == ["development"]
    assert (await read("/v1/sources/shop/status"))["events_count"] == 0
    assert (await client.get("/v1/whoami")).json()["service_token_environments"] is None


async def test_changes_touch_the_token_s_environments_only(
    client: httpx.AsyncClient, put: Put, limited: dict[str, str]
) -> None:
    await put("shop", {"name": "Shop", "preconfigured_provider": "stripe"})

    async def change(source: dict[str, Any], key: str = "shop") -> httpx.Response:
        return await client.put(
            f"/v1/sources/{key}", params=HERE, headers=limited, json={"source": {"name": "Shop", **source}}
        )

    def settings(environment: str) -> dict[str, Any]:
        return {"environment_settings": {environment: {"settings": {"start_unmapped": False}}}}

    assert (await change(settings("development"))).status_code == 200
    assert refused(await change(settings("production")))
    assert refused(await change({"description": "mine now"}))
    assert refused(await change({"preconfigured_provider": "stripe"}, key="new"))
    assert (await client.get("/v1/sources/new", params=HERE)).status_code == 404, "nothing was saved"
    found = (await client.get("/v1/sources/shop", params=HERE)).json()
    assert found["description"] is None
    assert found["environment_settings"]["production"]["settings"]["start_unmapped"] is True
    for origin, target in (("development", "production"), ("production", "development")):
        promotion = {"promotion": {"from": origin, "to": target, "dry_run": True}}
        assert refused(await client.post("/v1/sources/shop/promote", headers=limited, json=promotion))


async def test_entries_of_other_environments_stay_closed(bench: Bench) -> None:
    source = await bench.source("http", secret=None, enforce_verification=False)
    assert (await source.post(b'{"type": "a"}', {})).status_code == 204
    path = f"/v1/sources/{source.key}"
    configured = await bench.api.put(path, params=HERE, json={"source": {"name": "Elsewhere too"}})
    assert configured.status_code == 200
    entry = (await bench.rows("SELECT id FROM events WHERE source_key = :key", key=source.key))[0]["id"]
    token = await issue_token(bench.runtime.settings, "dev", "write", ["development"])
    async with Api(str(bench.api.base_url), token) as limited:
        assert refused(await limited.get(f"{path}/logs/{entry}"))
        assert refused(await limited.post(f"{path}/logs/{entry}/replay"))
        test = {"event_type": "a", "log_id": str(entry)}
        assert refused(await limited.post(f"{path}/mappings/test", params=HERE, json=test))
        assert (await limited.get(f"{path}/logs/not-an-id")).status_code == 422
    token = await issue_token(bench.runtime.settings, "own", "read", [bench.environment])
    async with Api(str(bench.api.base_url), token) as limited:
        assert (await limited.get(f"{path}/logs/{entry}")).status_code == 200


async def test_limits_name_environments_that_there_are(client: httpx.AsyncClient, runtime: Runtime) -> None:
    for environments in (["nowhere"], []):
        asked = {"name": "x", "scope": "read", "environments": environments}
        answer = await client.post("/v1/service_tokens", json={"service_token": asked})
        assert fields(answer) == ["service_token.environments"]
    with pytest.raises(ConfigurationError, match="there are development, production"):
        await issue_token(runtime.settings, "x", "read", ["nowhere"])
