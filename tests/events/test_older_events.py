"""An event that is older than what was applied changes nothing of it: with `skip_older` nothing at all,
without only what no later event set."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from sqlalchemy import text
from starlette.responses import Response
from temporalio.client import Client

from app.replays import many
from app.retention.periods import RetentionKind, prune
from app.runtime.resources import Runtime
from app.runtime.temporal import connect
from app.worker.main import run_workers
from tests.bench import Bench, BenchSource
from tests.knock import Call, Down, KnockServer, error
from tests.servers import eventually

SUBSCRIPTION = {
    "collection": "subscriptions",
    "id": "body.data.object.id",
    "properties": "body.data.object",
}
SUBSCRIPTIONS = {
    f"customer.subscription.{each}": [("objects_set", SUBSCRIPTION)] for each in ("created", "updated")
}
IDENTIFY = {"id": "userId", "properties": "traits"}
USERS = {
    "identify": [("users_identify", IDENTIFY)],
    "user.created": [("users_identify", IDENTIFY)],
    "delete": [("users_delete", {"id": "userId"})],
}
ADA = "/v1/users/ada"


@pytest.fixture
async def source(bench: Bench, knock: KnockServer, worker: None) -> BenchSource:
    """A source of users whose events have their time at `time`."""
    return await users_source(bench, knock)


async def users_source(bench: Bench, knock: KnockServer, **options: Any) -> BenchSource:
    await bench.use_destination(knock.url)
    return await bench.source(
        "custom_http",
        mappings=USERS,
        secret=None,
        enforce_verification=False,
        timestamp_path="body.time",
        **options,
    )


async def receive(source: BenchSource, event_type: str = "identify", user: str = "ada", **body: Any) -> str:
    answer = await source.post(orjson.dumps({"type": event_type, "userId": user, **body}), {})
    assert answer.status_code == 200, answer.text
    identifier: str = answer.json()["id"]
    return identifier


async def over(source: BenchSource, identifier: str) -> dict[str, Any]:
    """The only action of an event once that is over."""
    event = await source.bench.final(identifier)
    assert event["status"] == "succeeded", event["error"]
    (action,) = await source.bench.actions(identifier)
    return action


async def replayed(source: BenchSource, identifier: str, mappings: str = "current") -> dict[str, Any]:
    """The action of a replay of an event."""
    answer = await source.bench.api.post(
        f"/v1/sources/{source.key}/logs/{identifier}/replay", json={"replay": {"mappings": mappings}}
    )
    assert answer.status_code == 201, answer.text
    return await over(source, answer.json()["replay"]["log_id"])


def stripe_event(kind: str, status: str, created: int) -> bytes:
    return orjson.dumps(
        {
            "id": f"evt_{kind}_{created}",
            "object": "event",
            "type": f"customer.subscription.{kind}",
            "created": created,
            "data": {"object": {"id": "sub_1", "object": "subscription", "status": status, "items": [kind]}},
        }
    )


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("skip_older", [True, False])
@pytest.mark.parametrize("created", [1767225265, 1767225266], ids=["older", "of the same second"])
async def test_stripes_created_after_updated(
    bench: Bench, knock: KnockServer, created: int, skip_older: bool
) -> None:
    await bench.use_destination(knock.url)
    source = await bench.source("stripe", mappings=SUBSCRIPTIONS, skip_older=skip_older)
    updated = (await source.post(stripe_event("updated", "active", 1767225266))).json()["id"]
    await over(source, updated)
    action = await over(
        source, (await source.post(stripe_event("created", "incomplete", created))).json()["id"]
    )
    held = knock.properties_of("/v1/objects/subscriptions/sub_1")
    assert held is not None
    assert (held["status"], held["items"]) == ("active", ["updated"])
    assert action["status"] == "skipped"
    assert action["error"].startswith(f"superseded: the later event {updated} of 2025-12-31T23:54:26.000Z")
    assert len(knock.calls) == 1


async def test_what_a_later_object_has_no_more_does_not_come_back(
    bench: Bench, knock: KnockServer, worker: None
) -> None:
    source = await users_source(bench, knock, skip_older=True)
    await over(source, await receive(source, time="2026-01-01T00:00:02Z", traits={"plan": "pro"}))
    action = await over(
        source, await receive(source, time="2026-01-01T00:00:01Z", traits={"plan": "free", "trial": True})
    )
    assert action["status"] == "skipped"
    assert knock.properties_of(ADA) == {"plan": "pro"}


async def test_another_source_knows_other_properties(bench: Bench, knock: KnockServer, worker: None) -> None:
    """`skip_older` is about objects as one source knows them: what another one set is no reason to lose what
    only this one knows."""
    one, other = [await users_source(bench, knock, skip_older=True) for _ in range(2)]
    await over(one, await receive(one, time="2026-01-01T00:00:02Z", traits={"plan": "pro"}))
    action = await over(
        other, await receive(other, time="2026-01-01T00:00:01Z", traits={"plan": "free", "city": "London"})
    )
    assert (action["status"], [each["property"] for each in action["left_out"]]) == ("succeeded", ["plan"])
    assert knock.properties_of(ADA) == {"plan": "pro", "city": "London"}


async def test_an_overtaken_retry_sends_what_no_later_event_set(
    source: BenchSource, knock: KnockServer
) -> None:
    knock.refuse = Down(lambda call: call.body.get("plan") == "free")
    free = await receive(source, traits={"plan": "free", "city": "London"})
    await eventually(lambda: knock.calls)
    pro = await receive(source, traits={"plan": "pro"})
    await over(source, pro)
    action = await over(source, free)
    assert knock.properties_of(ADA) == {"plan": "pro", "city": "London"}
    assert knock.done[-1].body == {"city": "London"}
    assert knock.calls[0].idempotency_key != knock.done[-1].idempotency_key, "it is another request"
    assert (action["status"], action["error"]) == ("succeeded", None)
    assert action["attempts"] == len(knock.calls) - 1 > 1
    assert action["left_out"] == [{"property": "plan", "reason": f"superseded by event {pro}"}]

    shown = await source.bench.api.get(
        f"/v1/sources/{source.key}/logs",
        params={"environment": source.bench.environment, "id": free, "include": "actions"},
    )
    assert shown.json()["entries"][0]["actions"][0]["left_out"] == action["left_out"]


@pytest.mark.parametrize("mappings", ["current", "original"])
async def test_a_replay_changes_nothing_that_a_later_event_set(
    source: BenchSource, knock: KnockServer, mappings: str
) -> None:
    free = await receive(source, traits={"plan": "free"})
    await over(source, free)
    pro = await receive(source, traits={"plan": "pro"})
    await over(source, pro)
    action = await replayed(source, free, mappings)
    assert action["status"] == "skipped"
    assert action["error"] == f"superseded: the later event {pro} set all of it"
    assert action["left_out"] == [{"property": "plan", "reason": f"superseded by event {pro}"}]
    assert (await replayed(source, str(action["event_id"]), mappings))["status"] == "skipped", "of a replay"
    assert (await replayed(source, pro, mappings))["status"] == "succeeded", "the last one may be repeated"
    assert [each.body["plan"] for each in knock.done] == ["free", "pro", "pro"]
    assert (await replayed(source, free, mappings))["status"] == "skipped"


async def test_a_late_merge_by_its_own_time(source: BenchSource, knock: KnockServer) -> None:
    await over(source, await receive(source, time="2026-01-01T11:00:00Z", traits={"plan": "pro"}))
    late = await receive(source, time="2026-01-01T10:00:00Z", traits={"plan": "free", "device": "phone"})
    assert (await over(source, late))["status"] == "succeeded"
    assert knock.properties_of(ADA) == {"plan": "pro", "device": "phone"}


async def test_by_receipt_where_an_event_has_no_time(source: BenchSource, knock: KnockServer) -> None:
    await over(source, await receive(source, traits={"plan": "free"}))
    await over(source, await receive(source, time="2026-01-01T10:00:00Z", traits={"plan": "pro"}))
    await over(source, await receive(source, traits={"plan": "team"}))
    assert knock.properties_of(ADA) == {"plan": "team"}


async def test_a_clock_that_is_ahead_does_not_shut_out_what_comes_later(
    source: BenchSource, knock: KnockServer
) -> None:
    await over(source, await receive(source, time="2099-01-01T00:00:00Z", traits={"plan": "free"}))
    await over(source, await receive(source, time="2099-01-01T00:00:00Z", traits={"plan": "pro"}))
    assert knock.properties_of(ADA) == {"plan": "pro"}


async def test_parts_of_objects_are_told_apart(source: BenchSource, knock: KnockServer) -> None:
    later = {"address": {"city": "London", "geo": {"lat": 1}}, "a.b": 1, "tags": ["x"], "flat": "text"}
    await over(source, await receive(source, time="2026-01-01T00:00:02Z", traits=later))
    older = {
        "address": {"city": "Paris", "zip": "75001", "geo": {"lat": 2, "lon": 3}},
        "a": {"b": 2},
        "a.b": 3,
        "tags": ["y", "z"],
        "flat": {"now": "an object"},
    }
    action = await over(source, await receive(source, time="2026-01-01T00:00:01Z", traits=older))
    assert knock.done[-1].body == {"address": {"zip": "75001", "geo": {"lon": 3}}, "a": {"b": 2}}
    assert [each["property"] for each in action["left_out"]] == [
        "address.city",
        "address.geo.lat",
        '"a.b"',
        "tags",
        "flat.now",
    ]


async def test_a_deletion_counts_for_everything(source: BenchSource, knock: KnockServer) -> None:
    first = await receive(source, traits={"plan": "free"})
    await over(source, first)
    gone = await receive(source, "delete")
    await over(source, gone)
    action = await replayed(source, first)
    assert (action["status"], action["error"]) == (
        "skipped",
        f"superseded: the later event {gone} deleted it",
    )
    assert knock.properties_of(ADA) is None
    await over(source, await receive(source, traits={"plan": "pro"}))
    assert knock.properties_of(ADA) == {"plan": "pro"}, "what comes later creates it again"
    assert (await replayed(source, gone))["error"].endswith("set it again")
    assert (await replayed(source, first))["status"] == "skipped"
    assert knock.properties_of(ADA) == {"plan": "pro"}


async def test_two_actions_of_one_event_do_not_supersede_each_other(
    bench: Bench, knock: KnockServer, worker: None
) -> None:
    await bench.use_destination(knock.url)
    both = [("users_identify", {"id": "userId", "name": "name"}), ("users_identify", IDENTIFY)]
    source = await bench.source(
        "custom_http", mappings={"identify": both}, secret=None, enforce_verification=False
    )
    event = await bench.final(await receive(source, name="Ada", traits={"name": "Lovelace", "plan": "pro"}))
    assert {each["status"] for each in await bench.actions(event["id"])} == {"succeeded"}
    assert len(knock.done) == 2


async def test_another_destination_starts_anew(source: BenchSource, knock: KnockServer) -> None:
    first = await receive(source, traits={"plan": "free"})
    await over(source, first)
    await over(source, await receive(source, traits={"plan": "pro"}))
    await source.bench.use_destination(knock.url, "sk_of_another_account")
    assert (await replayed(source, first))["status"] == "succeeded"


@pytest.mark.parametrize("user", ["ada\x00", "a" * 5000, "a/b?c", "é" * 300])
async def test_ids_of_any_kind(source: BenchSource, knock: KnockServer, user: str) -> None:
    first = await receive(source, user=user, traits={"plan": "free", "\x00": 1, "n" * 5000: 2})
    (before,) = await source.bench.actions((await source.bench.final(first))["id"])
    pro = await receive(source, user=user, traits={"plan": "pro", "\x00": 2, "n" * 5000: 3})
    await source.bench.final(pro)
    answer = await source.bench.api.post(f"/v1/sources/{source.key}/logs/{first}/replay")
    await source.bench.final(answer.json()["replay"]["log_id"])
    (again,) = await source.bench.actions(answer.json()["replay"]["log_id"])
    # Some ids no destination takes; what one took is known.
    assert again["status"] == ("skipped" if before["status"] == "succeeded" else before["status"])


@pytest.fixture
async def workers(runtime: Runtime, temporal: Client, environment: str) -> AsyncIterator[None]:
    """Two worker processes' worth of workers that serve the test's environment."""
    other = await connect(runtime.settings)
    async with run_workers(runtime, temporal, [environment]), run_workers(runtime, other, [environment]):
        yield


@pytest.mark.usefixtures("workers")
async def test_many_events_of_few_users_at_two_workers(bench: Bench, knock: KnockServer) -> None:
    """With times of their own, shuffled, and a destination that fails now and then: the last one holds."""
    source = await users_source(bench, knock)
    numbers = [7, 2, 9, 4, 1, 8, 3, 6, 0, 5]
    failing = iter([True, *[False] * 9] * 1000)

    async def refuse(call: Call) -> Response | None:
        await asyncio.sleep(0.01 * (len(call.path) % 3))
        return error(503, "unavailable", "down") if next(failing) else None

    knock.refuse = refuse
    identifiers = await asyncio.gather(
        *(
            receive(
                source,
                user=f"user-{user}",
                time=f"2026-01-01T00:00:0{number}Z",
                traits={"last": number, f"only-{number}": number},
            )
            for number in numbers
            for user in range(4)
        )
    )
    for each in identifiers:
        assert (await bench.final(each))["status"] == "succeeded"
    for user in range(4):
        held = knock.properties_of(f"/v1/users/user-{user}")
        assert held == {"last": 9, **{f"only-{number}": number for number in range(10)}}


async def test_the_dry_run_of_a_replay_counts_what_is_older(
    source: BenchSource, knock: KnockServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(many, "OLDER_SECONDS", 60.0)
    for user in ("ada", "bob"):
        for plan in ("free", "pro"):
            await over(source, await receive(source, user=user, traits={"plan": plan}))
    await over(source, await receive(source, "delete", "bob"))
    dry = await source.bench.api.post(
        f"/v1/sources/{source.key}/replays",
        params={"environment": source.bench.environment},
        json={"replay": {"dry_run": True}},
    )
    assert (dry.status_code, dry.json()["total"]) == (200, 5)
    assert dry.json()["older"] == {"events": 3, "looked_at": 5}
    some = await source.bench.api.post(
        f"/v1/sources/{source.key}/replays",
        params={"environment": source.bench.environment},
        json={"replay": {"dry_run": True, "filter": {"event": "delete"}}},
    )
    assert some.json()["older"] == {"events": 0, "looked_at": 1}


async def test_it_is_kept_as_long_as_the_logs(source: BenchSource, knock: KnockServer) -> None:
    await over(source, await receive(source, traits={"plan": "pro"}))
    await over(source, await receive(source, user="bob", traits={"plan": "pro"}))
    async with source.bench.runtime.engine.begin() as connection:
        await connection.execute(
            text("UPDATE applied_changes SET last_on = last_on - 31 WHERE id = 'bob'"),
        )
        assert await prune(connection, RetentionKind.LOGS, 30) == 1
    assert [each["id"] for each in await source.bench.rows("SELECT id FROM applied_changes")] == ["ada"]
