"""A user merged into another takes the messages of its runs along."""

import pytest

from tests.directory.runs.conftest import Runs, in_app


@pytest.mark.usefixtures("worker")
async def test_messages_belong_to_the_remaining_user(runs: Runs) -> None:
    await runs.define(in_app())
    await runs.knock.users.update("ada", name="Ada")
    [run_id] = await runs.trigger({"id": "invited"}, actor="invited", data={"text": "x"})
    await runs.ended(run_id)
    await runs.knock.users.merge("ada", from_user_id="invited")
    [message] = (await runs.knock.users.list_messages("ada")).items
    assert (message.recipient, [actor for actor in message.actors or []]) == ("ada", ["ada"])


@pytest.mark.usefixtures("worker")
async def test_messages_outlive_their_user(runs: Runs) -> None:
    await runs.define(in_app())
    [run_id] = await runs.trigger({"id": "ada"}, data={"text": "x"})
    await runs.ended(run_id)
    await runs.knock.users.delete("ada")
    assert [each["recipient"] for each in await runs.messages(run_id)] == ["ada"]
