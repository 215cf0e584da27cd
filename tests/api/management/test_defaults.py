"""What a new source does before anybody changed it: nothing that destroys, and what its vendor's own setup
needs."""

import httpx
import pytest

from app.providers.base import DESTRUCTIVE
from app.providers.registry import providers
from tests.api.management.conftest import Put
from tests.bench import Api
from tests.servers import eventually


@pytest.mark.parametrize("key", sorted(providers()))
async def test_mappings_that_destroy_start_inactive(client: httpx.AsyncClient, put: Put, key: str) -> None:
    await put(key.replace("_", "-"), {"name": key, "preconfigured_provider": key})
    answer = await client.get(f"/v1/sources/{key.replace('_', '-')}", params={"environment": "development"})
    for configured in answer.json()["environment_settings"].values():
        for mapping in configured["mappings"]:
            assert mapping["active"] is (mapping["action_type"] not in DESTRUCTIVE), mapping


@pytest.mark.parametrize("key", ["segment", "rudderstack", "jitsu", "freshpaint"])
async def test_platforms_send_without_a_secret_at_first(api: Api, key: str) -> None:
    """Set up by Knock's own steps, which know of no secret; calls of libraries too."""
    answer = await api.put(
        f"/v1/sources/{key}",
        params={"environment": "development"},
        json={"source": {"name": key, "preconfigured_provider": key}},
    )
    settings = answer.json()["source"]["environment_settings"]["development"]["settings"]
    assert settings["enforce_verification"] is False
    path = "/integrations/receive/" + settings["endpoint"].rpartition("/")[2]

    async def known() -> bool:
        return (await api.post(path, json={"type": "identify", "userId": "ada"})).status_code == 200

    await eventually(known)
    token = path.rpartition("/")[2]
    call = {"type": "identify", "userId": "ada", "writeKey": token}
    assert (await api.post("/v1/identify", json=call)).status_code == 200
