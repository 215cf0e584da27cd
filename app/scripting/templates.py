"""Templates, Markdown and HTML as workflow steps use them. What is provably little work is done at once, as
most of it is; all else in processes of their own (`app/scripting/renderer.py`), bounded in time, memory,
input and output.

A bound that is hit is permanent: it would be hit again. The Liquid library, with babel and its tables, is
4 MB: it is imported with the first template.
"""

import re
import signal
from asyncio.subprocess import Process
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from app.core import exact_json
from app.core.errors import InvalidTemplate, Permanent
from app.scripting.markup import html_of, text_of
from app.scripting.processes import CallTimedOut, ProcessEnded, ProcessPool, receive
from app.scripting.turns import Busy, Owner

MAXIMUM_TEMPLATE_LENGTH = 256 * 1024
# All templates of a workflow together.
MAXIMUM_TOTAL_LENGTH = 1024 * 1024
MAXIMUM_INPUT_BYTES = 24 * 1024 * 1024
# The process ends itself long before this; it is for one that the machine gives no time.
CALL_DEADLINE = 20.0
# Calls of a workflow that wait. Each holds a place of the worker's activities, which all workflows share.
MAXIMUM_WAITING = 20
# What is rendered in this process at most (app/scripting/liquid.py).
SMALL_TEMPLATE = 4 * 1024
SMALL_SCOPE = 16 * 1024
# Parsing takes 25 microseconds a character at worst, Markdown a tenth of a millisecond a mark.
_SMALL_SOURCES = 1024
_SMALL_MARKDOWN = 8 * 1024
_SMALL_MARKS = 100
_SMALL_HTML = 64 * 1024
_MARK = re.compile(r"[\[\]()*_`<>&!\\\n#~|=+-]")

Scope = Mapping[str, Any]


@dataclass(frozen=True)
class Template:
    """A Liquid template. Values in HTML are escaped."""

    source: str
    html: bool = False


class Templates:
    """Renders templates. As many at once as `processes`, beside those that are rendered in this process."""

    def __init__(self, processes: int, *, maximum_waiting: int = MAXIMUM_WAITING) -> None:
        self._pool = ProcessPool(
            ["-m", "app.scripting.renderer"],
            processes,
            prepare=_wait_until_ready,
            deadline=CALL_DEADLINE,
            maximum_waiting=maximum_waiting,
        )

    async def render(self, templates: Sequence[Template], scope: Scope, owner: Owner) -> list[str]:
        """The texts that templates give.

        Raises:
            Permanent: one cannot be rendered within the limits.
            Busy: too many calls of the owner wait already.
        """
        if not any(_is_template(each.source) for each in templates):
            return [each.source for each in templates]
        sent = exact_json.dumps(_without_repeats(scope), default=str)
        texts = [_render_here(each, scope, len(sent)) for each in templates]
        left = [each for each, text in zip(templates, texts, strict=True) if text is None]
        if left:
            asked = {"scope": orjson.Fragment(sent), "templates": [[each.source, each.html] for each in left]}
            rendered = iter(await self._ask(owner, "render", **asked))
            texts = [next(rendered) if text is None else text for text in texts]
        return [text for text in texts if text is not None]

    async def problems(self, sources: Sequence[str], owner: Owner) -> dict[str, str]:
        """What is wrong with those of these templates that cannot be parsed.

        Raises:
            Permanent: they take too long to parse.
            Busy: too many calls of the owner wait already.
        """
        wanted = [each for each in dict.fromkeys(sources) if _is_template(each)]
        if sum(map(len, wanted)) <= _SMALL_SOURCES:
            found = [_problem_here(each) for each in wanted]
        else:
            found = await self._ask(owner, "check", templates=wanted)
        return {source: problem for source, problem in zip(wanted, found, strict=True) if problem}

    async def html_of(self, markdown: str, owner: Owner) -> str:
        """Markdown as HTML. Raises as `render` does."""
        if len(markdown) <= _SMALL_MARKDOWN and len(_MARK.findall(markdown)) <= _SMALL_MARKS:
            return html_of(markdown)
        return await self._ask(owner, "markdown", text=markdown)  # type: ignore[no-any-return]

    async def text_of(self, html: str, owner: Owner) -> str:
        """HTML as plain text. Raises as `render` does."""
        if len(html) <= _SMALL_HTML:
            return text_of(html)
        return await self._ask(owner, "text", text=html)  # type: ignore[no-any-return]

    async def close(self) -> None:
        """End all processes."""
        await self._pool.close()

    async def _ask(self, owner: Owner, kind: str, **asked: Any) -> Any:
        request = orjson.dumps({"kind": kind, **asked})
        if len(request) > MAXIMUM_INPUT_BYTES:
            raise Permanent(f"there is more than {MAXIMUM_INPUT_BYTES // 2**20} MB to render")
        try:
            answer, _ = await self._pool.call(owner, request)
        except CallTimedOut as error:
            raise Busy("the machine had no time to render a template") from error
        except ProcessEnded as error:
            if error.code == -signal.SIGKILL:
                raise Busy("a process that rendered a template was ended") from error
            raise Permanent(_ending(error)) from error
        answered = orjson.loads(answer)
        if "error" in answered:
            raise Permanent(answered["error"])
        return answered["result"]


def _is_template(source: str) -> bool:
    return "{" in source


def _without_repeats(scope: Scope) -> dict[str, Any]:
    """The scope without the data that is at its top too: `renderer.py` puts it back."""
    data = scope.get("data")
    if not isinstance(data, dict):
        return dict(scope)
    return {name: value for name, value in scope.items() if name not in data or data[name] is not value}


def _render_here(template: Template, scope: Scope, scope_bytes: int) -> str | None:
    """The text of a template that is little work; None for another one."""
    if not _is_template(template.source):
        return template.source
    if len(template.source) > SMALL_TEMPLATE or scope_bytes > SMALL_SCOPE:
        return None
    from app.scripting import liquid

    try:
        return liquid.render_small(template.source, scope, scope_bytes, html=template.html)
    except liquid.TooLarge:
        return None


def _problem_here(source: str) -> str | None:
    from app.scripting import liquid

    try:
        liquid.parse(source)
    except InvalidTemplate as error:
        return str(error)
    return None


def _ending(error: ProcessEnded) -> str:
    if error.code == -signal.SIGPROF:
        return "a template cannot be rendered: it takes more than a second of CPU"
    return f"a template cannot be rendered: it needs too much memory (its process ended with {error.code})"


async def _wait_until_ready(process: Process) -> None:
    await receive(process)
