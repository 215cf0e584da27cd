"""Live parts of pages: the log as server-sent events that carry HTML, which htmx puts where the page says."""

from collections.abc import Callable
from uuid import UUID

from fastapi import Request
from fastapi.responses import StreamingResponse
from markupsafe import Markup

from app.api.dashboard.pages import Visit
from app.api.management.follow import open_stream
from app.logs.entries import LogEntry
from app.logs.filters import LogFilter


async def follow_log(
    visit: Visit, wanted: LogFilter, write: Callable[[LogEntry], Markup], *, since: UUID | None = None
) -> StreamingResponse:
    """Entries of the log as they arrive and change, each as an event `log` with the HTML that `write` makes
    of it.

    `since`: entries after this one are new to the page. A stream that broke off goes on where it was.
    """
    return await open_stream(visit.session, visit.runtime, wanted, _last(visit.request) or since, write)


def _last(request: Request) -> UUID | None:
    try:
        return UUID(request.headers.get("last-event-id", ""))
    except ValueError:
        return None
