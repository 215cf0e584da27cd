"""What a source's script lets Doorbell answer to the sender, for services that want more than a 200."""

from dataclasses import dataclass, field
from typing import Any

MAXIMUM_BODY_LENGTH = 64 * 1024
# An event that was stored is accepted: no other answer would be true. Nor does a script set cookies.
_CONTENT_TYPE = "content-type"
_TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True)
class ScriptedAnswer:
    """An answer to an accepted event."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


def scripted_answer(output: dict[str, Any] | None) -> ScriptedAnswer | None:
    """The answer in `response` of a script's output: `{"status": 200, "headers": {"content-type": ...},
    "body": "..."}`. None when it is of another shape: scripts may mean something else by that name."""
    response = (output or {}).get("response")
    if not isinstance(response, dict):
        return None
    status, body, headers = response.get("status", 200), response.get("body", ""), response.get("headers", {})
    if not isinstance(status, int) or isinstance(status, bool) or not 200 <= status <= 299:
        return None
    if not isinstance(body, str) or len(body) > MAXIMUM_BODY_LENGTH or not isinstance(headers, dict):
        return None
    if status in (204, 205):
        return ScriptedAnswer(status, b"")
    kinds = [value for name, value in headers.items() if name.lower() == _CONTENT_TYPE]
    kind = kinds[0] if kinds and isinstance(kinds[0], str) and _is_printable(kinds[0]) else _TEXT
    return ScriptedAnswer(status, body.encode("utf-8", "replace"), {_CONTENT_TYPE: kind})


def _is_printable(value: str) -> bool:
    return value.isascii() and value.isprintable()
