"""Failure alerts: when a source's events fail or stay unfinished, its people are told, once in a window.

A worker looks regularly (`app/alerts/watch.py`). Whoever moves the window's end in Postgres writes the alert
and its deliveries in the same transaction; `app/worker/alerts.py` starts the workflow that delivers them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode
from uuid import UUID

from sqlalchemy import Row, TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core.errors import FieldError
from app.core.secrets import SecretBox, without_password
from app.core.validation import invalid_fields
from app.database.engine import to_json
from app.database.pages import Page, PageRequest, fetch_page
from app.models.alert import Alert, AlertDelivery
from app.models.contracts import AlertDeliveryRef
from app.models.source import SourceEnvironment
from app.models.status import AlertStatus, EventStatus
from app.models.types import first_id_at, new_id, now, time_of

# A worker hears of a new alert of its environment on this channel.
CHANNEL = "doorbell_alerts"
WEBHOOK, EMAIL = "webhook", "email"
# A share of fewer events than this says nothing.
MINIMUM_FOR_SHARE = 10
# Events whose causes are looked up, causes that are named, their length, and events that are named.
MAXIMUM_EXAMINED = 1000
MAXIMUM_CAUSES = 5
MAXIMUM_CAUSE_LENGTH = 500
MAXIMUM_NAMED = 10

_WATCHED = text("""
SELECT configured.id, configured.source_key, configured.environment, configured.failure_alert
FROM source_environments AS configured
LEFT JOIN alert_windows ON alert_windows.source_environment_id = configured.id
WHERE configured.environment = :environment AND configured.failure_alert IS NOT NULL
  AND (alert_windows.ends_at IS NULL OR alert_windows.ends_at <= now())
""")

# A rehearsal is looked at by whoever makes it.
_FAILED = text("""
SELECT id, count(*) OVER () AS total FROM events
WHERE environment = :environment AND source_key = :source_key AND status = 'failed' AND finished_at > :since
  AND origin IS DISTINCT FROM 'rehearsal'
ORDER BY finished_at LIMIT :limit
""")

_SHARE = text("""
SELECT count(*) FILTER (WHERE status = 'failed') AS failed, count(*) AS finished FROM events
WHERE environment = :environment AND source_key = :source_key AND status IN ('succeeded', 'failed')
  AND id >= :since
  AND origin IS DISTINCT FROM 'rehearsal'
""")

# In two, so that a partial index serves each.
_STUCK = text("""
SELECT id, count(*) OVER () AS total FROM (
    SELECT id FROM events
    WHERE environment = :environment AND source_key = :source_key AND status = 'received' AND id < :before
    UNION ALL
    SELECT id FROM events
    WHERE environment = :environment AND source_key = :source_key AND status = 'processing' AND id < :before
) AS unfinished
ORDER BY id LIMIT :limit
""")

# OFFSET 0 makes it one look into the primary key for each event, whose actions share its millisecond.
_CAUSES = text("""
WITH causes AS (
    SELECT event.id, coalesce(action.error, event.error, 'no cause was recorded') AS cause
    FROM events AS event LEFT JOIN LATERAL (
        SELECT error FROM actions
        WHERE actions.id >= CAST(left(CAST(event.id AS text), 13) || '-0000-0000-000000000000' AS uuid)
          AND actions.id <= CAST(left(CAST(event.id AS text), 13) || '-ffff-ffff-ffffffffffff' AS uuid)
          AND actions.event_id = event.id AND actions.status IN ('failed', 'pending')
            AND actions.error IS NOT NULL
        OFFSET 0
    ) AS action ON true
    WHERE event.id = ANY(CAST(:ids AS uuid[]))
)
SELECT left(cause, :length) AS cause, count(DISTINCT id) AS events
  FROM causes GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT :limit
""")

_CLAIM = text("""
INSERT INTO alert_windows (source_environment_id, ends_at) VALUES (:id, now() + CAST(:window AS interval))
ON CONFLICT (source_environment_id) DO UPDATE SET ends_at = excluded.ends_at
  WHERE alert_windows.ends_at <= now()
RETURNING ends_at
""")

_ADD = text("""
INSERT INTO alerts (id, source_environment_id, environment, status, report, created_at, updated_at)
VALUES (:id, :source_environment_id, :environment, 'queued', CAST(:report AS json), now(), now())
""")

_ADD_DELIVERY = text("""
INSERT INTO alert_deliveries (alert_id, channel, receiver, status, attempts)
VALUES (:alert_id, :channel, :receiver, 'queued', 0)
""")

_NOTIFY = text("SELECT pg_notify(:channel, :environment)")

_BEGIN = text("""
UPDATE alerts SET status = 'delivering', updated_at = now() WHERE id = :id AND status = 'queued'
""")

_CHANNELS = text("SELECT channel FROM alert_deliveries WHERE alert_id = :id ORDER BY channel")

_DELIVERY = text("""
SELECT delivery.receiver, delivery.status, alerts.report, alert_secrets.ciphertext
FROM alert_deliveries AS delivery JOIN alerts ON alerts.id = delivery.alert_id
LEFT JOIN alert_secrets ON alert_secrets.source_environment_id = alerts.source_environment_id
WHERE delivery.alert_id = :id AND delivery.channel = :channel
""")

# A delivery that was made or given up stays so.
_RECORD = text("""
WITH touched AS (UPDATE alerts SET updated_at = now() WHERE id = :id)
UPDATE alert_deliveries SET status = :status, error = :error, attempts = attempts + :attempts,
    finished_at = CASE WHEN CAST(:status AS text) = 'queued' THEN NULL ELSE now() END
WHERE alert_id = :id AND channel = :channel AND status = 'queued'
""")

_GIVE_UP = text("""
UPDATE alert_deliveries SET status = 'failed', finished_at = now(),
    error = 'gave up after ' || attempts || ' attempts: ' || coalesce(error, 'no attempt was recorded')
WHERE alert_id = :id AND channel = coalesce(:channel, channel) AND status = 'queued'
""")

_FINISH = text("""
UPDATE alerts SET updated_at = now(), status = CASE WHEN EXISTS (
    SELECT FROM alert_deliveries WHERE alert_id = alerts.id AND status <> 'delivered'
) THEN 'failed' ELSE 'delivered' END
WHERE id = :id AND status IN ('queued', 'delivering')
""")


@dataclass(frozen=True)
class Rules:
    """When a source in an environment alerts, and whom: the setting `failure_alert`."""

    window_minutes: int
    failed_events: int | None
    failed_share: float | None
    stuck_after_minutes: int | None
    webhook_url: str | None
    emails: list[str]

    @property
    def window(self) -> timedelta:
        return timedelta(minutes=self.window_minutes)

    def receivers(self) -> dict[str, str]:
        """By channel: the webhook's URL, the addresses."""
        found = {WEBHOOK: self.webhook_url or "", EMAIL: ", ".join(self.emails)}
        return {channel: receiver for channel, receiver in found.items() if receiver}


@dataclass(frozen=True)
class Watched:
    """A source in an environment, with its rules."""

    id: UUID
    source_key: str
    environment: str
    rules: Rules


@dataclass(frozen=True)
class Events:
    """Events that something is wrong with: how many, and the ids of the first, the oldest first."""

    total: int = 0
    first: Sequence[UUID] = ()


@dataclass(frozen=True)
class Trouble:
    """What is wrong with a source's events, by the rules that say so."""

    reasons: list[str]
    failed: Events
    failed_share: float | None
    stuck: Events


@dataclass(frozen=True)
class OutgoingAlert:
    """A delivery as it is to be sent. `secret` signs it, if there is one."""

    receiver: str
    status: AlertStatus
    report: dict[str, Any]
    secret: str | None


async def make_due_alerts(engine: AsyncEngine, environment: str, base_url: str) -> int:
    """Make the alerts that are due in an environment, each once however many workers look; how many."""
    async with engine.connect() as connection:
        rows = (await connection.execute(_WATCHED, {"environment": environment})).all()
    made = 0
    for row in rows:
        watched = _watched(dict(row._mapping))
        async with engine.begin() as connection:
            trouble = await _find_trouble(connection, watched)
            if trouble.reasons and await _claim_window(connection, watched):
                report = await _report(connection, watched, trouble, base_url)
                await _add(connection, watched, new_id(), report)
                made += 1
    return made


async def make_test_alert(session: AsyncSession, configured: SourceEnvironment, base_url: str) -> Alert:
    """Send an alert that says what is wrong now, be it nothing, whatever the window. The caller commits.

    Raises:
        RequestError: 422, the source alerts nobody.
    """
    if configured.failure_alert is None:
        raise invalid_fields([FieldError("failure_alert", "is not set for this source and environment")])
    watched = _watched(configured.model_dump())
    connection = await session.connection()
    trouble = await _find_trouble(connection, watched)
    report = await _report(connection, watched, trouble, base_url)
    identifier = new_id()
    await _add(connection, watched, identifier, {**report, "type": "source.alert_test"})
    return await session.get_one(Alert, identifier)


def _watched(row: Mapping[str, Any]) -> Watched:
    return Watched(row["id"], row["source_key"], row["environment"], Rules(**row["failure_alert"]))


async def _find_trouble(connection: AsyncConnection, watched: Watched) -> Trouble:
    rules, moment = watched.rules, now()
    since = moment - rules.window
    where = {"environment": watched.environment, "source_key": watched.source_key}
    failed = await _events(connection, _FAILED, {**where, "since": since})
    reasons, share, stuck = [], None, Events()
    if rules.failed_events is not None and failed.total >= rules.failed_events:
        reasons.append("failed_events")
    if rules.failed_share is not None and failed.total:
        counts = (await connection.execute(_SHARE, {**where, "since": first_id_at(since)})).one()
        if counts.finished >= MINIMUM_FOR_SHARE:
            share = counts.failed / counts.finished
            if share >= rules.failed_share:
                reasons.append("failed_share")
    if rules.stuck_after_minutes is not None:
        before = first_id_at(moment - timedelta(minutes=rules.stuck_after_minutes))
        stuck = await _events(connection, _STUCK, {**where, "before": before})
        if stuck.total:
            reasons.append("stuck_events")
    return Trouble(reasons, failed, share, stuck)


async def _events(connection: AsyncConnection, query: TextClause, where: dict[str, Any]) -> Events:
    rows = (await connection.execute(query, {**where, "limit": MAXIMUM_EXAMINED})).all()
    return Events(rows[0].total, [row.id for row in rows]) if rows else Events()


async def _claim_window(connection: AsyncConnection, watched: Watched) -> bool:
    """Whether this caller alerts: nobody did within the window."""
    claimed = await connection.execute(_CLAIM, {"id": watched.id, "window": watched.rules.window})
    return claimed.first() is not None


async def _report(
    connection: AsyncConnection, watched: Watched, trouble: Trouble, base_url: str
) -> dict[str, Any]:
    """What the alert says. Causes are the destination's own words."""
    moment = now()
    about_stuck = trouble.reasons == ["stuck_events"]
    events = (trouble.stuck if about_stuck else trouble.failed).first
    causes = await connection.execute(
        _CAUSES, {"ids": list(events), "length": MAXIMUM_CAUSE_LENGTH, "limit": MAXIMUM_CAUSES}
    )
    since = moment - watched.rules.window
    oldest = min([since, *(time_of(each) for each in events)])
    status = EventStatus.PROCESSING if about_stuck else EventStatus.FAILED
    return {
        "type": "source.failing",
        "timestamp": moment.isoformat(),
        "data": {
            "source": watched.source_key,
            "environment": watched.environment,
            "reasons": trouble.reasons,
            "window_minutes": watched.rules.window_minutes,
            "failed_events": trouble.failed.total,
            "failed_share": None if trouble.failed_share is None else round(trouble.failed_share, 4),
            "stuck_events": trouble.stuck.total,
            "causes": [{"cause": row.cause, "events": row.events} for row in causes],
            "log_ids": [str(each) for each in events[:MAXIMUM_NAMED]],
            "logs_url": _logs_url(base_url, watched, status, oldest),
        },
    }


def _logs_url(base_url: str, watched: Watched, status: EventStatus, since: datetime) -> str:
    """The dashboard's page of these events."""
    query = {"environment": watched.environment, "status": status.value, "starting_at": since.isoformat()}
    return f"{base_url}/sources/{quote(watched.source_key, safe='')}/logs?{urlencode(query)}"


async def _add(
    connection: AsyncConnection, watched: Watched, identifier: UUID, report: dict[str, Any]
) -> None:
    await connection.execute(
        _ADD,
        {
            "id": identifier,
            "source_environment_id": watched.id,
            "environment": watched.environment,
            "report": to_json(report),
        },
    )
    for channel, receiver in watched.rules.receivers().items():
        await connection.execute(
            _ADD_DELIVERY, {"alert_id": identifier, "channel": channel, "receiver": receiver}
        )
    await connection.execute(_NOTIFY, {"channel": CHANNEL, "environment": watched.environment})


async def begin_alert(connection: AsyncConnection, alert_id: UUID) -> list[str]:
    """Note that an alert is being delivered; the channels."""
    await connection.execute(_BEGIN, {"id": alert_id})
    return list((await connection.execute(_CHANNELS, {"id": alert_id})).scalars())


async def load_delivery(
    connection: AsyncConnection, box: SecretBox, delivery: AlertDeliveryRef
) -> OutgoingAlert | None:
    """The delivery as it is to be sent; None when the source is gone, and all of its alerts."""
    parameters = {"id": delivery.alert_id, "channel": delivery.channel}
    row = (await connection.execute(_DELIVERY, parameters)).first()
    if row is None:
        return None
    secret = None if row.ciphertext is None else box.decrypt(row.ciphertext).decode()
    return OutgoingAlert(row.receiver, AlertStatus(row.status), row.report, secret)


async def record_delivery(
    connection: AsyncConnection, delivery: AlertDeliveryRef, status: AlertStatus, error: str | None = None
) -> None:
    """Write what came of an attempt; `queued` when there will be another."""
    await connection.execute(
        _RECORD,
        {
            "id": delivery.alert_id,
            "channel": delivery.channel,
            "status": status.value,
            "error": error,
            "attempts": 1,
        },
    )


async def give_up(connection: AsyncConnection, alert_id: UUID, channel: str | None = None) -> None:
    """Mark a delivery, or all, as failed that is not tried again."""
    await connection.execute(_GIVE_UP, {"id": alert_id, "channel": channel})


async def finish_alert(connection: AsyncConnection, alert_id: UUID) -> None:
    """Note that the deliveries of an alert are over."""
    await connection.execute(_FINISH, {"id": alert_id})


async def list_alerts(
    session: AsyncSession, configured: SourceEnvironment, page: PageRequest
) -> Page[tuple[Alert, list[AlertDelivery]]]:
    """A page of a source's alerts in an environment, newest first, with their deliveries."""
    table = Alert.__table__  # type: ignore[attr-defined]
    found = await fetch_page(
        await session.connection(),
        select(table).where(table.c.source_environment_id == configured.id),
        [col(Alert.id)],
        page,
        _alert,
        descending=True,
        parse=UUID,
    )
    deliveries = await deliveries_of(session, [each.id for each in found.items])
    items = [(each, deliveries[each.id]) for each in found.items]
    return Page(items, found.size, found.after, found.before)


def _alert(row: Row[Any]) -> Alert:
    return Alert(**{name: row._mapping[name] for name in Alert.model_fields})


async def deliveries_of(session: AsyncSession, alert_ids: list[UUID]) -> dict[UUID, list[AlertDelivery]]:
    """The deliveries of alerts, by alert, as they are shown: of a URL with a password, all but that."""
    query = select(AlertDelivery).where(col(AlertDelivery.alert_id).in_(alert_ids))
    found: dict[UUID, list[AlertDelivery]] = {each: [] for each in alert_ids}
    for delivery in await session.exec(query.order_by(col(AlertDelivery.channel))):
        session.expunge(delivery)
        delivery.receiver = without_password(delivery.receiver)
        found[delivery.alert_id].append(delivery)
    return found
