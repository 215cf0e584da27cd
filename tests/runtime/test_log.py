"""Process logs by themselves."""

import logging

import pytest

from app.runtime.log import ConsoleFormatter


@pytest.mark.parametrize("sent", ["\x1b[2J", "a\nb", "a\rb", "\x07", "\x9b31m", "\u202e", "\u2028"])
def test_a_sender_s_text_controls_no_terminal(sent: str) -> None:
    record = logging.makeLogRecord({"msg": f"seen {sent}", "path": sent, "created": 0.0})
    line = ConsoleFormatter().format(record)
    assert line.isprintable()
    assert len(line.splitlines()) == 1


def test_ordinary_text_stays() -> None:
    record = logging.makeLogRecord({"msg": "Grüße 💥", "created": 0.0})
    assert "Grüße 💥" in ConsoleFormatter().format(record)
