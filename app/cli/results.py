"""What became of a request that was sent: the answer, then the event's log and its actions' as they end."""

import asyncio
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import httpx
import orjson
from rich.console import Console
from rich.text import Text
from sqlmodel.ext.asyncio.session import AsyncSession

from app.cli.printing import print_line
from app.cli.target import Target
from app.core import exact_json
from app.core.left_out import named
from app.database.pages import PageRequest
from app.logs.entries import LogEntry
from app.logs.filters import LogFilter
from app.logs.listing import list_log
from app.models.status import EventStatus

GOOD = frozenset({"succeeded", "ignored", "idempotent", "skipped"})
_UNFINISHED = frozenset({EventStatus.RECEIVED, EventStatus.PROCESSING})
_LOOK_EVERY = 0.1
SHOWN_LENGTH = 60


@dataclass(frozen=True)
class Result:
    """The answer to a request, and the log entry of its event when it was found."""

    status: int
    answer: Any
    entry: LogEntry | None

    @property
    def is_good(self) -> bool:
        """Whether the event was accepted and processed without a failure."""
        return self.status < 300 and self.entry is not None and self.entry.event.status in GOOD

    def to_json(self) -> str:
        entry = self.entry
        event = None
        if entry is not None:
            actions = [asdict(each) for each in entry.actions]
            event = {
                **entry.event.model_dump(),
                "preprocess_output": entry.preprocess_output,
                "actions": actions,
            }
        return exact_json.dumps(
            {"status": self.status, "answer": self.answer, "event": event}, default=str
        ).decode()


async def result_of(target: Target, answer: httpx.Response, sent_at: datetime, wait: float) -> Result:
    """The result, once its event is processed, or as it is after `wait` seconds."""
    body = _decoded(answer.content)
    identifier = _identifier(body)
    if identifier is not None:
        return Result(answer.status_code, body, await _finished(target, identifier, wait))
    refused = LogFilter(
        target.endpoint.environment,
        target.endpoint.source_key,
        status=EventStatus.REJECTED,
        starting_at=sent_at,
    )
    return Result(answer.status_code, body, await _newest(target, refused))


def show(result: Result, console: Console) -> None:
    """Print a result: a line for the answer, the event and each action. Terminals wrap what is long; nothing
    is cut."""
    answer = result.answer if isinstance(result.answer, Mapping) else {}
    print_line(
        console, "answer", _colored(str(result.status), result.status < 300), str(answer.get("message", ""))
    )
    if result.entry is None:
        return
    event = result.entry.event
    print_line(
        console,
        event.event_type or "(no event type)",
        _colored(event.status, event.status in GOOD),
        event.verification_status,
        event.error or event.verification_reason or "",
    )
    for action in result.entry.actions:
        print_line(
            console,
            f"  └ {action.action_type}",
            _colored(action.status, action.status in GOOD),
            _took(action),
            action.error or _short(action.result),
        )
        for each in action.left_out or ():
            print_line(console, Text("    left out", style="yellow"), named(each), each["reason"])


async def _finished(target: Target, identifier: UUID, wait: float) -> LogEntry | None:
    wanted = LogFilter(target.endpoint.environment, target.endpoint.source_key, id=identifier)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait
    while True:
        entry = await _newest(target, wanted)
        if entry is not None and entry.event.status not in _UNFINISHED:
            return entry
        if loop.time() > deadline:
            return entry
        await asyncio.sleep(_LOOK_EVERY)


async def _newest(target: Target, wanted: LogFilter) -> LogEntry | None:
    async with AsyncSession(target.engine) as session:
        page = await list_log(session, target.box, wanted, PageRequest(1), with_actions=True)
    return page.items[0] if page.items else None


def _decoded(content: bytes) -> Any:
    try:
        return exact_json.loads(content)
    except orjson.JSONDecodeError:
        return content.decode("utf-8", "replace")[:1000]


def _identifier(body: Any) -> UUID | None:
    try:
        return UUID(body["id"])
    except (TypeError, LookupError, ValueError, AttributeError):
        return None


def _colored(text: str, good: bool) -> Text:
    return Text(text, style="green" if good else "red")


def _short(result: Any) -> str:
    """The beginning of what a destination answered: enough to know it by."""
    text = exact_json.dumps(result, default=str).decode()
    return text if len(text) <= SHOWN_LENGTH else f"{text[:SHOWN_LENGTH]}…"


def _took(action: Any) -> str:
    if action.started_at is None or action.finished_at is None:
        return ""
    return f"{(action.finished_at - action.started_at).total_seconds() * 1000:.0f} ms"
