"""What calls of customer data platforms do to users and tenants: names, personal data, aliases, consent, and
clocks that are wrong."""

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from tests.api.tracking.test_sdks import source_for
from tests.api.tracking.test_tracking import send
from tests.bench import Bench, BenchSource
from tests.servers import eventually

PLATFORMS = ["segment", "rudderstack", "jitsu", "freshpaint"]
PERSON = {"name": "Ada Example", "email": "ada@example.com", "phone": "+15550100100"}


async def rows(source: BenchSource) -> list[dict[str, Any]]:
    return await source.bench.rows(
        "SELECT e.*, p.preprocess_output FROM events e JOIN event_payloads p USING (id) "
        "WHERE source_key = :key ORDER BY e.id",
        key=source.key,
    )


async def finished(source: BenchSource, count: int = 1) -> list[dict[str, Any]]:
    """All events of the source, over."""

    async def enough() -> list[dict[str, Any]]:
        found = await rows(source)
        return found if len(found) >= count else []

    return [await source.bench.final(each["id"]) for each in await eventually(enough)]


async def recipient(bench: Bench, collection: str, identifier: str) -> dict[str, Any] | None:
    found = await bench.rows(
        "SELECT properties FROM directory_recipients WHERE environment = :environment "
        "AND collection = :collection AND id = :id",
        environment=bench.environment,
        collection=collection,
        id=identifier,
    )
    return found[0]["properties"] if found else None


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("platform", PLATFORMS)
async def test_a_tenant_gets_nothing_of_its_users(bench: Bench, platform: str) -> None:
    source = await source_for(bench, platform)
    group = {"userId": "ada", "groupId": "acme", "context": {"traits": PERSON}}
    assert (await send(source, "/v1/group", {**group, "traits": {"industry": "IT"}})).status_code == 200
    assert (await send(source, "/v1/group", {**group, "groupId": "other"})).status_code == 200
    assert {each["status"] for each in await finished(source, 2)} == {"succeeded"}
    assert await recipient(bench, "$tenants", "acme") == {"industry": "IT"}
    assert await recipient(bench, "$tenants", "other") == {}
    for each in await rows(source):
        assert "ada@example.com" not in str(each["preprocess_output"])


NAMES: list[tuple[dict[str, Any], str | None]] = [
    ({"name": {"first": "Ada", "last": "Example"}}, "Ada Example"),
    ({"name": {"first": "Ada"}}, "Ada"),
    ({"name": {"firstName": "Ada", "lastName": "Example"}}, "Ada Example"),
    ({"name": {"first_name": " Ada ", "last_name": "Example"}}, "Ada Example"),
    ({"name": {"first": 1, "last": None}, "lastName": "Example"}, "Example"),
    ({"firstname": "Ada", "lastname": "Example"}, "Ada Example"),
    ({"firstName": "Ada", "lastName": "Example"}, "Ada Example"),
    ({"first_name": "Ada", "last_name": "Example"}, "Ada Example"),
    ({"FIRST_NAME": "Ada", "Last-Name": "Example"}, "Ada Example"),
    ({"name": "Ada Example", "firstname": "Grace"}, "Ada Example"),
    ({"name": "  ", "firstname": "Grace"}, "Grace"),
    ({"name": 7}, "7"),
    ({"name": ["Ada"]}, None),
    ({"name": True}, None),
    ({"name": {}}, None),
]


@pytest.mark.parametrize(("traits", "name"), NAMES)
async def test_names(bench: Bench, traits: dict[str, Any], name: str | None) -> None:
    source = await source_for(bench, "segment")
    await send(source, "/v1/identify", {"userId": "ada", "traits": traits})
    await send(source, "/v1/identify", {"userId": "ada", "context": {"traits": traits}})
    assert [each["preprocess_output"]["name"] for each in await rows(source)] == [name, name]


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("platform", PLATFORMS)
async def test_alias_merges_users(bench: Bench, platform: str) -> None:
    source = await source_for(bench, platform)
    for number, (user, traits) in enumerate([("visitor-7", {"plan": "pro"}), ("ada", {"city": "Rome"})], 1):
        await send(source, "/v1/identify", {"userId": user, "traits": traits})
        assert (await finished(source, number))[-1]["status"] == "succeeded"
    await send(source, "/v1/alias", {"userId": "ada", "previousId": "visitor-7"})
    assert (await finished(source, 3))[-1]["status"] == "succeeded"
    assert await recipient(bench, "$users", "ada") == {"plan": "pro", "city": "Rome"}
    assert await recipient(bench, "$users", "visitor-7") is None


@pytest.mark.usefixtures("worker")
async def test_alias_of_users_that_are_not_there(bench: Bench) -> None:
    source = await source_for(bench, "segment")
    await send(source, "/v1/identify", {"userId": "visitor-8", "traits": {"plan": "pro"}})
    await finished(source, 1)
    aliases = [("new", "visitor-8"), ("ada", "never-seen"), ("new", "new"), ("new", "visitor-8")]
    for number, (user, previous) in enumerate(aliases, 2):
        await send(source, "/v1/alias", {"userId": user, "previousId": previous})
        last = (await finished(source, number))[-1]
        assert last["status"] == "succeeded", last["error"]
    assert await recipient(bench, "$users", "new") == {"plan": "pro"}
    assert await recipient(bench, "$users", "ada") is None


@pytest.mark.usefixtures("worker")
async def test_a_mapping_of_alias_replaces_the_merge(bench: Bench) -> None:
    mapping = [("users_identify", {"id": "body.userId", "properties": {"was": "body.previousId"}})]
    source = await bench.source("segment", secret=None, mappings={"alias": mapping})
    await send(source, "/v1/alias", {"userId": "ada", "previousId": "visitor-7"})
    (event,) = await finished(source)
    assert [each["action_type"] for each in await bench.actions(event["id"])] == ["users_identify"]


EXCLUDED: list[dict[str, Any]] = [
    {"All": False},
    {"all": False, "Amplitude": True},
    {"Doorbell": False},
    {"All": True, "doorbell": False},
    {"Knock": False},
    {"Doorbell": True, "Knock": False},
]
INCLUDED: list[Any] = [
    {},
    None,
    "odd",
    {"All": True},
    {"All": False, "Doorbell": True},
    {"All": False, "Knock": {"option": 1}},
    {"Amplitude": False},
    {"All": "false"},
]


@pytest.mark.usefixtures("worker")
async def test_consent(bench: Bench) -> None:
    source = await source_for(bench, "segment")
    for number, integrations in enumerate([*EXCLUDED, *INCLUDED]):
        call = {"userId": f"u{number}", "traits": {"n": number}, "integrations": integrations}
        assert (await send(source, "/v1/identify", call)).status_code == 200
    events = await finished(source, len(EXCLUDED) + len(INCLUDED))
    for event in events[: len(EXCLUDED)]:
        assert event["status"] == "ignored"
        assert "does not let Doorbell act" in event["error"]
    assert {event["status"] for event in events[len(EXCLUDED) :]} == {"succeeded"}
    for number in range(len(events)):
        known = await recipient(bench, "$users", f"u{number}") is not None
        assert known is (number >= len(EXCLUDED)), number


@pytest.mark.usefixtures("worker")
async def test_consent_of_a_batch_and_on_replay(bench: Bench) -> None:
    source = await source_for(bench, "segment")
    calls = [
        {"type": "identify", "userId": "a"},
        {"type": "identify", "userId": "b", "integrations": {"Doorbell": True}},
    ]
    await send(source, "/v1/batch", {"batch": calls, "integrations": {"All": False}})
    first, second = await finished(source, 2)
    assert (first["status"], second["status"]) == ("ignored", "succeeded")
    path = f"/v1/sources/{source.key}/logs/{first['id']}/replay"
    replayed = await bench.api.post(path)
    again = await bench.final(replayed.json()["replay"]["log_id"])
    assert again["status"] == "ignored"
    assert await recipient(bench, "$users", "a") is None


async def test_a_delivery_was_filtered_by_the_platform(bench: Bench) -> None:
    """Its `integrations` say so of other destinations too: what reaches the URL was meant to."""
    source = await bench.source("segment", secret=None)
    call = {"type": "identify", "userId": "a", "messageId": "m", "timestamp": "2026-01-15T12:00:00Z"}
    await source.post(orjson.dumps({**call, "integrations": {"All": False}}), {})
    (event,) = await rows(source)
    assert (event["status"], event["error"]) == ("received", None)


FAR = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("clock", [FAR, datetime(2001, 1, 1, tzinfo=UTC), datetime.now(UTC)])
async def test_a_clock_that_is_wrong_is_corrected(bench: Bench, clock: datetime) -> None:
    source = await source_for(bench, "segment")
    call = {"type": "track", "event": "A", "timestamp": (clock - timedelta(minutes=5)).isoformat()}
    sent_at = clock.isoformat()
    await send(source, "/v1/track", {**call, "sentAt": sent_at})
    await send(source, "/v1/batch", {"batch": [call, call], "sentAt": sent_at})
    found = await rows(source)
    assert len(found) == 3
    for event in found:
        assert abs(event["received_at"] - event["occurred_at"] - timedelta(minutes=5)) < timedelta(seconds=5)


async def test_times_that_tell_nothing_about_the_clock(bench: Bench) -> None:
    source = await source_for(bench, "segment")
    call = {"type": "track", "event": "A", "timestamp": "2026-01-01T00:00:00Z"}
    for sent_at in (None, "", "soon", [], "0001-01-01T00:00:00Z"):
        await send(source, "/v1/track", {**call, "sentAt": sent_at})
    await send(source, "/v1/track", {"type": "track", "event": "A", "timestamp": "x", "sentAt": "2030-01-01"})
    found = [each["occurred_at"] for each in await rows(source)]
    assert [each and each.year for each in found] == [2026] * 5 + [None]
