"""The short way of the embedded destination: it answers what goes well, as the routes do, and leaves them the
rest."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import event, text

from app.api.directory.app import DirectoryApp
from app.core.errors import Permanent, Refused
from app.outbound.knock import attempt, connect_in_process
from app.runtime.resources import Runtime

TRIGGER = "/v1/workflows/welcome/trigger"


async def _runs(runtime: Runtime, environment: str) -> int:
    async with runtime.engine.connect() as connection:
        count = "SELECT count(*) FROM workflow_runs WHERE environment = :environment"
        return int((await connection.execute(text(count), {"environment": environment})).scalar_one())


async def test_requests_of_many_events_are_few_statements(runtime: Runtime, environment: str) -> None:
    answer = DirectoryApp(runtime.engine).answer
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    event.listen(runtime.engine.sync_engine, "before_cursor_execute", note)
    users = await asyncio.gather(
        *(
            answer(environment, "PUT", f"/v1/users/user%20{number % 9}", {f"p{number}": number}, None)
            for number in range(20)
        )
    )
    runs = await asyncio.gather(
        *(
            answer(environment, "POST", TRIGGER, {"recipients": ["ada", "ada"], "data": {"n": n}}, f"key-{n}")
            for n in range(20)
        )
    )
    event.remove(runtime.engine.sync_engine, "before_cursor_execute", note)
    assert all(users)
    assert all(runs)
    assert len(statements) < 10
    assert len({run["workflow_run_id"] for run in runs if run}) == 20
    assert await _runs(runtime, environment) == 20
    # Each user has what all requests for it set, though they were written together.
    kept: Any = await connect_in_process(DirectoryApp(runtime.engine), environment).users.get("user 1")
    assert (kept.p1, kept.p10, kept.p19) == (1, 10, 19)


async def test_a_repeated_trigger_is_answered_as_the_first_time(runtime: Runtime, environment: str) -> None:
    directory = DirectoryApp(runtime.engine)
    short = connect_in_process(directory, environment, directory.answer).workflows
    routes = connect_in_process(directory, environment).workflows
    first = await short.trigger("welcome", recipients=["ada"], data={"n": 1}, idempotency_key="k")
    for knock in (short, routes):
        again = await knock.trigger("welcome", recipients=["ada"], data={"n": 1}, idempotency_key="k")
        assert again.workflow_run_id == first.workflow_run_id
        with pytest.raises(Refused, match="idempotency_key_reused"):
            await attempt(knock.trigger("welcome", recipients=["ada"], data={"n": 2}, idempotency_key="k"))
    assert await _runs(runtime, environment) == 1


async def test_what_is_wrong_is_said_by_the_routes(runtime: Runtime, environment: str) -> None:
    directory = DirectoryApp(runtime.engine)
    texts = []
    for knock in (
        connect_in_process(directory, environment, directory.answer),
        connect_in_process(directory, environment),
    ):
        for call in (
            knock.users.update("ada", extra_body={"created_at": "yesterday"}),
            knock.users.update("ada", extra_body={"note": "\x00"}),
            knock.users.update("ada", extra_body={"note": "x" * 300_000}),
            knock.users.update("a" * 300),
            knock.workflows.trigger("welcome", recipients=[""], idempotency_key="k"),
            knock.workflows.trigger("welcome", recipients=[], idempotency_key="k"),
            knock.workflows.trigger("welcome", recipients=["ada"], idempotency_key="k" * 300),
        ):
            with pytest.raises(Permanent) as refusal:
                await attempt(call)
            texts.append(str(refusal.value))
    assert texts[:7] == texts[7:]
    assert await _runs(runtime, environment) == 0
