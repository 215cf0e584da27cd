"""The activities that deliver an alert. A repeat, after a crash between sending and noting it, has the same
id."""

import html
from collections.abc import Callable
from typing import Any

import orjson
from sqlalchemy.ext.asyncio import AsyncEngine
from temporalio import activity

from app.activities.failures import tried_later
from app.alerts.store import (
    WEBHOOK,
    OutgoingAlert,
    begin_alert,
    finish_alert,
    give_up,
    load_delivery,
    record_delivery,
)
from app.core.errors import Permanent, Retryable
from app.core.secrets import SecretBox
from app.models.contracts import AlertDeliveryRef, AlertRef
from app.models.status import AlertStatus
from app.outbound.email import Email
from app.outbound.http import Outbound, webhook_headers
from app.outbound.http import Outgoing as Request
from app.outbound.mail import Mailer


class DeliverAlerts:
    """Sends what alerts say, and notes what came of it."""

    def __init__(self, engine: AsyncEngine, box: SecretBox, mailer: Mailer, outbound: Outbound) -> None:
        self._engine = engine
        self._box = box
        self._mailer = mailer
        self._outbound = outbound

    def activities(self) -> list[Callable[..., Any]]:
        return [self.begin_alert, self.deliver_alert, self.give_up_alert_delivery, self.finish_alert]

    @activity.defn
    async def begin_alert(self, alert: AlertRef) -> list[str]:
        """The channels to deliver to."""
        async with self._engine.begin() as connection:
            return await begin_alert(connection, alert.alert_id)

    @activity.defn
    async def deliver_alert(self, delivery: AlertDeliveryRef) -> None:
        """Make one delivery. A failure that may pass is raised, for Temporal to try again; any other is
        recorded."""
        async with self._engine.connect() as connection:
            outgoing = await load_delivery(connection, self._box, delivery)
        if outgoing is None or outgoing.status is not AlertStatus.QUEUED:
            return
        try:
            await self._send(delivery, outgoing)
        except Permanent as error:
            await self._record(delivery, AlertStatus.FAILED, str(error))
        except Retryable as error:
            await self._record(delivery, AlertStatus.QUEUED, str(error))
            raise tried_later(error, "the source's alerts") from None
        else:
            await self._record(delivery, AlertStatus.DELIVERED)

    @activity.defn
    async def give_up_alert_delivery(self, delivery: AlertDeliveryRef) -> None:
        """Mark a delivery as failed that Temporal stopped retrying."""
        async with self._engine.begin() as connection:
            await give_up(connection, delivery.alert_id, delivery.channel)

    @activity.defn
    async def finish_alert(self, alert: AlertRef) -> None:
        """Note that the deliveries are over."""
        async with self._engine.begin() as connection:
            await finish_alert(connection, alert.alert_id)

    async def _send(self, delivery: AlertDeliveryRef, outgoing: OutgoingAlert) -> None:
        if delivery.channel == WEBHOOK:
            body = orjson.dumps(outgoing.report)
            headers = webhook_headers(body, outgoing.secret, f"msg_{delivery.alert_id.hex}")
            headers["content-type"] = "application/json"
            await self._outbound.send(Request("POST", outgoing.receiver, list(headers.items()), body=body))
            return
        if self._mailer.sender is None:
            raise Permanent("no address to send from: set DOORBELL_SMTP_FROM")
        email = email_of(outgoing.report, self._mailer.sender, outgoing.receiver)
        await self._mailer.send(email, message_id=delivery.alert_id.hex)

    async def _record(
        self, delivery: AlertDeliveryRef, status: AlertStatus, error: str | None = None
    ) -> None:
        async with self._engine.begin() as connection:
            await record_delivery(connection, delivery, status, error)


def email_of(report: dict[str, Any], sender: str, receiver: str) -> Email:
    """The email that says what a report says."""
    data = report["data"]
    lines = _lines(data)
    address = html.escape(data["logs_url"])
    paragraphs = "".join(f"<p>{html.escape(each).replace(chr(10), '<br>')}</p>" for each in lines)
    prefix = "" if report["type"] == "source.failing" else "Test: "
    return Email(
        sender=sender,
        sender_name="Doorbell",
        to=receiver,
        subject=f"{prefix}{data['source']} in {data['environment']}: {lines[0]}",
        html=f'{paragraphs}<p><a href="{address}">The log</a></p>',
        text="\n\n".join([*lines, data["logs_url"]]) + "\n",
    )


def _lines(data: dict[str, Any]) -> list[str]:
    """What is wrong, the causes, the events: a paragraph each."""
    minutes = data["window_minutes"]
    window = "1 minute" if minutes == 1 else f"{minutes} minutes"
    counts = [f"{_number(data['failed_events'])} failed in {window}"]
    if data["failed_share"] is not None:
        counts.append(f"{data['failed_share']:.0%} of those received")
    if data["stuck_events"]:
        counts.append(f"{_number(data['stuck_events'])} not finished in time")
    lines = [", ".join(counts)]
    if data["causes"]:
        causes = [f"{_number(each['events'])}: {each['cause']}" for each in data["causes"]]
        lines.append("\n".join(["Most common causes:", *causes]))
    if data["log_ids"]:
        lines.append("\n".join(["First events:", *data["log_ids"]]))
    return lines


def _number(events: int) -> str:
    return "1 event" if events == 1 else f"{events} events"
