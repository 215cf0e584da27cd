"""The directory as the embedded destination: the same routes, through Knock's client, in process."""

from collections.abc import AsyncIterator

import pytest
from knockapi import AsyncKnock

from app.api.directory.app import DirectoryApp
from app.outbound.destinations import Destinations
from app.runtime.resources import Runtime


@pytest.fixture
async def knock(runtime: Runtime, environment: str) -> AsyncIterator[AsyncKnock]:
    destinations = Destinations(runtime.configuration.destination, DirectoryApp(runtime.engine))
    yield destinations.client(environment)
    await destinations.close()


async def test_what_actions_call(knock: AsyncKnock) -> None:
    await knock.users.update("ada", name="Ada")
    await knock.objects.set("pro/jects", "p/1", extra_body={"name": "Rocket"})
    added = await knock.objects.add_subscriptions("pro/jects", "p/1", recipients=["ada", "bob"])
    assert {each.recipient.id for each in added} == {"ada", "bob"}
    removed = await knock.objects.delete_subscriptions("pro/jects", "p/1", recipients=["bob"])
    assert [each.recipient.id for each in removed] == ["bob"]
    assert (await knock.tenants.set("t1", extra_body={"name": "Engines"})).id == "t1"
    await knock.audiences.add_members("trial", members=[{"user": {"id": "ada"}}], create_audience=True)
    assert [each.user_id for each in (await knock.audiences.list_members("trial")).entries] == ["ada"]
    await knock.audiences.remove_members("trial", members=[{"user": {"id": "ada"}}])
    assert (await knock.audiences.list_members("trial")).entries == []
    assert (await knock.workflows.trigger("welcome", recipients=["ada"])).workflow_run_id
    await knock.workflows.cancel("welcome", cancellation_key="k")
    operation = await knock.users.bulk.identify(users=[{"id": "eve"}])
    assert (await knock.bulk_operations.get(operation.id)).status == "queued"
    await knock.tenants.delete("t1")
    await knock.objects.delete("pro/jects", "p/1")
    await knock.users.delete("ada")
    assert [each.id async for each in knock.users.list()] == ["bob"]
