"""The body of a delivery as JSON: what it is, or what a form holds. The bytes as received are what is
verified."""

from urllib.parse import parse_qsl

import orjson

from app.core import exact_json

FORM = "application/x-www-form-urlencoded"
MAXIMUM_FIELDS = 1000
# GitHub and Slack send JSON in a field of this name.
_PAYLOAD = "payload"


def as_json(body: bytes, headers: dict[str, str]) -> bytes:
    """A form as an object of its fields, with lists for those given more than once; as the object that stands
    in `payload` when that is its only field. Anything else as it is: senders of JSON call it a form too."""
    if not headers.get("content-type", "").lower().startswith(FORM) or _is_json(body):
        return body
    try:
        fields = parse_qsl(
            body.decode(), keep_blank_values=True, strict_parsing=True, max_num_fields=MAXIMUM_FIELDS
        )
    except ValueError:
        return body
    if not fields:
        return body
    if len(fields) == 1 and fields[0][0] == _PAYLOAD and _is_object(fields[0][1]):
        return fields[0][1].encode()
    found: dict[str, list[str]] = {}
    for name, value in fields:
        found.setdefault(name, []).append(value)
    return orjson.dumps({name: values[0] if len(values) == 1 else values for name, values in found.items()})


def _is_json(body: bytes) -> bool:
    try:
        exact_json.loads(body)
    except orjson.JSONDecodeError:
        return False
    return True


def _is_object(text: str) -> bool:
    try:
        return isinstance(exact_json.loads(text), dict)
    except orjson.JSONDecodeError:
        return False
