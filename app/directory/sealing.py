"""Secret values of workflow steps: headers and query parameters whose name says that they are credentials.

They are write-only. A definition shows `REDACTED` in their place; so does a message. The values are kept
apart, encrypted, by their place in the definition.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

import orjson

from app.core.errors import FieldError
from app.core.secrets import REDACTED, SecretBox
from app.core.validation import invalid_fields
from app.directory.recipients import Json

_SECRET_NAME = re.compile(
    r"auth|cookie|token|secret|passw|pwd|api.?key|access.?key|credential|signature|session|x-.*key",
    re.IGNORECASE,
)
_FIELDS = ("headers", "query_params")


def is_secret(name: str) -> bool:
    """Whether the value of a header or query parameter with this name is a credential."""
    return _SECRET_NAME.search(name) is not None


def redact(definition: Json) -> tuple[Json, dict[str, str]]:
    """A definition without its secret values, and those by place."""
    shown, secrets = deepcopy(definition), {}
    for place, pair in _pairs(shown):
        secrets[place] = pair["value"]
        pair["value"] = REDACTED
    return shown, secrets


def restore(definition: Json, secrets: Mapping[str, str]) -> Json:
    """A definition with its secret values. Those that have none are left as they are."""
    whole = deepcopy(definition)
    for place, pair in _pairs(whole):
        pair["value"] = secrets.get(place, pair["value"])
    return whole


def restore_redacted(definition: Json, earlier: Mapping[str, str]) -> Json:
    """A definition as a caller writes it, who keeps a secret value by writing `REDACTED`.

    Raises:
        RequestError: 422, there is no earlier value to keep.
    """
    errors = [
        FieldError(f"workflow.steps ({place})", f"is {REDACTED}, and there is no earlier value: give one")
        for place, pair in _pairs(definition)
        if pair["value"] == REDACTED and place not in earlier
    ]
    if errors:
        raise invalid_fields(errors)
    whole = deepcopy(definition)
    for place, pair in _pairs(whole):
        if pair["value"] == REDACTED:
            pair["value"] = earlier[place]
    return whole


def redact_pairs(pairs: list[tuple[str, str]]) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """Rendered headers or parameters without their secret values, and those by place."""
    secrets = {str(place): value for place, (name, value) in enumerate(pairs) if is_secret(name)}
    shown = [(name, REDACTED if is_secret(name) else value) for name, value in pairs]
    return shown, secrets


def restore_pairs(pairs: list[Any], secrets: Mapping[str, str]) -> list[tuple[str, str]]:
    """Rendered headers or parameters with their secret values."""
    return [(name, secrets.get(str(place), value)) for place, (name, value) in enumerate(pairs)]


def seal(box: SecretBox, secrets: Any) -> bytes | None:
    """Secret values as they are stored; None for none."""
    return box.encrypt(orjson.dumps(secrets)) if secrets else None


def unseal(box: SecretBox, sealed: bytes | None) -> Any:
    """Secret values from what is stored.

    Raises:
        Permanent: no key of DOORBELL_SECRET_KEY opens them.
    """
    return {} if sealed is None else orjson.loads(box.decrypt(sealed))


def seal_content(box: SecretBox, content: Json) -> tuple[Json, bytes | None]:
    """A message's content as it is stored: its secret values apart."""
    shown, secrets = dict(content), {}
    for field in _FIELDS:
        if field in content:
            shown[field], found = redact_pairs(content[field])
            secrets.update({field: found} if found else {})
    return shown, seal(box, secrets)


def unseal_content(box: SecretBox, content: Json, sealed: bytes | None) -> Json:
    """A message's content as it was rendered."""
    secrets = unseal(box, sealed)
    restored = {field: restore_pairs(content[field], found) for field, found in secrets.items()}
    return {**content, **restored}


def _pairs(definition: Json) -> Iterator[tuple[str, Json]]:
    """The pairs of all steps whose values are secret, each with its place."""
    for step in definition.get("steps", ()):
        request = step.get("settings") if step.get("type") == "http_fetch" else step.get("template")
        for field in _FIELDS:
            seen: Counter[str] = Counter()
            for pair in (request or {}).get(field) or ():
                name = pair["key"].lower()
                seen[name] += 1
                if is_secret(name):
                    yield f"{step['ref']}/{field}/{name}/{seen[name]}", pair
