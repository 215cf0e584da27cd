"""Statistics: counted from the log and ahead of time alike, when events finish late too; over HTTP; the
command."""

from collections import Counter
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlmodel.ext.asyncio.session import AsyncSession

from app.logs import rollup, statistics
from app.logs.rollup import SETTLED, roll_up
from app.logs.statistics import NAMED_TYPES, Interval, Latencies, Statistics, read_statistics
from app.models.action import Action
from app.models.event import Event
from app.models.types import derived_id, first_id_at, new_id, now
from app.runtime.resources import Runtime
from tests.bench import Api

SLUG = "development"


@pytest.fixture(autouse=True)
def long_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A round counts all there is, however busy the machine."""
    monkeypatch.setattr(rollup, "ROUND", timedelta(minutes=10))


def id_at(moment: datetime) -> UUID:
    """A new id of another time."""
    return UUID(int=first_id_at(moment).int | (new_id().int & ((1 << 80) - 1)))


async def add_events(runtime: Runtime, ago: timedelta, *events: tuple[str, str, str]) -> list[UUID]:
    """Events of (source, type, status), each with one action, that took 100 ms if they are over."""
    received = now() - ago
    ids = [id_at(received) for _ in events]
    async with AsyncSession(runtime.engine) as session:
        for identifier, (source, event_type, status) in zip(ids, events, strict=True):
            is_over = status not in ("received", "processing")
            session.add(
                Event(
                    id=identifier,
                    environment=SLUG,
                    source_key=source,
                    event_type=event_type or None,
                    status=status,
                    verification_status="enforced:verified",
                    received_at=received,
                    finished_at=received + timedelta(milliseconds=100) if is_over else None,
                )
            )
            if status in ("succeeded", "failed", "processing"):
                session.add(
                    Action(
                        id=derived_id(identifier, "one"),
                        event_id=identifier,
                        mapping_id=new_id(),
                        action_type="users_identify",
                        parameters={},
                        status="pending" if status == "processing" else status,
                        error="422 invalid_params: email is not one" if status == "failed" else None,
                    )
                )
        await session.commit()
    return ids


async def read(
    runtime: Runtime, interval: Interval, back: timedelta, source: str | None = None
) -> Statistics:
    async with AsyncSession(runtime.engine) as session:
        return await read_statistics(
            session, SLUG, interval, now() - back, now() + timedelta(seconds=1), source
        )


def totals(found: Statistics) -> dict[str, Any]:
    return {
        "events": found.events,
        "actions": found.actions,
        "latencies": dict(found.latencies.steps),
        "sources": dict(found.sources),
        "types": dict(found.event_types),
        "points": [(each.starts_at, each.events, each.actions) for each in found.points if each.events],
    }


async def test_what_is_counted_ahead_is_what_the_log_says(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same before and after rolling up, also when it is done again, and after what was waiting has
    finished."""
    monkeypatch.setattr(statistics, "MAXIMUM_FRESH", timedelta(days=40))
    await add_events(runtime, timedelta(seconds=5), ("stripe", "invoice.paid", "received"))
    await add_events(
        runtime,
        timedelta(minutes=5),
        *[("stripe", "invoice.paid", "succeeded")] * 3,
        ("stripe", "invoice.paid", "failed"),
        ("clerk", "", "rejected"),
    )
    waiting = await add_events(runtime, timedelta(minutes=50), ("clerk", "user.created", "processing"))
    old = await add_events(runtime, timedelta(days=10, hours=3), ("stripe", "charge.failed", "processing"))
    ranges = (
        (Interval.MINUTE, timedelta(hours=1)),
        (Interval.QUARTER_HOUR, timedelta(days=1)),
        (Interval.HOUR, timedelta(days=12)),
        (Interval.DAY, timedelta(days=30)),
    )
    from_log = [totals(await read(runtime, *each)) for each in ranges]
    assert from_log[0]["events"] == Counter(succeeded=3, failed=1, rejected=1, processing=1, received=1)
    assert from_log[3]["actions"] == Counter(succeeded=3, failed=1, pending=2)
    assert from_log[0]["types"]["clerk", ""] == Counter(rejected=1)

    for fresh in (timedelta(days=40), timedelta(minutes=2)):
        monkeypatch.setattr(statistics, "MAXIMUM_FRESH", fresh)
        await roll_up(runtime.engine)
        for each, expected in zip(ranges, from_log, strict=True):
            found = totals(await read(runtime, *each))
            for name, value in found.items():
                assert value == expected[name], (name, each, fresh)
    assert (await read(runtime, Interval.HOUR, timedelta(hours=1), "clerk")).events == Counter(
        rejected=1, processing=1
    )

    before = now()
    async with runtime.engine.begin() as connection:
        late = text("UPDATE events SET status = 'succeeded', finished_at = now() WHERE id = ANY(:ids)")
        await connection.execute(late, {"ids": [*waiting, *old]})
    await roll_up(runtime.engine)
    hour = await read(runtime, Interval.MINUTE, timedelta(hours=1))
    assert hour.events == Counter(succeeded=4, failed=1, rejected=1, received=1)
    month = await read(runtime, Interval.DAY, timedelta(days=30))
    assert month.events == Counter(succeeded=5, failed=1, rejected=1, received=1)
    assert month.latencies.events == 6
    assert month.rolled_up_to is not None
    assert month.rolled_up_to >= Interval.MINUTE.floor(before - SETTLED)


async def test_types_beyond_the_most_frequent_ones_are_counted_together(runtime: Runtime) -> None:
    made_up = [("custom", f"type.{number}", "ignored") for number in range(NAMED_TYPES + 20)]
    await add_events(runtime, timedelta(minutes=3), *made_up, ("custom", "frequent", "ignored"))
    found = await read(runtime, Interval.MINUTE, timedelta(minutes=10))
    assert found.events == Counter(ignored=NAMED_TYPES + 21)
    assert len(found.event_types) == NAMED_TYPES + 1
    assert found.event_types["custom", ""] == Counter(ignored=21)


def test_percentiles_merge() -> None:
    """Nine of ten events within 100 ms and one of 10 s, whichever minutes they were in."""
    steps = Counter({27: 45}) + Counter({27: 45}) + Counter({54: 10})
    found = Latencies(steps)
    assert found.events == 100
    assert 80 < (found.percentile(50) or 0) < 108
    assert 9_000 < (found.percentile(95) or 0) < 12_000
    assert Latencies({}).percentile(50) is None


async def test_statistics_over_http(api: Api, runtime: Runtime) -> None:
    """Totals and points, by source and type; what cannot be answered says which field is wrong."""
    await add_events(
        runtime,
        timedelta(minutes=2),
        *[("stripe", "invoice.paid", "succeeded")] * 2,
        ("clerk", "user.created", "failed"),
    )
    answer = await api.get("/v1/statistics", params={"environment": SLUG})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert found["events"] == {"succeeded": 2, "failed": 1}
    assert found["actions"] == {"succeeded": 2, "failed": 1}
    assert found["latency"]["count"] == 3
    assert 80 < found["latency"]["p95_ms"] < 110
    assert found["event_types"][0] == {
        "source": "stripe",
        "event": "invoice.paid",
        "events": {"succeeded": 2},
    }
    assert len(found["points"]) == 25
    only = await api.get("/v1/statistics", params={"environment": SLUG, "source": "clerk"})
    assert only.json()["events"] == {"failed": 1}
    for wrong, field in (
        ({"interval": "minute", "starting_at": "2026-01-01T00:00:00Z"}, "interval"),
        ({"interval": "minute", "starting_at": "2020-01-01T00:00:00Z", "ending_at": (
            "2020-01-01T01:00:00Z"
        )}, "starting_at"),
        ({"starting_at": "2026-01-02T00:00:00Z", "ending_at": "2026-01-01T00:00:00Z"}, "ending_at"),
        ({"environment": "nowhere"}, "environment"),
    ):  # fmt: skip
        refused = await api.get("/v1/statistics", params={"environment": SLUG, **wrong})
        assert refused.status_code == 422
        assert [each["field"] for each in refused.json()["errors"]] == [field]
