"""Process logs: JSON lines for machines, or one readable line for a terminal. Never payloads or secrets."""

import logging
import sys
from datetime import UTC, datetime

import orjson

from app.core.settings import Settings

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
# Libraries that narrate at INFO what our own lines already say.
_QUIET = (
    "httpx",
    "httpcore",
    "alembic",
    "temporalio.activity",
    "temporalio.workflow",
    "asyncio",
    "uvicorn.error",
)


def setup_logging(settings: Settings) -> None:
    """Send all logs of this process to standard output."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter() if settings.log_format == "json" else ConsoleFormatter())
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and whatever the line carries."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _time(record).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_extra(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


class ConsoleFormatter(logging.Formatter):
    """Time, level, message and `key=value` pairs."""

    def format(self, record: logging.LogRecord) -> str:
        pairs = " ".join(
            f"{key}={_printable(value)}" for key, value in _extra(record).items() if value is not None
        )
        time = f"{_time(record).astimezone():%H:%M:%S}"
        line = f"{time} {record.levelname:<7} {_printable(record.getMessage())} {pairs}".rstrip()
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _printable(value: object) -> str:
    """A value without control characters: a sender's text moves no cursor and begins no line."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in str(value))


def _time(record: logging.LogRecord) -> datetime:
    return datetime.fromtimestamp(record.created, UTC)


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}
