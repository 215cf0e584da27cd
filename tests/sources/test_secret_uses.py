"""Which signing secret matched: noted with each event, and in the list of secrets without a write for
each."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlmodel.ext.asyncio.session import AsyncSession

from app.models.types import now
from app.sources.secret_uses import SecretUses, last_matches
from app.sources.store import get_configured
from tests.bench import Api, Bench
from tests.conftest import serve_api
from tests.servers import eventually

FIRST, SECOND = "whsec_Zmlyc3Q=", "whsec_c2Vjb25k"


@pytest.mark.usefixtures("worker")
async def test_the_secret_that_matched_is_shown(bench: Bench) -> None:
    source = await bench.source("stripe", secret=None)
    here, path = {"environment": bench.environment}, f"/v1/sources/{source.key}"

    async def add(value: str, **more: Any) -> str:
        answer = await bench.api.post(
            f"{path}/secrets", params=here, json={"secret": {"value": value, **more}}
        )
        assert answer.status_code == 201, answer.text
        return str(answer.json()["secret"]["id"])

    async def matches() -> dict[str, str | None]:
        entries = (await bench.api.get(f"{path}/secrets", params=here)).json()["entries"]
        assert all("whsec" not in str(each) for each in entries)
        return {each["id"]: each["last_matched_at"] for each in entries}

    first = await add(FIRST)
    second = await add(SECOND, expire_others_in_seconds=3600)
    assert await matches() == {first: None, second: None}

    # An API process of its own, which writes what it noted when it stops.
    async with serve_api(bench.runtime.settings) as url, Api(url, "none") as sender:
        for secret, identifier in ((FIRST, first), (SECOND, second)):
            body = source.example("invoice.paid")
            answer = await sender.post(source.path, content=body, headers=source.signed(body, secret))
            assert answer.status_code == 200, answer.text
            await bench.final(answer.json()["id"])
            shown = (await bench.api.get(f"{path}/logs/{answer.json()['id']}")).json()
            assert shown["signing_secret_id"] == identifier
            assert shown["verification_status"] == "enforced:verified"
            listed = await bench.api.get(f"{path}/logs", params={**here, "id": shown["id"]})
            assert listed.json()["entries"][0]["signing_secret_id"] == identifier
        assert await matches() == {first: None, second: None}, "nothing is written for each event"
    assert all((await matches()).values())

    async with bench.runtime.engine.begin() as connection:
        await connection.exec_driver_sql(
            "UPDATE signing_secrets SET expires_at = now() WHERE id = %s", (first,)
        )

    async def expired() -> bool:
        answer = await bench.api.post(source.path, content=body, headers=source.signed(body, FIRST))
        return answer.status_code == 401

    await eventually(expired)
    rejected = await bench.rows(
        "SELECT signing_secret_id FROM events WHERE source_key = :key AND status = 'rejected'", key=source.key
    )
    assert [row["signing_secret_id"] for row in rejected] == [None], "an expired secret does not match"


async def test_matches_are_written_now_and_then(bench: Bench) -> None:
    source = await bench.source("stripe")
    engine = bench.runtime.engine
    secret: UUID = (await bench.rows("SELECT id FROM signing_secrets"))[0]["id"]
    earlier, later = now() - timedelta(minutes=5), now()

    async def last() -> dict[UUID, Any]:
        async with AsyncSession(engine) as session:
            return await last_matches(session, await get_configured(session, source.key, bench.environment))

    uses = SecretUses(engine, write_every=timedelta(milliseconds=10))
    async with uses.written():
        uses.note(secret, later)
        uses.note(UUID(int=1), later)
        uses.note(None, later)
        await eventually(last)
    behind = SecretUses(engine)
    async with behind.written():
        behind.note(secret, earlier)
    assert await last() == {secret: later}, "another process's earlier match does not count"
