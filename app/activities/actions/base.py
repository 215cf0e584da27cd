"""What an action is: one declaration of its parameters and its call.

To add one, write a decorated function in the file of its kind (`users.py`, `workflows.py`, ...); the registry
finds it, and validation, execution order, the Temporal activity and the API's answers follow from it.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, TypeVar

from app.destinations import Knock
from app.mapping import ROOTS

Value = TypeVar("Value")
Payload = dict[str, Any]
# The evaluated parameters and the idempotency key in, Knock's answer as plain data out.
Call = Callable[[Knock, Payload, str], Awaitable[dict[str, Any] | None]]

MAXIMUM_RECIPIENTS = 1000
# A list longer than one call of Knock's takes is sent in several; this many calls end within an attempt's time.
MAXIMUM_LISTED = 10_000
MAXIMUM_DATA_BYTES = 10 * 1024 * 1024


PREFIXES = tuple(f"{root}." for root in ROOTS)


class Kind(StrEnum):
    """The type of a parameter's value, which decides its coercion (see `parameters.py`)."""

    KEY = "key"
    ID = "id"
    TEXT = "text"
    OBJECT = "object"
    BOOLEAN = "boolean"
    RECIPIENT = "recipient"
    RECIPIENTS = "recipients"
    REFERENCES = "references"
    MEMBERS = "members"
    TENANT = "tenant"


@dataclass(frozen=True)
class Parameter:
    """One parameter of an action.

    `literal`: a string in the mapping is the value itself, not a path, unless it starts with `body.`,
    `headers.` or `preprocess.`. `limit`: how many values at most. `maximum_bytes`: its size as JSON.
    """

    name: str
    kind: Kind
    label: str
    help: str
    required: bool = False
    literal: bool = False
    aliases: tuple[str, ...] = ()
    placeholder: str = ""
    limit: int | None = None
    maximum_bytes: int | None = None

    def is_literal(self, template: Any) -> bool:
        """Whether the mapping holds the value itself."""
        return self.literal and isinstance(template, str) and not template.startswith(PREFIXES)


@dataclass(frozen=True)
class ActionType:
    """A type of action, as declared.

    `order`: kinds run in ascending order. `give_up_after`: how long Temporal retries it.
    """

    name: str
    title: str
    description: str
    order: int
    parameters: tuple[Parameter, ...]
    call: Call
    give_up_after: timedelta

    def parameter(self, name: str) -> Parameter | None:
        """The parameter of that name or alias."""
        return next((each for each in self.parameters if name == each.name or name in each.aliases), None)


def in_chunks(values: Sequence[Value], size: int, idempotency_key: str) -> Iterator[tuple[list[Value], str]]:
    """The values in lists of at most `size`, each with an idempotency key of its own."""
    for start in range(0, len(values), size):
        key = idempotency_key if start == 0 else f"{idempotency_key}-{start}"
        yield list(values[start : start + size]), key


def action(
    name: str,
    *,
    title: str,
    order: int,
    parameters: tuple[Parameter, ...],
    give_up_after: timedelta = timedelta(days=3),
) -> Callable[[Call], ActionType]:
    """Declare the decorated function as the call of an action type. Its docstring is the description."""

    def declare(call: Call) -> ActionType:
        return ActionType(
            name=name,
            title=title,
            description=(call.__doc__ or "").strip(),
            order=order,
            parameters=parameters,
            call=call,
            give_up_after=give_up_after,
        )

    return declare
