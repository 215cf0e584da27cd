"""Writes the pages of `docs/actions` from the registry of actions.

    python -m docs.generate

Each page's example is evaluated and called for real: what it shows is what the official client sends. The
tests compare the committed pages with what this writes.
"""

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.actions.base import ActionType, ChangeKind, Parameter, ValueKind
from app.actions.parameters import evaluate_parameters
from app.actions.paths import DecodedEvent
from app.actions.registry import action_types
from app.core.errors import Permanent
from app.outbound.knock import connect_in_process

PAGES = Path(__file__).parent / "actions"
NOTICE = "<!-- Written by `python -m docs.generate` from the actions' declarations. -->"
INTRODUCTION = (
    "When an event has several mappings, their actions run in this order: kinds one after the other, those "
    "of one kind together. One action's failure stops no other. How parameters read from an event is in "
    "[mappings](../mappings.md), how calls are retried and paced in [Knock](../knock.md)."
)
SKIPPED = "(nothing at the path, null, empty text or an empty list): the action is **skipped**."
MISMATCH = (
    "A value that does not fit: the action **fails** before any call, with parameter, path, what was found "
    "and what was expected. An optional one is **left out** of the call, and the action log names it in "
    "`left_out`."
)

TAKES = {
    ValueKind.KEY: (
        "A key. Text in the mapping is the key itself, unless it starts with `body.`, `headers.` or "
        "`preprocess.`"
    ),
    ValueKind.ID: "An id: text, or a whole number, which becomes text",
    ValueKind.TEXT: "Text, or a number, which becomes text",
    ValueKind.MOMENT: "A moment: ISO 8601, or seconds or milliseconds since 1970, which become ISO 8601",
    ValueKind.OBJECT: "An object",
    ValueKind.BOOLEAN: "`true` or `false`",
    ValueKind.RECIPIENT: (
        "A user's id, a user to identify (an object with an `id`), or an object with `id` and `collection`"
    ),
    ValueKind.RECIPIENTS: "One or many: a user's id, a user to identify (an object with an `id`), or an "
    "object with `id` and `collection`",
    ValueKind.REFERENCES: "One or many: a user's id, or an object with `id` and `collection`; whatever "
    "else it has is left out",
    ValueKind.MEMBERS: "One or many: a user's id, a user to identify, or an object with a `user` and a "
    "`tenant`",
    ValueKind.TENANT: "A tenant's id, or a tenant to set (an object with an `id`)",
}


@dataclass
class Sent:
    """A request that the client sent."""

    method: str = ""
    target: str = ""
    body: Any = None


async def example_call(action: ActionType) -> Sent:
    """The request that the action's example makes."""
    sent = Sent()

    async def record(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        body = await request.body()
        query = f"?{request.url.query}" if request.url.query else ""
        sent.method, sent.target = request.method, f"{request.url.path}{query}"
        sent.body = json.loads(body) if body else None
        await Response(status_code=204)(scope, receive, send)

    payload = evaluate_parameters(action, action.example.parameters, DecodedEvent(action.example.body))
    async with connect_in_process(record, "example") as knock:
        # An empty answer is none of Knock's; the request is what counts.
        with suppress(Permanent):
            await action.call(knock, payload, "example")
    return sent


async def pages() -> dict[str, str]:
    """All pages by file name."""
    actions = list(action_types().values())
    written = {f"{each.name}.md": _page(each, await example_call(each)) for each in actions}
    return {"README.md": _index(actions), **written}


def _index(actions: list[ActionType]) -> str:
    rows = [
        f"| {number} | [`{each.name}`]({each.name}.md) | {each.description} | {each.tier} |"
        for number, each in enumerate(actions, start=1)
    ]
    return "\n".join(
        [
            NOTICE,
            "# Actions",
            "",
            INTRODUCTION,
            "",
            "| order | action | what it does | calls a second that Knock takes |",
            "| --- | --- | --- | --- |",
            *rows,
            "",
        ]
    )


def _page(action: ActionType, sent: Sent) -> str:
    mapping = {"action_type": action.name, "action_parameters": action.example.parameters}
    payload = evaluate_parameters(action, action.example.parameters, DecodedEvent(action.example.body))
    return "\n".join(
        [
            NOTICE,
            f"# {action.title}: `{action.name}`",
            "",
            action.description,
            "",
            "## Parameters",
            "",
            "| parameter | other names | required | takes | |",
            "| --- | --- | --- | --- | --- |",
            *(_row(each) for each in action.parameters),
            "",
            "## Limits",
            "",
            *(f"- {each}" for each in _limits(action)),
            "",
            "## Errors",
            "",
            *(f"- {each}" for each in _errors(action)),
            "",
            "## Example",
            "",
            "The mapping",
            "",
            *_json(mapping),
            "",
            "and an event with this body",
            "",
            *_json(action.example.body),
            "",
            "give the payload",
            "",
            *_json(payload),
            "",
            "and the call" + ("" if sent.body is None else " with its body"),
            "",
            "```http",
            f"{sent.method} {sent.target}",
            "```",
            "",
            *([] if sent.body is None else [*_json(sent.body), ""]),
        ]
    )


def _row(parameter: Parameter) -> str:
    aliases = ", ".join(f"`{each}`" for each in parameter.aliases)
    required = "yes" if parameter.required else ""
    return f"| `{parameter.name}` | {aliases} | {required} | {TAKES[parameter.kind]} | {parameter.help} |"


def _limits(action: ActionType) -> list[str]:
    limits = [
        f"`{each.name}`: at most {each.limit:,} in one event; the action fails with more."
        for each in action.parameters
        if each.limit is not None
    ]
    limits += [
        f"`{each.name}`: at most {each.maximum_bytes // 1024**2} MiB as JSON; the action fails with more."
        for each in action.parameters
        if each.maximum_bytes is not None
    ]
    if action.chunk is not None:
        limits.append(
            f"One call takes {action.chunk.size:,} `{action.chunk.parameter}`: longer lists go in several, "
            "in order, "
            "each with an idempotency key of its own. A retry goes on with the first call that has not "
            "succeeded."
        )
    rate = f"{action.tier:,} call{'s' if action.tier > 1 else ''} a second"
    return [
        *limits,
        f"Knock takes {rate} here from one environment; actions wait for their turn.",
        f"Retried for at most {_duration(action)}.",
        *_stale(action),
    ]


def _stale(action: ActionType) -> list[str]:
    """What an older event does not change any more."""
    effect = action.effect
    if effect is None:
        return []
    later = "[late and stale events](../late-and-stale.md)"
    texts = {
        ChangeKind.SETS: (
            f"A property that a later event set is left out; `skip_older` skips the action: {later}."
        ),
        ChangeKind.DELETES: f"Skipped when a later event set the same thing again: {later}.",
        ChangeKind.ADDS: f"A member whom a later event added or removed is left out: {later}.",
        ChangeKind.REMOVES: f"A member whom a later event added or removed is left out: {later}.",
    }
    return [texts[effect.change]]


def _duration(action: ActionType) -> str:
    hours = int(action.give_up_after.total_seconds() // 3600)
    return f"{hours // 24} days" if hours % 24 == 0 else f"{hours} hours"


def _errors(action: ActionType) -> list[str]:
    required = [f"`{each.name}`" for each in action.parameters if each.required]
    names = required[0] if len(required) == 1 else f"{', '.join(required[:-1])} or {required[-1]}"
    return [
        f"No value for {names} {SKIPPED}",
        MISMATCH,
        *_late_parent(action),
        "Connection errors, timeouts, 408, 409, 425, 429 and 5xx: the same request is **retried**.",
        "Any other 4xx: the action **fails** at once with the destination's own text.",
    ]


def _late_parent(action: ActionType) -> list[str]:
    if action.waits_for_parent is None:
        return []
    minutes = int(action.waits_for_parent.total_seconds() // 60)
    retried = f"The request is **retried** for {minutes} minutes; then the action **fails**."
    return [f"404 `resource_missing`: what it adds to may arrive later. {retried}"]


def _json(value: Any) -> list[str]:
    return ["```json", json.dumps(value, indent=2, ensure_ascii=False), "```"]


async def write() -> None:
    """Write all pages, and remove those of actions that are gone."""
    written = await pages()
    PAGES.mkdir(exist_ok=True)
    for path in PAGES.glob("*.md"):
        if path.name not in written:
            path.unlink()
    for name, text in written.items():
        (PAGES / name).write_text(text)


if __name__ == "__main__":
    asyncio.run(write())
