"""What is added to something may arrive before it: the membership exists in the end, unless it ended."""

from collections import Counter
from itertools import permutations
from typing import Any

import orjson
import pytest
from sqlalchemy import text
from starlette.responses import Response

from app.providers.workos import provider as workos
from tests.bench import Bench, BenchSource
from tests.knock import Call, Down, KnockServer, error
from tests.servers import eventually

pytestmark = pytest.mark.usefixtures("worker")

GROUP = "directory_group_01E1JJS84MFPPQ3G655FHTKX6Z"
MEMBERSHIP = ["dsync.group.created", "dsync.user.created", "dsync.group.user_added"]
SUBSCRIBE = {"collection": "projects", "id": "project", "recipients": "members"}
PROJECTS = {
    "project.created": [("objects_set", {"collection": "projects", "id": "project", "name": "name"})],
    "member.added": [("objects_subscribe", SUBSCRIBE)],
    "member.removed": [("objects_unsubscribe", SUBSCRIBE)],
    "user.deleted": [("users_delete", {"id": "user"})],
    "project.deleted": [("objects_delete", {"collection": "projects", "id": "project"})],
}
AUDIENCES = {
    "user.identified": [("users_identify", {"id": "user", "name": "name"})],
    "member.added": [("audiences_add_member", {"key": "vip", "members": "members", "tenant": "tenant"})],
    "member.removed": [("audiences_remove_member", {"key": "vip", "members": "members", "tenant": "tenant"})],
}


async def receive(source: BenchSource, event_type: str, **body: Any) -> str:
    answer = await source.post(orjson.dumps({"type": event_type, **body}), {})
    assert answer.status_code == 200, answer.text
    identifier: str = answer.json()["id"]
    return identifier


async def waits(bench: Bench, identifier: str) -> bool:
    """Whether the event's action waits for what it adds to."""
    return any(
        each["status"] == "pending" and each["parent_missing_since"]
        for each in await bench.actions(identifier)
    )


async def one_action(bench: Bench, identifier: str) -> dict[str, Any]:
    (action,) = await bench.actions(identifier)
    return action


class Missing:
    """Answers that nothing of these paths exists, until told otherwise."""

    def __init__(self, *paths: str) -> None:
        self.paths = set(paths)

    async def __call__(self, call: Call) -> Response | None:
        if any(call.path.startswith(each) for each in self.paths) and call.method == "POST":
            return error(404, "resource_missing", "The resource you requested does not exist")
        return None


@pytest.mark.parametrize("order", list(permutations(MEMBERSHIP)), ids="-".join)
async def test_workos_memberships_exist_in_the_end_in_every_order(
    bench: Bench, order: tuple[str, ...]
) -> None:
    source = await bench.source("workos", secret=None, enforce_verification=False)
    times = dict(zip(MEMBERSHIP, ("00", "01", "02"), strict=True))
    for event_type in order:
        body = {
            **workos.examples[event_type][0].body,
            "created_at": f"2026-01-01T00:00:{times[event_type]}.000Z",
        }
        answer = await source.post(orjson.dumps({**body, "id": f"event_{event_type}"}), {})
        event = await bench.final(answer.json()["id"])
        assert event["status"] == "succeeded", await bench.actions(event["id"])
    [subscription] = await bench.rows(
        "SELECT * FROM directory_subscriptions WHERE environment = :slug", slug=bench.environment
    )
    assert subscription["object_id"] == GROUP
    recipients = await bench.rows(
        "SELECT id, properties FROM directory_recipients WHERE environment = :slug", slug=bench.environment
    )
    found = {each["id"]: each["properties"] for each in recipients}
    assert found[GROUP]["name"] == "Developers"
    assert found[subscription["recipient_id"]]["email"] == "ada@example.com"


async def test_a_subscription_waits_for_its_object(bench: Bench) -> None:
    source = await bench.source("custom_http", mappings=PROJECTS, secret=None, enforce_verification=False)
    added = await receive(source, "member.added", project="p-7", members=["ada"])
    await eventually(lambda: waits(bench, added))
    shown = await one_action(bench, added)
    assert shown["error"].startswith("404 resource_missing")
    await bench.final(await receive(source, "project.created", project="p-7", name="Engine"))
    event = await bench.final(added)
    assert event["status"] == "succeeded"
    action = await one_action(bench, added)
    assert (action["status"], action["error"], action["result"]) == ("succeeded", None, {"subscriptions": 1})


async def test_a_membership_waits_for_its_user_or_audience(bench: Bench, knock: KnockServer) -> None:
    missing = Missing("/v1/audiences/vip/members")
    knock.refuse = missing
    await bench.use_destination(knock.url)
    source = await bench.source("custom_http", mappings=AUDIENCES, secret=None, enforce_verification=False)
    added = await receive(source, "member.added", members=["ada"])
    await eventually(lambda: waits(bench, added))
    await bench.final(await receive(source, "user.identified", user="ada", name="Ada"))
    missing.paths.clear()
    assert (await bench.final(added))["status"] == "succeeded"
    assert knock.done[-1].body["members"] == [{"user": {"id": "ada"}}]


async def test_what_never_arrives_is_final_after_15_minutes_and_says_so(
    bench: Bench, knock: KnockServer
) -> None:
    knock.refuse = Missing("/v1/objects")
    await bench.use_destination(knock.url)
    source = await bench.source("custom_http", mappings=PROJECTS, secret=None, enforce_verification=False)
    added = await receive(source, "member.added", project="p-7", members=["ada"])
    await eventually(lambda: waits(bench, added))
    async with bench.runtime.engine.begin() as connection:
        await connection.execute(
            text("UPDATE actions SET parent_missing_since = parent_missing_since - interval '15 minutes'")
        )
    event = await bench.final(added)
    assert event["status"] == "failed"
    assert (await one_action(bench, added))["error"] == (
        "404 resource_missing: The resource you requested does not exist (retried for 15 minutes, in case it "
        "arrives late; replay the event once it exists)"
    )


@pytest.mark.parametrize(
    ("event_type", "mapping", "code"),
    [
        ("member.removed", "objects_unsubscribe", "resource_missing"),
        ("member.added", "objects_subscribe", "route_not_found"),
    ],
)
async def test_other_refusals_are_final_at_once(
    bench: Bench, knock: KnockServer, event_type: str, mapping: str, code: str
) -> None:
    knock.answers.append(error(404, code, "no such thing"))
    await bench.use_destination(knock.url)
    source = await bench.source("custom_http", mappings=PROJECTS, secret=None, enforce_verification=False)
    event = await bench.final(await receive(source, event_type, project="p-7", members=["ada"]))
    assert event["status"] == "failed"
    assert event["error"] == f"1 action failed: {mapping}: 404 {code}: no such thing"
    assert len(knock.calls) == 1


async def test_a_removal_meanwhile_supersedes_the_subscription(bench: Bench, knock: KnockServer) -> None:
    missing = Missing("/v1/objects")
    knock.refuse = missing
    await bench.use_destination(knock.url)
    source = await bench.source("custom_http", mappings=PROJECTS, secret=None, enforce_verification=False)
    added = await receive(source, "member.added", project="p-7", members=["ada"])
    await eventually(lambda: waits(bench, added))
    removed = await receive(source, "member.removed", project="p-7", members="ada")
    assert (await bench.final(removed))["status"] == "succeeded"
    missing.paths.clear()
    event = await bench.final(added)
    assert event["status"] == "succeeded", "it was decided, nothing failed"
    action = await one_action(bench, added)
    assert action["status"] == "skipped"
    assert action["error"] == f"superseded: the later event {removed} changed the membership"
    assert Counter(each.method for each in knock.done) == {"DELETE": 1}


async def test_of_several_members_the_others_are_still_added(bench: Bench, knock: KnockServer) -> None:
    missing = Missing("/v1/audiences")
    knock.refuse = missing
    await bench.use_destination(knock.url)
    source = await bench.source("custom_http", mappings=AUDIENCES, secret=None, enforce_verification=False)
    members = ["ada", {"id": "grace", "name": "Grace"}, {"user": "alan", "tenant": "acme"}]
    added = await receive(source, "member.added", members=members)
    await eventually(lambda: waits(bench, added))
    removed = await receive(source, "member.removed", members=["grace"])
    other_tenant = await receive(source, "member.removed", members=["alan"], tenant="other")
    for each in (removed, other_tenant):
        # Removals are sent with DELETE, which this destination takes.
        assert (await bench.final(each))["status"] == "succeeded"
    missing.paths.clear()
    assert (await bench.final(added))["status"] == "succeeded"
    assert knock.done[-1].body["members"] == [
        {"user": {"id": "ada"}},
        {"user": {"id": "alan"}, "tenant": "acme"},
    ]
    action = await one_action(bench, added)
    assert action["status"] == "succeeded"
    assert action["left_out"] == [
        {"parameter": "members", "member": "grace", "reason": f"superseded by event {removed}"}
    ]


@pytest.mark.parametrize(
    "deletion", [("user.deleted", {"user": "ada"}), ("project.deleted", {"project": "p-7"})]
)
async def test_a_deletion_meanwhile_supersedes_the_subscription(
    bench: Bench, knock: KnockServer, deletion: tuple[str, dict[str, str]]
) -> None:
    missing = Missing("/v1/objects")
    knock.refuse = missing
    await bench.use_destination(knock.url)
    source = await bench.source("custom_http", mappings=PROJECTS, secret=None, enforce_verification=False)
    added = await receive(source, "member.added", project="p-7", members=["ada"])
    await eventually(lambda: waits(bench, added))
    deleted = await receive(source, deletion[0], **deletion[1])
    assert (await bench.final(deleted))["status"] == "succeeded"
    missing.paths.clear()
    await bench.final(added)
    action = await one_action(bench, added)
    assert (action["status"], deleted in action["error"]) == ("skipped", True)


async def test_an_overtaken_removal_does_not_undo_what_was_added_later(
    bench: Bench, knock: KnockServer
) -> None:
    await bench.use_destination(knock.url)
    source = await bench.source("custom_http", mappings=PROJECTS, secret=None, enforce_verification=False)
    knock.refuse = Down(lambda call: call.method == "DELETE")
    removed = await receive(source, "member.removed", project="p-7", members=["ada"])
    await eventually(lambda: knock.calls)
    await bench.final(await receive(source, "member.added", project="p-7", members=["ada"]))
    await bench.final(removed)
    assert (await one_action(bench, removed))["status"] == "skipped"
    assert [each.method for each in knock.done] == ["POST"]
