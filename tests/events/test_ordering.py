"""Events of one ordering key end in the state that their senders meant: what public bug reports of others
show, sent over HTTP and looked at where the actions arrive."""

from itertools import groupby
from typing import Any

import orjson
import pytest
from temporalio.client import Client

from app.runtime.resources import Runtime
from app.worker.main import run_workers
from tests.api.reverse_etl.keys import source_key
from tests.bench import FINAL, Bench, BenchSource
from tests.knock import Call, Down, KnockServer, error
from tests.servers import eventually

USERS = 6
IDENTIFY = {"id": "body.user", "properties": {"n": "body.n"}}
MAPPINGS = {
    "set": [("users_identify", IDENTIFY)],
    "delete": [("users_delete", {"id": "body.user"})],
    "remind": [
        (
            "workflows_trigger",
            {"key": "remind", "recipients": ["body.user"], "cancellation_key": "body.user", "data": "body"},
        )
    ],
    "cancel": [("workflows_cancel", {"key": "remind", "cancellation_key": "body.user"})],
    "join": [("audiences_add_member", {"key": "vip", "members": "body.user"})],
    "leave": [("audiences_remove_member", {"key": "vip", "members": "body.user"})],
    "project": [("objects_set", {"collection": "projects", "id": "body.user"})],
    "subscribe": [
        ("objects_subscribe", {"collection": "projects", "id": "body.user", "recipients": "body.user"})
    ],
}


async def custom(bench: Bench, knock: KnockServer, **settings: Any) -> BenchSource:
    """A source of somebody's own, ordered by its user, against the stand-in for Knock."""
    await bench.use_destination(knock.url)
    return await own(bench, **settings)


async def own(bench: Bench, **settings: Any) -> BenchSource:
    return await bench.source(
        "custom_http",
        mappings=MAPPINGS,
        **{
            "event_type_path": "body.type",
            "idempotency_key_path": "body.id",
            "ordering_key_path": "body.user",
            "enforce_verification": False,
            **settings,
        },
    )


async def send(source: BenchSource, kind: str, user: object, **fields: Any) -> str:
    answer = await source.post(orjson.dumps({"type": kind, "user": user, **fields}), {})
    assert answer.status_code == 200, answer.text
    identifier: str = answer.json()["id"]
    return identifier


async def all_final(source: BenchSource, deadline: float = 60) -> list[dict[str, Any]]:
    """The source's events in their order of receipt, once all are over."""

    async def look() -> list[dict[str, Any]] | None:
        rows = await source.bench.rows(
            "SELECT * FROM events WHERE source_key = :key ORDER BY received_order", key=source.key
        )
        return rows if all(row["status"] in FINAL for row in rows) else None

    found = await eventually(look, deadline)
    assert found is not None
    turns = await source.bench.rows("SELECT * FROM ordering_turns WHERE source_key = :key", key=source.key)
    assert turns == [] or await eventually(lambda: no_turns(source))
    return found


async def no_turns(source: BenchSource) -> bool:
    """Whether nothing is left of what was ordered: it is let go of after the outcome is written."""
    query = "SELECT FROM ordering_turns WHERE source_key = :key"
    return await source.bench.rows(query, key=source.key) == []


def numbers(calls: list[Call], user: str) -> list[Any]:
    """What a user was set to, in the order of arrival."""
    return [call.body["n"] for call in calls if call.path == f"/v1/users/{user}" and call.method == "PUT"]


def turns(calls: list[Call], user: str) -> list[Any]:
    """The same without how often each was tried."""
    return [n for n, _ in groupby(numbers(calls, user))]


def reminders(calls: list[Call]) -> list[Any]:
    """What was triggered, in the order of arrival."""
    return [call.body["data"]["n"] for call in calls if call.path.endswith("/trigger")]


def down_for(n: int) -> Down:
    """A destination that does not take the events with this number, until told otherwise."""
    return Down(lambda call: bool(call.body["n"] == n))


@pytest.mark.usefixtures("worker")
async def test_the_last_of_a_batch_wins(bench: Bench, knock: KnockServer) -> None:
    """Segment's library sends what one page did in one array."""
    await bench.use_destination(knock.url)
    source = await bench.source("segment", enforce_verification=False, secret=None)
    users = [f"user_{number}" for number in range(USERS)]
    for user in users:
        batch = [
            {
                "type": "identify",
                "messageId": f"{user}-{version}",
                "userId": user,
                "traits": {"plan": f"v{version}"},
            }
            for version in range(1, 6)
        ]
        answer = await source.post(orjson.dumps(batch), {"content-type": "application/json"})
        assert answer.status_code == 200
    events = await all_final(source)
    assert {each["status"] for each in events} == {"succeeded"}
    for user in users:
        plans = [call.body["plan"] for call in knock.calls if call.path == f"/v1/users/{user}"]
        assert plans == ["v1", "v2", "v3", "v4", "v5"]


@pytest.mark.usefixtures("worker")
async def test_who_is_deleted_in_the_same_batch_is_gone(bench: Bench) -> None:
    source = await bench.source(
        "segment",
        mappings={
            "identify": [("users_identify", {"id": "body.userId", "properties": "body.traits"})],
            "delete": [("users_delete", {"id": "body.userId"})],
        },
        enforce_verification=False,
        secret=None,
    )
    for number in range(USERS):
        batch = [
            {"type": "identify", "userId": f"user_{number}", "messageId": f"a{number}", "traits": {}},
            {"type": "delete", "userId": f"user_{number}", "messageId": f"b{number}"},
        ]
        await source.post(orjson.dumps(batch), {"content-type": "application/json"})
    assert {each["status"] for each in await all_final(source)} == {"succeeded"}
    assert await recipients(bench) == []


async def recipients(bench: Bench) -> list[str]:
    rows = await bench.rows(
        "SELECT id FROM directory_recipients WHERE environment = :slug ORDER BY id", slug=bench.environment
    )
    return [row["id"] for row in rows]


@pytest.mark.usefixtures("worker")
async def test_the_second_of_two_deliveries_wins(bench: Bench, knock: KnockServer) -> None:
    source = await custom(bench, knock)
    for user in range(USERS):
        for version in range(3):
            await send(source, "set", f"user_{user}", n=version)
    await all_final(source)
    for user in range(USERS):
        assert numbers(knock.calls, f"user_{user}") == [0, 1, 2]


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("remind", "cancel", ["trigger", "cancel"]),
        ("join", "leave", ["POST", "DELETE"]),
        ("project", "subscribe", ["PUT", "POST"]),
        ("set", "delete", ["PUT", "DELETE"]),
    ],
)
async def test_what_undoes_or_needs_another_comes_after_it(
    bench: Bench, knock: KnockServer, first: str, second: str, expected: list[str]
) -> None:
    source = await custom(bench, knock)
    knock.delay = 0.05
    for user in range(USERS):
        await send(source, first, f"user_{user}")
        await send(source, second, f"user_{user}")
    assert {each["status"] for each in await all_final(source)} == {"succeeded"}
    for user in range(USERS):
        calls = [
            call
            for call in knock.calls
            if f"user_{user}" in call.path or f"user_{user}" in orjson.dumps(call.body).decode()
        ]
        assert [
            each.path.rpartition("/")[2] if "workflows" in each.path else each.method for each in calls
        ] == (expected)


@pytest.mark.usefixtures("worker")
async def test_whole_numbers_and_text_are_keys_and_nothing_else_is(bench: Bench, knock: KnockServer) -> None:
    source = await custom(bench, knock)
    values = ["a", 4711, 0, True, 1.5, None, ["a"], {"id": "a"}, "", "x" * 300, "a\x00b"]
    identifiers = [await send(source, "other", value) for value in values]
    keys = [(await bench.final(each))["ordering_keys"] for each in identifiers]
    assert keys[:3] == [["a"], ["4711"], ["0"]]
    assert keys[3:9] == [None] * 6
    for long in keys[9:]:
        assert long[0].startswith("sha256:")
    unordered = await bench.event(identifiers[6])
    assert "ordering key: body.user is not a string or a whole number" in unordered["error"].split("; ")


@pytest.mark.usefixtures("worker")
async def test_other_keys_and_events_without_one_run_beside(bench: Bench, knock: KnockServer) -> None:
    source = await custom(bench, knock)
    knock.refuse = down = Down(lambda call: call.path == "/v1/users/slow")
    first = await send(source, "set", "slow", n=0)
    await eventually(lambda: knock.calls)
    second = await send(source, "set", "slow", n=1)
    beside = [await send(source, "set", "other", n=0), await send(source, "other", None)]
    for each in beside:
        await bench.final(each)
    assert [(await bench.event(each))["finished_at"] for each in (first, second)] == [None, None]
    down.over = True
    ended = [(await bench.final(each))["finished_at"] for each in (first, second)]
    assert ended[0] < ended[1]
    assert turns(knock.calls, "slow") == [0, 1]


@pytest.mark.usefixtures("worker")
async def test_null_turns_it_off(bench: Bench, knock: KnockServer) -> None:
    source = await custom(bench, knock, ordering_key_path=None)
    knock.refuse = down = down_for(0)
    first, *others = [await send(source, "set", "user", n=version) for version in range(4)]
    ended = [await bench.final(each) for each in others]
    down.over = True
    ended.append(await bench.final(first))
    assert {each["ordering_keys"] for each in ended} == {None}
    assert sorted(numbers(knock.done, "user")[:3]) == [1, 2, 3]


@pytest.mark.usefixtures("worker")
async def test_who_waits_says_for_what(bench: Bench, knock: KnockServer) -> None:
    source = await custom(bench, knock)
    knock.refuse = down = down_for(1)
    first = await send(source, "set", "user", n=1)
    second = await send(source, "set", "user", n=2)
    third = await send(source, "set", "user", n=3)

    async def entry(identifier: str) -> dict[str, Any]:
        answer = await bench.api.get(f"/v1/sources/{source.key}/logs/{identifier}")
        found: dict[str, Any] = answer.json()
        return found

    async def waits(identifier: str, earlier: str) -> bool:
        return (await entry(identifier))["waiting_for"] == earlier

    await eventually(lambda: waits(second, first))
    await eventually(lambda: waits(third, second))
    assert (await entry(second))["ordering_keys"] == ["user"]
    down.over = True
    await all_final(source)
    assert (await entry(second))["waiting_for"] is None
    assert turns(knock.calls, "user") == [1, 2, 3]


@pytest.mark.usefixtures("worker")
async def test_a_failure_does_not_cancel_the_next(bench: Bench, knock: KnockServer) -> None:
    source = await custom(bench, knock)
    knock.answers.append(error(422, "invalid_params", "no"))
    for version in range(3):
        await send(source, "set", "user", n=version)
    events = await all_final(source)
    assert [each["status"] for each in events] == ["failed", "succeeded", "succeeded"]
    assert numbers(knock.calls, "user") == [0, 1, 2]


@pytest.mark.usefixtures("worker")
async def test_a_hold_bounds_the_wait(bench: Bench, knock: KnockServer) -> None:
    """An event that is tried again for long holds up the next one only for so long."""
    source = await custom(bench, knock, ordering_hold=1)
    knock.refuse = down = Down(lambda call: bool(call.body["data"]["n"] == 1))
    first = await send(source, "remind", "user", n=1)
    second = await send(source, "remind", "user", n=2)
    assert (await bench.final(second))["status"] == "succeeded"
    assert (await bench.event(first))["status"] == "processing"
    down.over = True
    await all_final(source)
    assert reminders(knock.done) == [2, 1]


@pytest.mark.usefixtures("worker")
async def test_a_repeat_neither_waits_nor_holds_up(bench: Bench, knock: KnockServer) -> None:
    source = await custom(bench, knock)
    await bench.final(await send(source, "set", "user", n=0, id="first"))
    knock.refuse = down = down_for(1)
    slow = await send(source, "set", "user", n=1, id="slow")
    repeat = await send(source, "set", "user", n=0, id="first")
    shared = await send(source, "set", "user", n=1, id="slow")
    after = await send(source, "set", "user", n=2, id="after")
    assert (await bench.final(repeat))["status"] == "idempotent"
    assert (await bench.event(slow))["status"] == "processing"
    down.over = True
    assert (await bench.final(shared))["duplicate_of"] == (await bench.final(slow))["id"]
    assert (await bench.final(after))["status"] == "succeeded"
    assert turns(knock.calls, "user") == [0, 1, 2]


@pytest.mark.usefixtures("worker")
async def test_a_repeat_of_what_failed_runs_at_its_own_place(bench: Bench, knock: KnockServer) -> None:
    source = await custom(bench, knock)
    knock.delay = 0.3
    knock.answers.append(error(422, "invalid_params", "no"))
    for number, key in enumerate(["a", "b", "a", "c"]):
        await send(source, "set", "user", n=number, id=key)
    events = await all_final(source)
    assert [each["status"] for each in events] == ["failed", "succeeded", "succeeded", "succeeded"]
    assert numbers(knock.calls, "user") == [0, 1, 2, 3]


@pytest.mark.usefixtures("worker")
async def test_replays_are_ordered_like_new_events(bench: Bench, knock: KnockServer) -> None:
    source = await custom(bench, knock)
    first = await send(source, "remind", "user", n=1)
    await bench.final(first)
    knock.delay = 0.5
    await send(source, "remind", "user", n=2)
    for mappings in ("current", "original"):
        answer = await bench.api.post(
            f"/v1/sources/{source.key}/logs/{first}/replay", json={"replay": {"mappings": mappings}}
        )
        assert answer.status_code == 201, answer.text
    await send(source, "remind", "user", n=3)
    events = await all_final(source)
    assert {each["status"] for each in events} == {"succeeded"}
    assert {tuple(each["ordering_keys"]) for each in events} == {("user",)}
    assert reminders(knock.calls) == [1, 2, 1, 1, 3]


@pytest.mark.usefixtures("worker")
async def test_a_rehearsal_takes_its_turn(bench: Bench, knock: KnockServer) -> None:
    source = await custom(bench, knock)
    knock.delay = 0.5
    await send(source, "set", "user", n=1)
    answer = await bench.api.post(
        f"/v1/sources/{source.key}/rehearse",
        params={"environment": bench.environment},
        json={"payload": {"body": {"type": "set", "user": "user", "n": 2}}},
    )
    assert answer.status_code == 200, answer.text
    assert numbers(knock.calls, "user") == [1, 2]


async def test_an_alias_waits_for_both_and_takes_both(
    bench: Bench, knock: KnockServer, runtime: Runtime, temporal: Client
) -> None:
    await bench.use_destination(knock.url)
    identify = ("users_identify", {"id": "body.userId", "properties": {"n": "body.messageId"}})
    source = await bench.source(
        "segment",
        mappings={"identify": [identify], "alias": [identify]},
        enforce_verification=False,
        secret=None,
    )
    knock.delay = 0.3
    batch = [
        {"type": "identify", "userId": "new", "messageId": "1"},
        {"type": "identify", "userId": "old", "messageId": "2"},
        {"type": "alias", "userId": "new", "previousId": "old", "messageId": "3"},
        {"type": "identify", "userId": "old", "messageId": "4"},
        {"type": "identify", "userId": "new", "messageId": "5"},
    ]
    await source.post(orjson.dumps(batch), {"content-type": "application/json"})
    async with run_workers(runtime, temporal, [bench.environment]):
        await all_final(source)
    arrived = [call.body["n"] for call in knock.calls]
    assert set(arrived[:2]) == {"1", "2"}
    assert arrived[2] == "3"
    assert set(arrived[3:]) == {"4", "5"}


@pytest.mark.usefixtures("worker")
async def test_a_hundred_in_a_row(bench: Bench, knock: KnockServer) -> None:
    source = await custom(bench, knock)
    for number in range(100):
        await send(source, "set", "user", n=number)
    # None runs beside another: a loaded machine takes half a second for each.
    events = await all_final(source, 180)
    assert numbers(knock.calls, "user") == list(range(100))
    ended = [each["finished_at"] for each in events]
    assert ended == sorted(ended)


@pytest.mark.usefixtures("worker")
async def test_the_last_of_the_calls_of_one_client_holds(bench: Bench, knock: KnockServer) -> None:
    """A reverse ETL tool calls with a source key; Knock applies what it is called for in turn."""
    await bench.use_destination(knock.url)
    source = await bench.source("hightouch")
    key = {"authorization": f"Bearer {await source_key(source)}"}
    knock.delay = 0.05
    for user in range(USERS):
        for name in ("first", "second"):
            answer = await bench.api.put(f"/v1/users/user_{user}", headers=key, json={"name": name})
            assert answer.status_code == 200, answer.text
        for method in ("POST", "DELETE"):
            members = {"members": [{"user": {"id": f"user_{user}"}}]}
            answer = await bench.api.request(method, "/v1/audiences/vip/members", headers=key, json=members)
            assert answer.status_code == 204, answer.text
    both = {"users": [{"id": "both", "name": "first"}, {"id": "both", "name": "second"}]}
    assert (await bench.api.post("/v1/users/bulk/identify", headers=key, json=both)).is_success
    assert {each["status"] for each in await all_final(source)} == {"succeeded"}
    for user in [*(f"user_{number}" for number in range(USERS)), "both"]:
        names = [call.body["name"] for call in knock.calls if call.path == f"/v1/users/{user}"]
        assert names == ["first", "second"]
        calls = [
            call.method
            for call in knock.calls
            if "audiences" in call.path and f'"{user}"' in orjson.dumps(call.body).decode()
        ]
        assert calls == ([] if user == "both" else ["POST", "DELETE"])


@pytest.mark.usefixtures("worker")
async def test_what_a_library_calls_is_ordered(bench: Bench, knock: KnockServer) -> None:
    await bench.use_destination(knock.url)
    source = await bench.source("segment", enforce_verification=False, secret=None)
    knock.delay = 0.05
    for version in range(4):
        call = {"userId": "user", "traits": {"plan": f"v{version}"}, "messageId": f"m{version}"}
        answer = await bench.api.post("/v1/identify", json=call, auth=(source.token, ""))
        assert answer.status_code == 200, answer.text
    assert {each["received_through"] for each in await all_final(source)} == {"tracking"}
    assert [call.body["plan"] for call in knock.calls] == ["v0", "v1", "v2", "v3"]
