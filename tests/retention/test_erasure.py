"""The right of erasure: what concerns a user is found and deleted, what does not stays, and the log says
so."""

import asyncio
import re
from typing import Any
from uuid import UUID

import httpx
import orjson
from knockapi import AsyncKnock
from sqlalchemy import text
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer
from typer.testing import CliRunner

from app.account.tokens import issue_key
from app.actions.registry import action_types
from app.actions.subjects import users_of
from app.cli.commands import cli
from app.core.errors import CommandError
from app.retention.erasure import work_off_batch
from app.worker.erasures import ErasureDispatcher
from app.worker.main import run_workers, workflow_runner
from app.workflows.erasure import ErasureWorkflow
from tests.bench import Bench, BenchSource
from tests.conftest import ADMIN_TOKEN
from tests.servers import eventually

MAPPINGS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "identify": [
        ("users_identify", {"id": "body.user", "email": "body.email"}),
        ("workflows_trigger", {"key": "hello", "recipients": "body.others", "actor": "body.user"}),
    ],
    "team": [
        ("objects_set", {"collection": "teams", "id": "body.team"}),
        ("audiences_add_member", {"key": "vip", "members": "body.members"}),
        ("objects_subscribe", {"collection": "teams", "id": "body.team", "recipients": "body.members"}),
    ],
    "object": [("objects_set", {"collection": "people", "id": "body.user", "properties": "body"})],
    "fails": [("users_identify", {"id": "body.list"})],
}
INBOX = {
    "name": "Hello",
    "steps": [
        {"ref": "feed", "type": "channel", "channel_type": "in_app_feed", "template": {"markdown_body": "Hi"}}
    ],
}


def test_which_users_a_payload_names() -> None:
    named = {
        "users_identify": ({"id": "a", "properties": {"friend": "b"}}, {"a"}),
        "users_delete": ({"id": "a"}, {"a"}),
        "objects_set": ({"collection": "c", "id": "a"}, set()),
        "tenants_delete": ({"id": "a"}, set()),
        "objects_subscribe": (
            {"collection": "c", "id": "o", "recipients": ["a", {"id": "b"}, {"id": "x", "collection": "c"}]},
            {"a", "b"},
        ),
        "objects_unsubscribe": ({"collection": "c", "id": "o", "recipients": ["a"]}, {"a"}),
        "audiences_add_member": (
            {"key": "k", "members": [{"user": {"id": "a"}, "tenant": "t"}], "tenant": "u"},
            {"a"},
        ),
        "workflows_trigger": (
            {
                "key": "k",
                "recipients": [{"id": "a", "collection": "$users"}],
                "actor": {"id": "b"},
                "tenant": "t",
            },
            {"a", "b"},
        ),
        "users_merge": ({"id": "a", "from_user_id": "b"}, {"a", "b"}),
        "workflows_cancel": ({"key": "k", "cancellation_key": "x", "recipients": ["a"]}, {"a"}),
    }
    for name, (payload, users) in named.items():
        assert users_of(action_types()[name], payload) == users, name
    declared = {each.name for each in action_types().values()}
    assert declared - named.keys() == {"objects_delete", "tenants_set", "audiences_remove_member"}


async def send(source: BenchSource, kind: str, **body: Any) -> str:
    raw = orjson.dumps({"type": kind, **body})
    answer = await source.post(raw, {"content-type": "application/json"})
    assert answer.status_code == 200, answer.text
    identifier: str = answer.json()["id"]
    await source.bench.final(identifier)
    return identifier


async def erase(bench: Bench, user_id: str, **options: Any) -> dict[str, Any]:
    """Ask for an erasure; it, once it is over."""
    answer = await bench.api.post(
        "/v1/erasures",
        params={"environment": bench.environment},
        json={"erasure": {"user_id": user_id, **options}},
    )
    assert answer.status_code == 202, answer.text
    identifier = answer.json()["erasure"]["id"]

    async def look() -> dict[str, Any] | None:
        found: dict[str, Any] = (await bench.api.get(f"/v1/erasures/{identifier}")).json()
        return found if found["status"] in ("completed", "failed") else None

    found = await eventually(look)
    assert found is not None
    assert found["status"] == "completed"
    return found


async def shown(bench: Bench, source: BenchSource, identifier: str) -> dict[str, Any]:
    found: dict[str, Any] = (await bench.api.get(f"/v1/sources/{source.key}/logs/{identifier}")).json()
    return found


async def replayed(bench: Bench, source: BenchSource, identifier: str) -> httpx.Response:
    return await bench.api.post(f"/v1/sources/{source.key}/logs/{identifier}/replay", json={"replay": {}})


async def test_a_user_is_erased_and_others_are_not(bench: Bench, temporal: Client) -> None:
    source = await bench.source(
        "custom_http", mappings=MAPPINGS, secret=None, event_type_path="body.type", idempotency_key_path=(
            "body.id"
        ),
        enforce_verification=False,
    )  # fmt: skip
    environment = bench.environment
    answer = await bench.api.put(
        "/v1/workflows/hello", params={"environment": environment}, json={"workflow": INBOX}
    )
    assert answer.status_code == 200, answer.text
    key = await issue_key(bench.runtime.settings, environment, "tests")
    async with (
        run_workers(bench.runtime, temporal, [environment]),
        AsyncKnock(api_key=key, base_url=str(bench.api.base_url)) as knock,
    ):
        ada = {"user": "ada ü", "email": "ada@example.com"}
        first = await send(source, "identify", id="1", others=["bob"], **ada)
        repeated = await send(source, "identify", id="1", others=["bob"], **ada)
        again = (await replayed(bench, source, first)).json()["replay"]["log_id"]
        await bench.final(again)
        team = await send(source, "team", id="ada ü/2", team="t", members=["ada ü", "bob"])
        unnamed = await send(source, "object", id="3", **ada)
        failed = await send(source, "fails", id="to:ada@example.com", list=["ada@example.com"])
        bob = await send(
            source, "identify", id="5", user="bob", email="bob@example.com", others=["bob", "ada ü"]
        )
        other = await send(source, "identify", id="6", user="bob", email="bob@example.com", others=["bob"])

        async def delivered() -> bool:
            messages = await knock.messages.list()
            return len(messages.items) >= 4

        await eventually(delivered)
        assert (await bench.rows("SELECT count(*) AS n FROM directory_audience_members"))[0]["n"] == 2

        counted = await erase(bench, "ada ü", dry_run=True, search=["ada@example.com"])
        assert (await shown(bench, source, first))["data"]["email"] == "ada@example.com"
        done = await erase(bench, "ada ü")
        searched = await erase(bench, "nobody", search=["ada@example.com"])
        both = {name: done["counts"][name] + searched["counts"][name] for name in counted["counts"]}
        assert both == counted["counts"], "a dry run counts what is then deleted"
        assert done["counts"] == {
            "event_payloads": 5, "actions": 9, "events": 5, "messages": 1, "workflow_recipient_runs": 1,
            "workflow_runs": 2, "directory_subscriptions": 1, "directory_audience_members": 1,
            "directory_recipients": 1, "bulk_operations": 0, "applied_changes": 3,
            "unfinished_events": 0, "unfinished_runs": 0,
        }  # fmt: skip

        for identifier in (first, repeated, again, team, bob, unnamed, failed):
            entry = await shown(bench, source, identifier)
            assert entry["erased_at"] is not None
            assert (entry["data"], entry["headers"], entry["error"]) == (None, {}, None)
            for action in entry["actions"]:
                assert (action["action_parameters"], action["action_payload"]) == ({}, None)
                assert (action["action_result"], action["error"]) == (None, None)
        assert (await shown(bench, source, first))["status"] == "succeeded"
        kept = await shown(bench, source, other)
        assert (kept["erased_at"], kept["data"]["user"]) == (None, "bob")
        assert kept["actions"][0]["action_payload"]["email"] == "bob@example.com"

        refused = await replayed(bench, source, first)
        assert (refused.status_code, refused.json()["code"]) == (409, "payload_erased")
        assert (await knock.users.get("bob")).id == "bob"
        assert {str(each.recipient) for each in (await knock.messages.list()).items} == {"bob"}
        for table in (
            "events",
            "event_payloads",
            "actions",
            "messages",
            "workflow_runs",
            "directory_recipients",
        ):
            left = await bench.rows(f"SELECT CAST(row AS text) AS row FROM {table} AS row")
            # The object of that name is no user, and objects are not looked into.
            assert not [
                each
                for each in left
                if ("ada ü" in each["row"] or "ada@" in each["row"]) and "people" not in each["row"]
            ], table

        audit = await bench.api.get("/v1/audit_log", params={"resource_type": "user"})
        assert [each["action"] for each in audit.json()["entries"]] == [
            "user.erasure_requested", "user.erasure_requested", "user.erasure_counted",
        ]  # fmt: skip
        assert "ada@example.com" not in audit.text
        assert (await bench.rows("SELECT count(*) AS n FROM erasures WHERE search IS NOT NULL"))[0]["n"] == 0

        handle = temporal.get_workflow_handle(ErasureDispatcher.workflow_id(environment, UUID(done["id"])))
        await handle.result()
        history = await handle.fetch_history()
    assert "example.com" not in history.to_json()
    assert "ada " not in history.to_json()
    replayer = Replayer(
        workflows=[ErasureWorkflow],
        data_converter=pydantic_data_converter,
        workflow_runner=workflow_runner(sandbox=True),
    )
    await replayer.replay_workflow(history)


async def test_what_is_in_mid_work_is_waited_for(bench: Bench) -> None:
    """An event that names the user and is not final is erased once it is; elsewhere nothing is touched."""
    engine, box = bench.runtime.engine, bench.runtime.box
    rows = (
        ("01990000-0000-7000-8000-000000000001", bench.environment, "processing"),
        ("01990000-0001-7000-8000-000000000001", "development", "succeeded"),
    )
    async with engine.begin() as connection:
        for identifier, environment, status in rows:
            await connection.execute(
                text(
                    "WITH e AS (INSERT INTO events (id, environment, source_key, status, "
                    "verification_status, "
                    "received_at) VALUES (:id, :environment, 's', :status, 'enforced:verified', now())), "
                    "a AS (INSERT INTO actions (id, event_id, mapping_id, action_type, parameters, payload, "
                    "status, "
                    "attempts) VALUES (:id, :id, :id, 'users_delete', '{}', '{\"id\":\"eve\"}', 'pending', "
                    "0)) INSERT INTO event_payloads (id, body, headers) VALUES (:id, '{}', '{}')"
                ),
                {"id": UUID(identifier), "environment": environment, "status": status},
            )
    answer = await bench.api.post(
        "/v1/erasures", params={"environment": bench.environment}, json={"erasure": {"user_id": "eve"}}
    )
    identifier = UUID(answer.json()["erasure"]["id"])

    async def verdicts() -> list[str]:
        found = []
        while not found or found[-1] == "more":
            async with engine.begin() as connection:
                found.append(str(await work_off_batch(connection, box, identifier)))
        return found

    assert (await verdicts())[-1] == "later"
    assert [row["id"] for row in await bench.rows("SELECT id FROM event_payloads WHERE body = '{}'")] != []
    await asyncio.gather(verdicts(), verdicts())
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE events SET status = 'failed' WHERE status = 'processing'"))
    assert (await verdicts())[-1] == "done"
    assert [str(row["id"]) for row in await bench.rows("SELECT id FROM event_payloads")] == [rows[1][0]]
    found = (await bench.api.get(f"/v1/erasures/{identifier}")).json()
    assert (found["counts"]["events"], found["counts"]["unfinished_events"]) == (1, 0)
    assert (found["progress"], found["phase"]) == (1.0, "done")


async def test_erasing_needs_admin_and_says_what_is_wrong(bench: Bench) -> None:
    answer = await bench.api.post(
        "/v1/service_tokens", json={"service_token": {"name": "w", "scope": "write"}}
    )
    token = answer.json()["service_token"]["token"]
    refused = await bench.api.post(
        "/v1/erasures",
        params={"environment": bench.environment},
        json={"erasure": {"user_id": "ada"}},
        headers={"authorization": f"Bearer {token}"},
    )
    assert refused.status_code == 403
    wrong = await bench.api.post(
        "/v1/erasures",
        params={"environment": bench.environment},
        json={"erasure": {"user_id": "", "search": ["x"], "starting_at": "soon"}},
    )
    assert {each["field"] for each in wrong.json()["errors"]} == {
        "erasure.user_id", "erasure.search.0", "erasure.starting_at",
    }  # fmt: skip


async def test_doorbell_erase(bench: Bench, temporal: Client) -> None:
    async def doorbell(*arguments: str) -> tuple[int, str]:
        given = [
            *arguments,
            "-e",
            bench.environment,
            "--url",
            str(bench.api.base_url),
            "--token",
            ADMIN_TOKEN,
        ]
        result = await asyncio.to_thread(CliRunner().invoke, cli, given, env={"COLUMNS": "200"})
        refusal = result.exception if isinstance(result.exception, CommandError) else ""
        return result.exit_code, f"{result.stdout}{refusal}"

    code, output = await doorbell("erase", "user", "ada")
    assert code != 0
    assert "--yes" in output
    code, output = await doorbell("erase", "user", "ada", "--dry-run", "--wait", "0", "--json")
    assert (code, orjson.loads(output)["status"]) == (1, "queued")
    source = await bench.source("stripe")
    async with run_workers(bench.runtime, temporal, [bench.environment]):
        await bench.final(await source.send("customer.created"))
        code, output = await doorbell("erase", "user", "cus_QXg1o8vcGmoR32", "--yes")
    assert code == 0, output
    assert "directory_recipients" in output
    _, output = await doorbell("logs", source.key)
    event, identify = output.splitlines()
    assert event.endswith("  (erased)")
    assert re.fullmatch(r" +└ users_identify  success  \d+ ms", identify)
