"""Source keys and environment keys, as tests need them."""

from typing import Any

import httpx

from tests.bench import Bench, BenchSource
from tests.servers import eventually


async def source_key(source: BenchSource) -> str:
    """A key of the source, issued through the Management API."""
    api, environment = source.bench.api, source.bench.environment
    answer = await api.post(f"/v1/sources/{source.key}/keys", params={"environment": environment})
    assert answer.status_code == 201, answer.text
    key: str = answer.json()["key"]["api_key"]
    return key


async def environment_key(bench: Bench) -> str:
    """A key of the environment's directory, of which the API process knows where its actions run."""
    await bench.source()
    answer = await bench.api.post(f"/v1/environments/{bench.environment}/keys")
    assert answer.status_code == 201, answer.text
    key: str = answer.json()["key"]["api_key"]
    return key


async def events(source: BenchSource) -> list[dict[str, Any]]:
    """The source's events, the oldest first, with their bodies."""
    return await source.bench.rows(
        "SELECT e.*, convert_from(p.body, 'UTF8')::json AS body, p.headers FROM events e "
        "JOIN event_payloads p USING (id) WHERE source_key = :key ORDER BY id",
        key=source.key,
    )


class Caller:
    """Calls the API with a key."""

    def __init__(self, bench: Bench, key: str) -> None:
        self._bench = bench
        self._key = key

    async def __call__(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {self._key}", **options.pop("headers", {})}
        return await self._bench.api.request(method, path, headers=headers, **options)

    async def until_refused(self, path: str) -> None:
        async def refused() -> bool:
            return (await self("GET", path)).status_code == 401

        await eventually(refused)
