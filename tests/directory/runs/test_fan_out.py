"""A trigger for an object reaches its subscribers: each once, whatever happens to workers in between."""

import asyncio
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from temporalio.client import Client, WorkflowHistory

from app.directory import fan_outs
from app.directory.fan_outs import fan_out_page, give_back_fan_outs
from app.models.contracts import FanOutProgress
from app.runtime.resources import Runtime
from app.worker.main import run_workers
from tests.directory.runs.conftest import Runs, delay, in_app
from tests.servers import eventually
from tests.workflows.test_determinism import HISTORIES, record, replayer

ORG = {"collection": "orgs", "id": "acme"}
TEAM = {"collection": "teams", "id": "red"}
SQUAD = {"collection": "squads", "id": "a"}

SUBSCRIBERS = text("""
INSERT INTO directory_recipients (environment, collection, id, properties, channel_data, preferences,
  inserted_at,
                                  updated_at)
SELECT :environment, '$users', 'u' || n, '{}', '{}', '{}', now(), now() FROM generate_series(1, 2500) AS n
ON CONFLICT DO NOTHING
""")
# u1000 to u1999 are subscribed to both.
SUBSCRIPTIONS = text("""
INSERT INTO directory_subscriptions (environment, collection, object_id, recipient_collection, recipient_id,
                                     properties, inserted_at, updated_at)
SELECT :environment, object.collection, object.id, '$users', 'u' || n, '{}', now(), now()
FROM generate_series(1, 2500) AS n
JOIN (VALUES ('orgs', 'acme', 1, 1999), ('teams', 'red', 1000, 2500)) AS object (collection, id, first, last)
    ON n BETWEEN first AND last
ON CONFLICT DO NOTHING
""")


async def subscribe(runs: Runs, subscribed_to: dict[str, str], *recipients: Any, **properties: Any) -> None:
    collection, identifier = subscribed_to["collection"], subscribed_to["id"]
    await runs.knock.objects.set(collection, identifier, extra_body={"name": identifier.title()})
    await runs.knock.objects.add_subscriptions(
        collection, identifier, recipients=list(recipients), properties=properties
    )


async def trigger(runs: Runs, *recipients: Any, key: str = "welcome", **fields: Any) -> UUID:
    answer = await runs.knock.workflows.trigger(key, recipients=list(recipients), **fields)
    return UUID(answer.workflow_run_id)


async def made(runs: Runs, trigger_id: UUID) -> list[tuple[str, str]]:
    """The recipients that have a run of a trigger, with its status, once for each run."""
    rows = await runs.bench.rows(
        "SELECT recipient_id, status FROM workflow_recipient_runs WHERE workflow_run_id = :id ORDER BY 1",
        id=trigger_id,
    )
    return [(row["recipient_id"], row["status"]) for row in rows]


async def fanned_out(runs: Runs, trigger_id: UUID) -> None:
    """Return when all subscribers have their runs."""

    async def is_done() -> bool:
        [row] = await runs.bench.rows(
            "SELECT fan_out_due_at, (SELECT count(*) FROM workflow_fan_outs WHERE workflow_run_id = :id) AS "
            "objects FROM workflow_runs WHERE id = :id",
            id=trigger_id,
        )
        return row["fan_out_due_at"] is None and row["objects"] == 0

    await eventually(is_done)


async def page(runs: Runs, trigger_id: UUID) -> FanOutProgress:
    """A page made by no workflow that Temporal knows, so that a worker looks after the trigger at once."""
    async with runs.bench.runtime.engine.begin() as connection:
        progress = await fan_out_page(connection, trigger_id)
        await give_back_fan_outs(connection, [trigger_id])
        return progress


@pytest.mark.usefixtures("worker")
async def test_subscribers_get_runs_that_know_their_subscription(
    runs: Runs, temporal: Client, request: pytest.FixtureRequest
) -> None:
    """Nested once, nobody twice, the actor only when named; the runs are of one trigger."""
    await runs.define(
        in_app(
            template={
                "markdown_body": "{{ recipient.id }} {{ recipient.subscription.role }} "
                "{{ recipient.subscription.object.name }}"
            }
        )
    )
    await subscribe(runs, SQUAD, "too-deep")
    await subscribe(runs, TEAM, "ada", "bob", "cat", "eve", SQUAD, role="member")
    await subscribe(runs, ORG, "ada", "dan", "eve", "named", TEAM, role="owner")
    trigger_id = await trigger(runs, ORG, "named", "named", actor="eve", data={"text": "x"})
    await fanned_out(runs, trigger_id)
    found = await runs.knock.get(
        "/v1/workflow_recipient_runs", cast_to=object, options={"params": {"page_size": 50}}
    )
    assert isinstance(found, dict)
    assert {each["workflow_run_id"] for each in found["items"]} == {str(trigger_id)}
    shown = {}
    for each in found["items"]:
        assert each["actor"] == "eve"
        run = await runs.ended(each["id"])
        [message] = await runs.messages(run["id"])
        content = await runs.knock.messages.get_content(message["id"])
        identifier, *rest = content.data.blocks[0].content.split()  # type: ignore[union-attr]
        assert identifier not in shown
        shown[identifier] = " ".join(rest)
    assert shown == {
        "acme": "",
        "named": "",
        "ada": "owner Acme",
        "dan": "owner Acme",
        "red": "owner Acme",
        "bob": "member Red",
        "cat": "member Red",
        "a": "member Red",
    }

    again = await trigger(runs, TEAM, "eve", actor="eve")
    await fanned_out(runs, again)
    names = [name for name, _ in await made(runs, again)]
    assert names == ["a", "ada", "bob", "cat", "eve", "red", "too-deep"]

    handle = temporal.get_workflow_handle(f"fan-out/{runs.environment}/{trigger_id}")
    await handle.result()
    history = await handle.fetch_history()
    if request.config.getoption("--record-histories"):
        record("fan_out", history)
    await replayer().replay_workflow(history)


async def test_a_fan_out_of_earlier_versions_replays() -> None:
    recorded = (HISTORIES / "fan_out.json").read_text()
    await replayer().replay_workflow(WorkflowHistory.from_json("fan_out", recorded))


async def test_thousands_of_subscribers_get_one_run_each_through_crashes(
    runs: Runs, runtime: Runtime, temporal: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page's connection dies in mid-transaction, its worker goes, pages are made twice at a time."""
    monkeypatch.setattr(fan_outs, "PAGE_SIZE", 200)
    await subscribe(runs, ORG, TEAM, "u7")
    await subscribe(runs, TEAM, "u2500")
    async with runtime.engine.begin() as connection:
        for statement in (SUBSCRIBERS, SUBSCRIPTIONS):
            await connection.execute(statement, {"environment": runs.environment})
    trigger_id = await trigger(runs, ORG, "u1", key="undefined")
    # An attempt whose answer was lost, and one whose transaction was.
    assert await page(runs, trigger_id) == FanOutProgress(done=False)
    before = len(await made(runs, trigger_id))
    # The object itself, u1 and the page, in which u1 is again.
    assert before == 2 + 199
    async with runtime.engine.connect() as connection:
        await fan_out_page(connection, trigger_id)
        await connection.rollback()
    assert len(await made(runs, trigger_id)) == before

    async with runtime.engine.connect() as holder:
        # The worker's page has made runs and waits to note how far it is, until its connection is cut.
        await holder.execute(text("SELECT FROM workflow_fan_outs FOR UPDATE"))
        async with run_workers(runtime, temporal, [runs.environment]):
            await eventually(lambda: _cut(runs, "UPDATE workflow_fan_outs SET after%"))
            await holder.rollback()
            await eventually(lambda: _more_than(runs, trigger_id, before))
    async with run_workers(runtime, temporal, [runs.environment]):
        await asyncio.gather(*(page(runs, trigger_id) for _ in range(3)))
        await fanned_out(runs, trigger_id)
    names = [name for name, _ in await made(runs, trigger_id)]
    assert names == sorted(["acme", "red", *(f"u{n}" for n in range(1, 2501))])
    assert {status for _, status in await made(runs, trigger_id)} == {"completed"}


async def _cut(runs: Runs, query: str) -> bool:
    """End the connections that wait for a lock with this query; whether there was one."""
    cut = await runs.bench.rows(
        "SELECT pg_terminate_backend(pid) AS cut FROM pg_stat_activity "
        "WHERE datname = current_database() AND wait_event_type = 'Lock' AND ltrim(query, E'\\n') LIKE :like",
        like=query,
    )
    return bool(cut)


async def _more_than(runs: Runs, trigger_id: UUID, count: int) -> bool:
    return len(await made(runs, trigger_id)) > count


async def test_cancelling_reaches_subscribers_that_have_no_run_yet(
    runs: Runs, runtime: Runtime, temporal: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fan_outs, "PAGE_SIZE", 3)
    await runs.define(delay())
    await subscribe(runs, SQUAD, "fay")
    await subscribe(runs, TEAM, "ada", "bob", "cat")
    await subscribe(runs, ORG, "ann", "ben", "dan", "eve", TEAM, SQUAD)
    some = await trigger(runs, ORG, cancellation_key="some", actor="eve")
    every = await trigger(runs, ORG, cancellation_key="every")
    other = await trigger(runs, ORG, cancellation_key="other")
    for each in (some, every):
        assert not (await page(runs, each)).done
    # One who has a run, two who would get theirs, a whole object, the actor, and one who is no subscriber.
    asked = ["ann", "dan", "bob", "eve", "stranger", SQUAD]
    await runs.knock.workflows.cancel("welcome", cancellation_key="some", recipients=asked)
    await runs.knock.workflows.cancel("welcome", cancellation_key="every")
    async with run_workers(runtime, temporal, [runs.environment]):
        for each in (some, other):
            await fanned_out(runs, each)

        async def paused() -> bool:
            return all(status in ("paused", "cancelled") for _, status in await made(runs, some))

        await eventually(paused)
    found = await made(runs, some)
    cancelled = {name for name, status in found if status == "cancelled"}
    assert cancelled == {"ann", "dan", "bob", "a"}
    assert sorted(name for name, _ in found) == ["a", "acme", "ada", "ann", "ben", "bob", "cat", "dan", "red"]
    assert {status for _, status in await made(runs, every)} == {"cancelled"}
    assert len(await made(runs, every)) < len(await made(runs, other)) == 11


async def test_a_fan_out_waits_while_many_runs_do_and_leaves_out_who_came_later(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fan_outs, "PAGE_SIZE", 2)
    monkeypatch.setattr(fan_outs, "CROWD", 3)
    await runs.define(in_app())
    await subscribe(runs, ORG, "ada", "bob", "cat")
    trigger_id = await trigger(runs, ORG)
    await subscribe(runs, ORG, "zoe")
    assert await page(runs, trigger_id) == FanOutProgress(done=False)
    assert await page(runs, trigger_id) == FanOutProgress(done=False, crowded=True)
    assert len(await made(runs, trigger_id)) == 3
    async with runs.bench.runtime.engine.begin() as connection:
        await connection.execute(text("UPDATE workflow_recipient_runs SET status = 'completed'"))
    while not (await page(runs, trigger_id)).done:
        pass
    assert [name for name, _ in await made(runs, trigger_id)] == ["acme", "ada", "bob", "cat"]


async def test_a_fan_out_ended_in_temporal_says_so_on_the_run_of_the_object(
    runs: Runs, runtime: Runtime, temporal: Client
) -> None:
    await subscribe(runs, ORG, "ada")
    trigger_id = await trigger(runs, ORG, key="undefined")
    async with runtime.engine.connect() as holder:
        await holder.execute(text("LOCK TABLE workflow_fan_outs IN ACCESS EXCLUSIVE MODE"))
        async with run_workers(runtime, temporal, [runs.environment]):
            handle = temporal.get_workflow_handle(f"fan-out/{runs.environment}/{trigger_id}")
            await eventually(lambda: _cut(runs, "%FROM workflow_fan_outs%"))
            await handle.terminate("test")
            await holder.execute(text("UPDATE workflow_runs SET fan_out_due_at = now()"))
            await holder.commit()
            await fanned_out(runs, trigger_id)
    [row] = await runs.bench.rows("SELECT recipient_id, error FROM workflow_recipient_runs")
    assert row == {"recipient_id": "acme", "error": "the fan-out to subscribers was terminated in Temporal"}
