"""Actions as events run them, through real Temporal: order, failures, resumption, and Knock's rate limits."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import orjson
import pytest
from sqlalchemy import text
from temporalio.client import Client

from app.actions.registry import action_types
from app.activities import run_action
from app.api.directory.app import DirectoryApp
from app.outbound.destinations import Destinations
from app.runtime.resources import Runtime
from app.runtime.temporal import connect
from app.worker.main import run_workers
from tests.bench import Bench, BenchSource
from tests.knock import KnockServer, error
from tests.servers import eventually
from tests.strict_knock import ENDPOINTS, StrictKnock

Mappings = list[tuple[str, dict[str, Any]]]


async def rung(bench: Bench, mappings: Mappings, body: dict[str, Any]) -> str:
    """Send an event with these mappings; its id."""
    source = await bench.source("custom_http", mappings={"happened": mappings}, enforce_verification=False)
    return await ring(source, body)


async def ring(source: BenchSource, body: dict[str, Any]) -> str:
    answer = await source.post(orjson.dumps({"type": "happened", **body}), {})
    assert answer.status_code == 200, answer.text
    identifier: str = answer.json()["id"]
    return identifier


def test_tiers_are_those_that_knock_documents() -> None:
    assert {each.name: int(each.tier) for each in action_types().values()} == {
        name: rate for name, (_, _, rate) in ENDPOINTS.items()
    }


@pytest.mark.usefixtures("worker")
async def test_kinds_run_in_order_and_a_failure_stops_no_other(bench: Bench, knock: KnockServer) -> None:
    """All actions of one event, twice each, configured in the opposite order; the second one fails."""
    await bench.use_destination(knock.url)
    examples = [(each.name, each.example) for each in reversed(action_types().values())]
    body = {name: example.body for name, example in examples}
    mappings = [
        (name, {key: below(name, value) for key, value in example.parameters.items()})
        for name, example in examples
    ] * 2
    knock.answers.extend([error(422, "invalid_params", "no such user")])
    event = await bench.final(await rung(bench, mappings, body))
    assert event["status"] == "failed"
    actions = await bench.actions(event["id"])
    assert Counter(each["status"] for each in actions) == {"succeeded": 25, "failed": 1}
    (failed,) = (each for each in actions if each["status"] == "failed")
    assert (failed["action_type"], failed["error"]) == ("users_identify", "422 invalid_params: no such user")
    called = [(call.method, call.path) for call in knock.calls]
    assert called[::2] == called[1::2], "mappings of one kind run together"
    assert called[::2] == [
        ("PUT", "/v1/users/42"),
        ("POST", "/v1/users/ada/merge"),
        ("DELETE", "/v1/users/42"),
        ("PUT", "/v1/objects/projects/7"),
        ("DELETE", "/v1/objects/projects/7"),
        ("PUT", "/v1/tenants/org_7"),
        ("DELETE", "/v1/tenants/org_7"),
        ("POST", "/v1/objects/projects/p-7/subscriptions"),
        ("DELETE", "/v1/objects/projects/p-7/subscriptions"),
        ("POST", "/v1/audiences/vip/members"),
        ("DELETE", "/v1/audiences/vip/members"),
        ("POST", "/v1/workflows/order-reminder/cancel"),
        ("POST", "/v1/workflows/invoice-paid/trigger"),
    ]


def below(name: str, template: Any) -> Any:
    """The template for a body that is one level further down."""
    if isinstance(template, str):
        return template.replace("body.", f"body.{name}.", 1)
    if isinstance(template, dict):
        return {key: below(name, value) for key, value in template.items()}
    return template


SUBSCRIBE: Mappings = [("objects_subscribe", {"collection": "c", "id": {"value": "o"}, "recipients": "many"})]


@pytest.mark.usefixtures("worker")
async def test_an_action_of_several_calls_goes_on_where_it_stopped(bench: Bench, knock: KnockServer) -> None:
    await bench.use_destination(knock.url)
    many = [f"u{n}" for n in range(250)]
    knock.answers.extend([None, error(503, "unavailable", "down")])
    event = await bench.final(await rung(bench, SUBSCRIBE, {"many": many}))
    assert event["status"] == "succeeded"
    keys = Counter(call.idempotency_key for call in knock.calls)
    assert sorted(keys.values()) == [1, 1, 2], "no call that succeeded is made again"
    by_key = defaultdict(set)
    for call in knock.calls:
        by_key[call.idempotency_key].add(orjson.dumps(call.body))
    assert all(len(bodies) == 1 for bodies in by_key.values())
    sent = {recipient for call in knock.calls for recipient in call.body["recipients"]}
    assert sent == set(many)
    assert [call.body["recipients"][0] for call in knock.calls] == ["u0", "u100", "u100", "u200"]
    (action,) = await bench.actions(event["id"])
    assert (action["calls"], action["attempts"], action["error"]) == (3, 2, None)
    assert action["result"] == {"subscriptions": 250}


@pytest.mark.usefixtures("worker")
async def test_an_action_of_many_slow_calls_ends(
    bench: Bench, knock: KnockServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Together they take longer than an attempt may: it stores how far it is, and goes on."""
    await bench.use_destination(knock.url)
    # The first one takes as long already.
    monkeypatch.setattr(run_action, "LOCAL_ATTEMPT", 0.0)
    event = await bench.final(await rung(bench, SUBSCRIBE, {"many": [f"u{n}" for n in range(450)]}))
    assert event["status"] == "succeeded"
    assert len(knock.calls) == 5
    (action,) = await bench.actions(event["id"])
    assert (action["calls"], action["attempts"]) == (5, 2)
    assert action["result"] == {"subscriptions": 450}


@pytest.mark.usefixtures("worker")
async def test_a_refusal_in_mid_way_keeps_what_was_done(bench: Bench, knock: KnockServer) -> None:
    await bench.use_destination(knock.url)
    knock.answers.extend([None, error(422, "invalid_params", "no such object")])
    event = await bench.final(await rung(bench, SUBSCRIBE, {"many": [f"u{n}" for n in range(250)]}))
    assert event["status"] == "failed"
    (action,) = await bench.actions(event["id"])
    assert action["status"] == "failed"
    assert action["error"] == "422 invalid_params: no such object"
    assert (action["calls"], action["result"]) == (1, {"subscriptions": 100})


@pytest.fixture
async def workers(runtime: Runtime, temporal: Client, environment: str) -> AsyncIterator[None]:
    """Two worker processes' worth of workers that serve the test's environment, each with its own
    connection."""
    other = await connect(runtime.settings)
    async with run_workers(runtime, temporal, [environment]), run_workers(runtime, other, [environment]):
        yield


@pytest.mark.usefixtures("workers")
async def test_a_burst_waits_for_its_turn_without_a_refusal(bench: Bench) -> None:
    """Two workers, an endpoint that takes 5 calls a second, 24 events at once: each is called once, in its
    turn.

    The destination shares this process: on a busy machine what was sent in time arrives together, so it takes
    twice as many, which is still far from all at once.
    """
    async with StrictKnock(rates=2).serve() as knock:
        await bench.use_destination(knock.url)
        source = await bench.source(
            "custom_http",
            mappings={"happened": [("users_delete", {"id": "user"})]},
            enforce_verification=False,
        )
        identifiers = await asyncio.gather(*(ring(source, {"user": n}) for n in range(24)))

        waits = "waits for its turn: the destination takes 5 calls a second of users_delete"

        async def one_waits() -> bool:
            rows = await bench.rows(
                "SELECT attempts, started_at FROM actions WHERE status = 'pending' AND error = :waits",
                waits=waits,
            )
            assert all((row["attempts"], row["started_at"]) == (0, None) for row in rows)
            return bool(rows)

        await eventually(one_waits)
        events = [await bench.final(each) for each in identifiers]
        assert {each["status"] for each in events} == {"succeeded"}
        assert knock.outcomes() == {"done": 24}
        assert knock.busiest_second("users_delete") <= 10
        actions = [action for each in identifiers for action in await bench.actions(each)]
        assert {each["attempts"] for each in actions} == {1}, "waiting is no attempt"
        assert {each["error"] for each in actions} == {None}


async def test_a_burst_on_a_slow_endpoint_does_not_hold_up_other_events(
    bench: Bench, runtime: Runtime, temporal: Client, environment: str
) -> None:
    """With room for three events in flight, those whose turn is far away make room."""
    narrow = replace(runtime, settings=runtime.settings.model_copy(update={"max_events_in_flight": 3}))
    async with StrictKnock().serve() as knock:
        await bench.use_destination(knock.url)
        deleting = await bench.source(
            "custom_http",
            mappings={"happened": [("users_delete", {"id": "user"})]},
            enforce_verification=False,
        )
        telling = await bench.source(
            "custom_http",
            mappings={"happened": [("workflows_trigger", {"key": "hello", "recipients": "user"})]},
            enforce_verification=False,
        )
        # The clock as a burst of 500 calls of other workers leaves it.
        destinations = Destinations(runtime.configuration.destination, DirectoryApp(runtime.engine))
        account = destinations.account(environment)
        async with runtime.engine.begin() as connection:
            await connection.execute(
                text(
                    "INSERT INTO rate_limits (key, next_slot, next_turn) "
                    "VALUES (:key, now() + interval '5 s', now() + interval '100 s')"
                ),
                {"key": f"{account}/users_delete"},
            )
        async with run_workers(narrow, temporal, [environment]):
            waiting = await asyncio.gather(*(ring(deleting, {"user": n}) for n in range(6)))
            event = await bench.final(await ring(telling, {"user": "ada"}))
            assert event["status"] == "succeeded"
            assert {(await bench.event(each))["status"] for each in waiting} <= {"processing", "received"}
            assert knock.outcomes() == {"done": 1}


TROUBLED: Mappings = [
    ("users_identify", {"id": "user", "properties": {"n": "n"}}),
    ("users_identify", {"id": "user", "properties": {"m": "n"}}),
    ("objects_subscribe", {"collection": "c", "id": {"value": "o"}, "recipients": "many"}),
    ("audiences_add_member", {"key": "vip", "members": "user"}),
    ("tenants_delete", {"id": "n"}),
    ("workflows_cancel", {"key": "late", "cancellation_key": "n"}),
    ("workflows_trigger", {"key": "hello", "recipients": "user", "data": {"n": "n"}}),
]


@pytest.mark.usefixtures("workers")
async def test_every_action_succeeds_in_the_end(bench: Bench) -> None:
    """A destination that limits, fails, and drops connections, some after executing: nothing fails, nothing
    is sent under two keys or with two bodies, no workflow runs twice."""
    async with StrictKnock(trouble=0.2).serve() as knock:
        await bench.use_destination(knock.url)
        source = await bench.source(
            "custom_http", mappings={"happened": TROUBLED}, enforce_verification=False
        )
        identifiers = await asyncio.gather(
            *(
                ring(source, {"user": f"u{n}", "n": n, "many": [f"s{n}-{m}" for m in range(150)]})
                for n in range(15)
            )
        )
        events = [await bench.final(each) for each in identifiers]
        actions = [action for each in identifiers for action in await bench.actions(each)]
    assert {each["status"] for each in events} == {"succeeded"}, [each["error"] for each in actions]
    assert Counter(each["status"] for each in actions) == {"succeeded": 15 * len(TROUBLED)}
    outcomes = knock.outcomes()
    assert {"busy", "down", "broken", "conflict", "dropped", "dropped after"} <= outcomes.keys()
    assert "mismatch" not in outcomes
    assert outcomes["done"] == 15 * (len(TROUBLED) + 1), "150 subscribers are two calls"
    requests = defaultdict(set)
    for each in knock.arrivals:
        requests[each.idempotency_key].add((each.request, each.body))
    assert all(len(same) == 1 for same in requests.values())
    assert len(requests) == outcomes["done"], "each call has one key"
    assert knock.triggered == 15
    for name in ("users_identify", "tenants_delete", "objects_subscribe"):
        # Calls that leave evenly may arrive together on a busy machine.
        assert knock.busiest_second(name) <= ENDPOINTS[name][2] * 2
