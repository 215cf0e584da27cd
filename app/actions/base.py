"""What an action is: one declaration of its parameters and its call.

To add one, write a decorated function in the file of its kind (`users.py`, `workflows.py`, ...); the registry
finds it, and validation, execution order, the Temporal activity and the API's answers follow from it.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import IntEnum, StrEnum
from typing import Any, NamedTuple

from app.actions.paths import ROOTS
from app.outbound.destinations import Knock

Payload = dict[str, Any]
# The evaluated parameters and the idempotency key in, Knock's answer as plain data out.
Call = Callable[[Knock, Payload, str], Awaitable[dict[str, Any] | None]]

# The longest list that one event may bring to an action that is sent in chunks.
MAXIMUM_LISTED = 10_000
MAXIMUM_DATA_BYTES = 10 * 1024 * 1024
# Senders may send a membership before the thing that has it.
LATE_PARENT = timedelta(minutes=15)


class Subject(NamedTuple):
    """What an action changes, by its collection: `$users`, `$tenants`, `$audiences`, or one of objects."""

    collection: str
    id: str


class ChangeKind(StrEnum):
    """How an action changes its subject: it sets properties, deletes it, adds members to it or removes
    them."""

    SETS = "sets"
    DELETES = "deletes"
    ADDS = "adds"
    REMOVES = "removes"


@dataclass(frozen=True)
class Effect:
    """What an action of a type changes. `members`: the parameter that names whom it adds or removes."""

    change: ChangeKind
    subject: Callable[[Payload], Subject]
    members: str | None = None


PREFIXES = tuple(f"{root}." for root in ROOTS)


class ValueKind(StrEnum):
    """The type of a parameter's value, which decides its coercion (see `parameters.py`)."""

    KEY = "key"
    ID = "id"
    TEXT = "text"
    MOMENT = "moment"
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
    `names_user`: the value is the id of a user, which its kind does not tell. `clears`: null is sent, and
    removes the present value. `narrows`: without it the action would do more than is meant, so a value that
    does not fit fails the action though it is optional.
    """

    name: str
    kind: ValueKind
    label: str
    help: str
    required: bool = False
    literal: bool = False
    aliases: tuple[str, ...] = ()
    placeholder: str = ""
    limit: int | None = None
    maximum_bytes: int | None = None
    names_user: bool = False
    clears: bool = False
    narrows: bool = False

    def is_literal(self, template: Any) -> bool:
        """Whether the mapping holds the value itself."""
        return self.literal and isinstance(template, str) and not template.startswith(PREFIXES)


class Tier(IntEnum):
    """Calls a second that Knock takes at an endpoint from one environment, by the name of its tier.

    Source: docs.knock.app/api-reference, rate limits.
    """

    ONE = 1
    TWO = 5
    THREE = 60
    FOUR = 200
    FIVE = 1000


@dataclass(frozen=True)
class Chunk:
    """A parameter that one call takes at most `size` values of: longer lists go in several calls."""

    parameter: str
    size: int


@dataclass(frozen=True)
class ActionExample:
    """A mapping's parameters and an event's body to evaluate them on, for the documentation."""

    parameters: dict[str, Any]
    body: dict[str, Any]


@dataclass(frozen=True)
class ActionType:
    """A type of action, as declared.

    `order`: kinds run in ascending order. `tier`: how often Knock takes its call; each type has an endpoint
    of its own. `give_up_after`: how long Temporal retries it. `waits_for_parent`: how long it is retried
    while what it adds to does not exist. `fields`: what the destination reads beside custom properties in the
    same body. A property with the name of one is held to its kind, and none reaches an object.
    """

    name: str
    title: str
    description: str
    order: int
    tier: Tier
    parameters: tuple[Parameter, ...]
    chunk: Chunk | None
    example: ActionExample
    call: Call
    give_up_after: timedelta
    effect: Effect | None = None
    waits_for_parent: timedelta | None = None
    fields: Mapping[str, ValueKind] = field(default_factory=dict)

    def parameter(self, name: str) -> Parameter | None:
        """The parameter of that name or alias."""
        return next((each for each in self.parameters if name == each.name or name in each.aliases), None)

    def calls(self, payload: Payload, idempotency_key: str) -> list[tuple[Payload, str]]:
        """The calls that a payload takes, in order, each with an idempotency key of its own.

        They follow from the payload alone: an attempt that goes on where an earlier one stopped makes the
        same.
        """
        if self.chunk is None or self.chunk.parameter not in payload:
            return [(payload, idempotency_key)]
        values, size = payload[self.chunk.parameter], self.chunk.size
        return [
            (
                {**payload, self.chunk.parameter: values[start : start + size]},
                f"{idempotency_key}-{start}" if start else idempotency_key,
            )
            for start in range(0, len(values), size)
        ]


def action(
    name: str,
    *,
    title: str,
    order: int,
    tier: Tier,
    example: ActionExample,
    parameters: tuple[Parameter, ...],
    chunk: Chunk | None = None,
    give_up_after: timedelta = timedelta(days=3),
    effect: Effect | None = None,
    waits_for_parent: timedelta | None = None,
    fields: Mapping[str, ValueKind] | None = None,
) -> Callable[[Call], ActionType]:
    """Declare the decorated function as the call of an action type. Its docstring is the description."""

    def declare(call: Call) -> ActionType:
        return ActionType(
            name=name,
            title=title,
            description=(call.__doc__ or "").strip(),
            order=order,
            tier=tier,
            parameters=parameters,
            chunk=chunk,
            example=example,
            call=call,
            give_up_after=give_up_after,
            effect=effect,
            waits_for_parent=waits_for_parent,
            fields=fields or {},
        )

    return declare
