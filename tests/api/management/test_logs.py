"""The event log over HTTP: what an entry shows, filters, cursors, and the indexes behind them."""

import asyncio
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import orjson
import pytest
from sqlalchemy import event, text
from sqlmodel.ext.asyncio.session import AsyncSession

from app.database.partitions import create_partitions
from app.logs import entries as log_entries
from app.logs import filters as log_queries
from app.logs import listing as logs
from app.models.action import Action
from app.models.event import Event, EventPayload
from app.models.status import ActionStatus, EventStatus, VerificationStatus
from app.models.types import derived_id, first_id_at, new_id
from app.runtime.resources import Runtime
from tests.api.management.conftest import Put, fields
from tests.clock import set_clock

LOGS = "/v1/sources/stripe/logs?environment=development"
ENTRY_FIELDS = {
    "id",
    "event",
    "data",
    "preprocess_output",
    "source",
    "verification_status",
    "inserted_at",
    "status",
    "environment",
    "source_key",
    "headers",
    "data_omitted",
    "verification_reason",
    "signing_secret_id",
    "idempotency_key",
    "duplicate_of",
    "replay_of",
    "replay_id",
    "occurred_at",
    "finished_at",
    "duration_ms",
    "error",
    "workflow_id",
    "run_id",
    "temporal_url",
    "erased_at",
    "ordering_keys",
    "waiting_for",
}
ACTION_FIELDS = {
    "next_attempt_at",
    "id",
    "action_type",
    "action_status",
    "action_parameters",
    "action_payload",
    "action_result",
    "inserted_at",
    "mapping_id",
    "error",
    "left_out",
    "attempts",
    "started_at",
    "finished_at",
    "duration_ms",
}
NOON = datetime(2026, 1, 15, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
async def source(put: Put) -> None:
    await put("stripe", {"name": "Stripe", "preconfigured_provider": "stripe"})


class Log:
    """Writes entries as the edge and the worker would."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime

    async def add(
        self,
        *,
        at: datetime = NOON,
        body: bytes = b'{"id": "evt_1"}',
        sensitive: dict[str, str] | None = None,
        actions: list[dict[str, Any]] | None = None,
        **columns: Any,
    ) -> UUID:
        identifier = derived_id(first_id_at(at), str(new_id()))
        defaults: dict[str, Any] = {
            "environment": "development",
            "source_key": "stripe",
            "event_type": "invoice.paid",
            "status": EventStatus.SUCCEEDED,
            "verification_status": VerificationStatus.ENFORCED_VERIFIED,
            "received_at": at,
        }
        encrypted = self.runtime.box.encrypt(orjson.dumps(sensitive)) if sensitive else None
        async with AsyncSession(self.runtime.engine) as session:
            event = Event(id=identifier, **{**defaults, **columns})
            session.add(event)
            session.add(
                EventPayload(
                    id=identifier,
                    body=body,
                    headers={"content-type": "application/json"},
                    sensitive_headers=encrypted,
                )
            )
            for number, each in enumerate(actions or []):
                session.add(
                    Action(
                        id=derived_id(identifier, str(number)),
                        event_id=identifier,
                        environment=event.environment,
                        source_key=event.source_key,
                        mapping_id=new_id(),
                        **each,
                    )
                )
            await session.commit()
        return identifier


@pytest.fixture
def log(runtime: Runtime) -> Log:
    return Log(runtime)


async def listed(client: httpx.AsyncClient, query: str = "", path: str = LOGS) -> list[dict[str, Any]]:
    answer = await client.get(path + query)
    assert answer.status_code == 200, answer.text
    entries: list[dict[str, Any]] = answer.json()["entries"]
    return entries


async def test_an_entry(client: httpx.AsyncClient, log: Log, runtime: Runtime) -> None:
    runtime.settings.temporal_ui_url = "http://127.0.0.1:8233/"
    identifier = await log.add(
        sensitive={"authorization": "Bearer hunter2"},
        idempotency_key="evt_1",
        occurred_at=NOON - timedelta(seconds=1),
        finished_at=NOON + timedelta(milliseconds=52),
        workflow_id="event/development/stripe/abc",
        run_id="run-1",
    )
    answer = await client.get(LOGS)
    assert "hunter2" not in answer.text
    assert answer.json() == {
        "entries": [
            {
                "id": str(identifier),
                "event": "invoice.paid",
                "data": {"id": "evt_1"},
                "preprocess_output": None,
                "source": None,
                "verification_status": "enforced:verified",
                "inserted_at": "2026-01-15T12:00:00Z",
                "status": "succeeded",
                "environment": "development",
                "source_key": "stripe",
                "headers": {"content-type": "application/json", "authorization": "[redacted]"},
                "data_omitted": False,
                "verification_reason": None,
                "signing_secret_id": None,
                "idempotency_key": "evt_1",
                "duplicate_of": None,
                "replay_of": None,
                "replay_id": None,
                "occurred_at": "2026-01-15T11:59:59Z",
                "finished_at": "2026-01-15T12:00:00.052000Z",
                "duration_ms": 52,
                "error": None,
                "workflow_id": "event/development/stripe/abc",
                "run_id": "run-1",
                "erased_at": None,
                "ordering_keys": None,
                "waiting_for": None,
                "temporal_url": "http://127.0.0.1:8233/namespaces/default/workflows/"
                "event%2Fdevelopment%2Fstripe%2Fabc/run-1/history",
            }
        ],
        "page_info": {"after": None, "before": None, "page_size": 25},
    }


async def test_actions_in_the_order_in_which_they_run(client: httpx.AsyncClient, log: Log) -> None:
    started = {"started_at": NOON, "finished_at": NOON + timedelta(milliseconds=7), "attempts": 1}
    await log.add(
        actions=[
            {
                "action_type": "workflows_trigger",
                "parameters": {"key": "paid"},
                "status": ActionStatus.FAILED,
                "error": "422",
                **started,
            },
            {
                "action_type": "users_identify",
                "parameters": {"id": "body.id"},
                "payload": {"id": "u"},
                "result": {"id": "u"},
                "status": ActionStatus.SUCCEEDED,
                **started,
            },
        ]
    )
    await log.add(at=NOON - timedelta(seconds=1))
    assert "actions" not in (await listed(client))[0]
    with_actions, without = await listed(client, "&include[]=actions")
    assert with_actions.keys() == ENTRY_FIELDS | {"actions"}
    assert without["actions"] == []
    first, second = with_actions["actions"]
    assert first.keys() == ACTION_FIELDS
    assert (first["action_type"], first["action_status"], first["duration_ms"]) == (
        "users_identify",
        "success",
        7,
    )
    assert first["action_payload"] == first["action_result"] == {"id": "u"}
    assert (second["action_status"], second["error"]) == ("failed", "422")


@pytest.mark.parametrize("body", [b"not json", b"[1]", b'"text"', b"", b"\xff"])
async def test_bodies_that_are_no_objects(client: httpx.AsyncClient, log: Log, body: bytes) -> None:
    await log.add(
        body=body,
        event_type=None,
        status=EventStatus.REJECTED,
        verification_status=VerificationStatus.ENFORCED_FAILED,
        verification_reason="signature does not match",
    )
    (entry,) = await listed(client)
    assert (entry["event"], entry["data"], entry["data_omitted"]) == ("", None, False)
    assert entry["verification_reason"] == "signature does not match"


async def test_a_page_has_bounded_bodies(
    client: httpx.AsyncClient, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_entries, "MAXIMUM_PAGE_BYTES", 100)
    body = orjson.dumps({"text": "x" * 80})
    for second in range(3):
        await log.add(at=NOON + timedelta(seconds=second), body=body)
    entries = await listed(client)
    assert [each["data_omitted"] for each in entries] == [False, True, True]
    whole = await listed(client, f"&id={entries[2]['id']}")
    assert whole[0]["data"] == {"text": "x" * 80}


async def test_filters(client: httpx.AsyncClient, log: Log) -> None:
    early = await log.add(at=NOON - timedelta(days=1), event_type="a")
    failed = await log.add(status=EventStatus.FAILED, event_type="b")
    late = await log.add(at=NOON + timedelta(hours=1), event_type="b")
    await log.add(environment="production")
    await log.add(source_key="another")

    async def ids(query: str) -> list[UUID]:
        return [UUID(each["id"]) for each in await listed(client, query)]

    assert await ids("") == [late, failed, early]
    assert await ids("&event=b") == [late, failed]
    assert await ids("&event=") == []
    assert await ids("&status=failed") == [failed]
    assert await ids("&status=succeeded&event=b") == [late]
    assert await ids(f"&id={early}") == [early]
    assert await ids(f"&id={new_id()}") == []
    assert await ids("&date=2026-01-15") == [late, failed]
    assert await ids("&date=2026-01-14") == [early]
    assert await ids("&starting_at=2026-01-15T12:00:00Z") == [late, failed]
    assert await ids("&ending_at=2026-01-15T12:00:00") == [failed, early]
    assert await ids("&starting_at=2026-01-15T13:00:00%2B01:00&ending_at=2026-01-15T12:30:00Z") == [failed]
    assert await ids("&date=2026-01-15&ending_at=2026-01-15T12:30:00Z") == [failed]
    assert await ids("&starting_at=0001-01-01T00:00:00Z&ending_at=9999-12-31T23:59:59Z") == [
        late,
        failed,
        early,
    ]


async def test_bad_queries(client: httpx.AsyncClient) -> None:
    answer = await client.get(
        LOGS + "&id=x&date=yesterday&starting_at=now&ending_at=2026-13-01&limit=101&status=lost&include=all"
    )
    assert sorted(fields(answer)) == [
        "date",
        "ending_at",
        "id",
        "include.0",
        "limit",
        "starting_at",
        "status",
    ]
    for cursor in ("x", "!!", "WyJ4Il0", "W10"):
        assert fields(await client.get(f"{LOGS}&after={cursor}")) == ["after"]
    assert fields(await client.get("/v1/sources/stripe/logs")) == ["environment"]
    assert (await client.get("/v1/sources/none/logs?environment=development")).status_code == 404


async def test_cursors_are_stable_while_events_arrive(client: httpx.AsyncClient, log: Log) -> None:
    there = [await log.add(at=NOON + timedelta(seconds=number)) for number in range(7)]
    seen: list[UUID] = []
    cursors: list[str] = []
    cursor = ""
    while cursor is not None:
        answer = (
            await client.get(LOGS, params={"environment": "development", "limit": 3, "after": cursor})
        ).json()
        seen += [UUID(each["id"]) for each in answer["entries"]]
        assert len(answer["entries"]) <= 3
        cursor = answer["page_info"]["after"]
        cursors.append(answer["page_info"]["before"])
        await log.add(at=NOON + timedelta(minutes=len(seen)))
    assert seen == there[::-1]
    assert cursors[0] is None
    back = (
        await client.get(LOGS, params={"environment": "development", "limit": 3, "before": cursors[-1]})
    ).json()
    assert [UUID(each["id"]) for each in back["entries"]] == there[::-1][3:6]


async def test_events_and_status(client: httpx.AsyncClient, log: Log) -> None:
    recent = datetime.now(UTC).replace(microsecond=0) - timedelta(days=2)
    for name, days in (("b", 0), ("a", 1), ("a", 0), ("old", 40)):
        await log.add(at=recent - timedelta(days=days), event_type=name)
    await log.add(at=recent, event_type=None)
    await log.add(at=recent, event_type="c", environment="production")
    latest = recent.isoformat().replace("+00:00", "Z")
    assert (await client.get("/v1/sources/stripe/events")).json() == {
        "entries": [
            {"event": "a", "last_received_at": latest},
            {"event": "b", "last_received_at": latest},
        ]
    }
    assert (await client.get("/v1/sources/stripe/status")).json() == {
        "events_count": 4,
        "last_event_received": latest,
        "mappings_count": 3,
        "mappings_requiring_commit": [],
    }
    production = (await client.get("/v1/sources/stripe/status?environment=production")).json()
    assert production["events_count"] == 1
    for what in ("events", "status"):
        assert (await client.get(f"/v1/sources/none/{what}")).status_code == 404
        assert fields(await client.get(f"/v1/sources/stripe/{what}?environment=staging")) == ["environment"]


# Events of two sources, one every ten seconds; few failed. With statistics, which plans follow.
BEGINNING = datetime(2020, 2, 25, 12, tzinfo=UTC)
FILL = """
INSERT INTO events (id, environment, source_key, event_type, status, verification_status, received_at,
  idempotency_key)
SELECT uuidv7(:beginning - now() + n * interval '10 seconds'), 'development',
       CASE WHEN n % 10 = 0 THEN 'stripe' ELSE 'other' END,
       'type.' || n % 11, CASE WHEN n % 2000 = 0 THEN 'failed' ELSE 'succeeded' END,
       CASE WHEN n % 1000 = 0 THEN 'not_enforced:failed' ELSE 'enforced:verified' END,
       :beginning + n * interval '10 seconds', 'key-' || n
FROM generate_series(CAST(:first AS integer), :last) AS n;
INSERT INTO event_payloads (id, body, headers) SELECT id, '{}', '{}' FROM events ON CONFLICT DO NOTHING;
INSERT INTO actions (id, event_id, mapping_id, action_type, parameters, idempotency_key, status, attempts,
  environment, source_key)
SELECT id, id, id, 'users_identify', '{}', 'key', 'succeeded', 1, environment, source_key FROM events
ON CONFLICT DO NOTHING;
INSERT INTO actions (id, event_id, mapping_id, action_type, parameters, status, attempts, environment,
  source_key)
SELECT overlay(id::text placing 'f' from 36)::uuid, id, id, 'tenants_set', '{}', 'skipped', 0, environment,
  source_key
FROM events WHERE idempotency_key LIKE 'key-%7770' ON CONFLICT DO NOTHING;
VACUUM ANALYZE events, event_payloads, actions
"""
# Five days of them, half a day more, and the first ones of the next day.
FILLED = {"at noon": 43_200, "at the end of the day": 47_519, "at its beginning": 47_521}
TABLES = r"(?:events|event_payloads|actions)_\w+"


@pytest.fixture
def statements(runtime: Runtime) -> Iterator[list[tuple[str, Any]]]:
    """What the application sends to Postgres."""
    sent: list[tuple[str, Any]] = []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, *rest: Any) -> None:
        sent.append((statement, parameters))

    event.listen(runtime.engine.sync_engine, "before_cursor_execute", note)
    yield sent
    event.remove(runtime.engine.sync_engine, "before_cursor_execute", note)


TODAY = "&date=2020-03-01"
READ_THROUGH_INDEXES = [
    LOGS + "&include=actions",
    LOGS + "&event=type.3&include=actions",
    LOGS + "&status=succeeded",
    LOGS + "&status=failed",
    LOGS + TODAY,
    LOGS + "&idempotency_key=key-43100",
    LOGS + "&verification_status=not_enforced:failed",
    LOGS + "&action_status=failed",
    LOGS + "&status=succeeded&action_status=failed",
    LOGS + "&status=succeeded&action_status=pending&idempotent=false",
    LOGS + "&action_type=users_identify&action_status=success",
    LOGS + "&action_type=tenants_set",
    LOGS + "&action_type=tenants_set&event=type.3",
    LOGS + "&action_type=users_delete",
    LOGS + "&action_status=skipped",
    LOGS + "&action_status=skipped" + TODAY,
    "/v1/logs?environment=development&action_status=skipped",
    "/v1/logs?environment=development&action_type=tenants_set",
    LOGS + "&search=%7B%7D" + TODAY,
    "/v1/logs?environment=development",
    "/v1/logs?environment=development&status=failed",
    "/v1/logs?environment=development&action_status=failed",
    "/v1/logs?environment=development&idempotency_key=key-43100",
    "/v1/sources/stripe/events?environment=development",
    "/v1/sources/stripe/events/type.3/sample?environment=development",
    "/v1/sources/stripe/status?environment=development",
]


async def test_the_log_is_read_through_indexes(
    client: httpx.AsyncClient,
    runtime: Runtime,
    statements: list[tuple[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At any time of day, whether the partitions of a day are full or as good as empty."""
    # As few for a log of this size as the product's for one of millions.
    monkeypatch.setattr(logs, "FEW_ACTIONS", 200)
    async with runtime.engine.connect() as connection:
        for days in (0, 4):
            await connection.run_sync(create_partitions, BEGINNING.date() + timedelta(days=days))
    filled = 0
    for moment, last in FILLED.items():
        await fill_log(runtime, filled + 1, last)
        filled = last
        set_clock(monkeypatch, BEGINNING + last * timedelta(seconds=10))
        for path in READ_THROUGH_INDEXES:
            statements.clear()
            assert (await client.get(path)).status_code == 200
            asked = [
                each for each in statements if re.search(r"\b(events|event_payloads|actions)\b", each[0])
            ]
            assert asked, path
            for plan in [await plan_of(runtime, *each) for each in asked]:
                scans = re.findall(rf"Seq Scan on ({TABLES}).*?actual time=\S+ rows=(\S+)", plan)
                # A day with few rows may be looked at as a whole.
                assert not [table for table, rows in scans if float(rows) > 100], f"{moment}: {plan}"
                # A day's key may be walked instead of an index, where the last 24 hours have few of its rows.
                skipped = [int(rows) for rows in re.findall(r"Rows Removed by Filter: (\d+)", plan)]
                assert sum(skipped) < 5000, f"{moment}: {plan}"


async def fill_log(runtime: Runtime, first: int, last: int) -> None:
    given = {"beginning": BEGINNING, "first": first, "last": last}
    async with runtime.engine.connect() as connection:
        connection = await connection.execution_options(isolation_level="AUTOCOMMIT")
        for each in FILL.split(";"):
            await connection.execute(text(each), given if ":first" in each else {})


async def plan_of(runtime: Runtime, statement: str, parameters: Any) -> str:
    async with runtime.engine.connect() as connection:
        explained = await connection.exec_driver_sql(f"EXPLAIN (ANALYZE) {statement}", parameters)
        return "\n".join(explained.scalars())


async def test_an_action_may_wait_before_its_event_is_claimed(client: httpx.AsyncClient, log: Log) -> None:
    """A replay of the actions as they were evaluated has them from its beginning."""
    waits = {"action_type": "users_identify", "parameters": {}, "attempts": 0, "status": ActionStatus.PENDING}
    waiting = await log.add(status=EventStatus.RECEIVED, actions=[waits])
    for query in ("&action_status=pending", "&action_status=pending&status=received"):
        assert [each["id"] for each in await listed(client, query)] == [str(waiting)]
    assert await listed(client, "&action_status=failed&status=received") == []


async def test_doorbells_own_filters(client: httpx.AsyncClient, log: Log, put: Put) -> None:
    await put("other", {"name": "Other"})
    ran = {"action_type": "users_identify", "parameters": {}, "attempts": 1}
    second = timedelta(seconds=1)
    good = await log.add(
        idempotency_key="evt_1",
        body=orjson.dumps({"note": 'Zoë said "hi"'}),
        actions=[{**ran, "status": ActionStatus.SUCCEEDED}],
    )
    again = await log.add(at=NOON + second, status=EventStatus.IDEMPOTENT, idempotency_key="evt_1")
    failed = await log.add(
        at=NOON + 2 * second,
        status=EventStatus.FAILED,
        verification_status=VerificationStatus.NOT_ENFORCED_FAILED,
        actions=[
            {**ran, "status": ActionStatus.FAILED},
            {**ran, "action_type": "users_delete", "status": ActionStatus.SKIPPED},
        ],
    )
    running = await log.add(
        at=NOON + 3 * second,
        status=EventStatus.PROCESSING,
        actions=[{**ran, "status": ActionStatus.PENDING}, {**ran, "status": ActionStatus.FAILED}],
        body=b'{"note":"Zo\\u00eb"}',
    )
    elsewhere = await log.add(at=NOON + 4 * second, source_key="other", status=EventStatus.FAILED)
    await log.add(environment="production")

    async def ids(query: str, path: str = LOGS) -> list[UUID]:
        return [UUID(each["id"]) for each in await listed(client, query, path)]

    assert await ids("&idempotent=true") == [again]
    assert await ids("&idempotent=false") == [running, failed, good]
    assert await ids("&idempotent=true&status=failed") == []
    assert await ids("&idempotent=false&status=failed") == [failed]
    assert await ids("&verification_status=not_enforced:failed") == [failed]
    assert await ids("&verification_status=enforced:verified") == [running, again, good]
    assert await ids("&idempotency_key=evt_1") == [again, good]
    assert await ids("&action_status=failed") == [running, failed]
    assert await ids("&action_status=pending") == [running]
    assert await ids("&action_status=success") == [good]
    assert await ids("&action_type=users_delete") == [failed]
    assert await ids("&action_type=users_identify") == [running, failed, good]
    assert await ids("&action_type=users_identify&action_status=skipped") == []
    assert await ids("&action_status=failed&status=processing") == [running]
    day = "&date=2026-01-15"
    assert await ids(f"{day}&search=Zo%C3%AB") == [running, good]
    assert await ids(f"{day}&search=said+%22hi") == [good]
    assert await ids(f"{day}&search=%22id%22:") == [failed, again]
    assert await ids(f"{day}&search=nobody") == []
    across = "/v1/logs?environment=development"
    assert await ids("", across) == [elsewhere, running, failed, again, good]
    assert await ids("&status=failed", across) == [elsewhere, failed]
    assert await ids("&action_status=failed", across) == [running, failed]
    assert await ids("&source=other", across) == [elsewhere]
    page = (await client.get(across + "&limit=2")).json()
    older = (await client.get(f"{across}&limit=2&after={page['page_info']['after']}")).json()
    assert [UUID(each["id"]) for each in older["entries"]] == [failed, again]
    newer = (await client.get(f"{across}&limit=2&before={older['page_info']['before']}")).json()
    assert newer["entries"] == page["entries"]


async def test_bad_filters(client: httpx.AsyncClient) -> None:
    assert fields(await client.get(LOGS + "&search=x")) == ["search"]
    year = "&starting_at=2025-01-01T00:00:00Z&ending_at=2026-01-01T00:00:00Z"
    assert fields(await client.get(LOGS + "&search=x" + year)) == ["search"]
    answer = await client.get(
        LOGS + "&idempotent=maybe&verification_status=good&action_type=pigeon&action_status=succeeded&search="
    )
    assert sorted(fields(answer)) == [
        "action_status",
        "action_type",
        "idempotent",
        "search",
        "verification_status",
    ]
    assert fields(await client.get("/v1/logs")) == ["environment"]


async def test_looking_ends_in_time(
    client: httpx.AsyncClient, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "_TIME_LIMIT", text("SET LOCAL statement_timeout = '1ms'"))
    monkeypatch.setattr(
        log_queries,
        "_CONTAINS",
        text(
            "pg_sleep(1) IS NOT NULL AND cardinality(CAST(:needles AS bytea[])) > 0 "
            "AND CAST(:first AS uuid) < CAST(:last AS uuid)"
        ),
    )
    await log.add()
    answer = await client.get(LOGS + "&date=2026-01-15&search=x")
    assert fields(answer) == ["starting_at"]
    assert "took longer" in answer.json()["message"]
    assert (await client.get("/v1/sources")).status_code == 200, "the limit stays with its query"


async def test_pages_stay_in_place_while_events_arrive(client: httpx.AsyncClient, log: Log) -> None:
    there = [await log.add(at=NOON + timedelta(milliseconds=number)) for number in range(30)]
    seen: list[UUID] = []
    done = False

    async def arrive() -> None:
        number = 0
        while not done:
            number += 1
            await log.add(at=NOON + timedelta(hours=1, milliseconds=number))
            await asyncio.sleep(0)

    async def walk() -> None:
        nonlocal done
        cursor = ""
        while cursor is not None:
            answer = await client.get(
                LOGS, params={"environment": "development", "limit": 4, "after": cursor}
            )
            seen.extend(UUID(each["id"]) for each in answer.json()["entries"])
            cursor = answer.json()["page_info"]["after"]
        done = True

    await asyncio.gather(arrive(), walk())
    assert len(seen) == len(set(seen))
    assert [each for each in seen if each in set(there)] == there[::-1]
