"""The pages of docs/actions are what the registry gives, and what they say is sent is sent."""

import json
import re

import pytest

from app.actions.base import ActionType
from app.actions.parameters import check_parameters, evaluate_parameters
from app.actions.paths import DecodedEvent
from app.actions.registry import action_types
from app.outbound.knock import attempt, connect
from docs.generate import PAGES, pages
from tests.knock import KnockServer


async def test_pages_are_what_the_registry_gives() -> None:
    written = {path.name: path.read_text() for path in PAGES.glob("*.md")}
    assert written == await pages(), "run `python -m docs.generate` and commit the result"
    assert len(written) == len(action_types()) + 1


@pytest.mark.parametrize("action", action_types().values(), ids=lambda each: each.name)
async def test_examples_send_what_they_say(action: ActionType, knock: KnockServer) -> None:
    """Read back from the page: its mapping, on its event, makes its call, at a server that stands for
    Knock."""
    page = (PAGES / f"{action.name}.md").read_text()
    mapping, event, payload, *sent = (
        json.loads(each) for each in re.findall(r"```json\n(.*?)\n```", page, re.DOTALL)
    )
    (line,) = re.findall(r"```http\n(.*?)\n```", page)
    assert mapping["action_type"] == action.name
    assert check_parameters(action, mapping["action_parameters"], "") == []
    assert evaluate_parameters(action, mapping["action_parameters"], DecodedEvent(event)) == payload
    async with connect(knock.url, "sk_test") as client:
        for each, key in action.calls(payload, "key"):
            await attempt(action.call(client, each, key))
    (call,) = knock.calls
    assert f"{call.method} {call.path}{'?' if call.query else ''}{call.query}" == line
    assert [call.body] == (sent or [None])
