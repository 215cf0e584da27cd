"""Times that callers give: without an offset they are in UTC, wherever the server is; at the ends of the
calendar, where the same time has no date in another zone, they are answered and never stored."""

import base64
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.account.tokens import issue_key
from app.runtime.resources import Runtime
from tests.api.management.conftest import Put, fields
from tests.bench import Api

ENDS = (
    "0001-01-01T00:00:00",
    "0001-01-01T00:00:00Z",
    "0001-01-01T00:00:00+14:00",
    "1969-12-31T23:59:59Z",
    "9999-12-31T00:00:00Z",
    "9999-12-31T23:59:59.999999Z",
    "9999-12-31T23:59:59-14:00",
)
LISTS = (
    "/v1/logs?environment=development",
    "/v1/logs?environment=development&search=x",
    "/v1/audit_log?limit=1",
    "/v1/statistics?environment=development",
    "/v1/statistics?environment=development&interval=minute",
)


@pytest.fixture(autouse=True)
async def shop(put: Put) -> None:
    await put("shop", {"name": "Shop"})


@pytest.mark.parametrize("name", ["starting_at", "ending_at"])
@pytest.mark.parametrize("moment", ENDS)
async def test_filters_take_the_ends_of_the_calendar(
    client: httpx.AsyncClient, name: str, moment: str
) -> None:
    for path in LISTS:
        answer = await client.get(path, params={**httpx.URL(path).params, name: moment})
        assert answer.status_code in (200, 422), f"{path}: {answer.text}"
    for path, body in (
        ("/v1/sources/shop/replays", {"replay": {"dry_run": True, "filter": {name: moment}}}),
        (
            "/v1/erasures",
            {"erasure": {"user_id": "u", "dry_run": True, "search": ["u@example.com"], name: moment}},
        ),
    ):
        answer = await client.post(path, params={"environment": "development"}, json=body)
        assert answer.is_success, f"{path}: {answer.text}"


async def test_the_directory_takes_them_too(api: Api, runtime: Runtime) -> None:
    key = await issue_key(runtime.settings, "development", "tests")
    async with Api(str(api.base_url), key) as directory:
        for moment in ENDS:
            for path, query in (
                ("/v1/workflow_recipient_runs", {"starting_at": moment, "ending_at": moment}),
                ("/v1/messages", {"inserted_at[gte]": moment, "inserted_at[lt]": moment}),
            ):
                answer = await directory.get(path, params=query)
                assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("day", ["0001-01-01", "9999-12-31"])
async def test_days_at_the_ends(client: httpx.AsyncClient, day: str) -> None:
    answer = await client.get("/v1/logs", params={"environment": "development", "date": day})
    assert answer.json()["entries"] == []


@pytest.mark.parametrize("name", ["after", "before"])
async def test_cursors_beyond_them_are_none(client: httpx.AsyncClient, name: str) -> None:
    cursor = base64.urlsafe_b64encode(UUID(int=2**128 - 1).bytes).decode().rstrip("=")
    assert fields(await client.get("/v1/logs", params={"environment": "development", name: cursor})) == [name]


@pytest.mark.parametrize("moment", ENDS[1:])
async def test_a_secret_does_not_expire_beyond_them(
    client: httpx.AsyncClient, runtime: Runtime, moment: str
) -> None:
    """Stored, it could not be read, and with it no configuration at all."""
    path, secret = (
        "/v1/sources/shop/secrets?environment=development",
        {"value": "sesame", "expires_at": moment},
    )
    assert fields(await client.post(path, json={"secret": secret})) == ["secret.expires_at"]
    assert (await client.get(path)).json() == {"entries": []}
    await runtime.configuration.refresh()


@pytest.fixture
def far_east(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The zone of this machine, 14 hours before UTC."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Pacific/Kiritimati")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("far_east")
async def test_times_without_an_offset_are_in_utc_whatever_the_zone_of_the_machine(
    client: httpx.AsyncClient,
) -> None:
    wanted: dict[str, Any] = {"starting_at": "2026-01-15T12:00:00", "ending_at": "2026-01-15T14:00:00+02:00"}
    answer = await client.post(
        "/v1/sources/shop/replays",
        params={"environment": "development"},
        json={"replay": {"filter": wanted}},
    )
    assert answer.status_code == 201, answer.text
    shown = answer.json()["replay"]["filter"]
    noon = datetime(2026, 1, 15, 12, tzinfo=UTC)
    assert [datetime.fromisoformat(shown[name]) for name in wanted] == [noon, noon]
