"""Bulk operations: worked off chunk by chunk, each change once, by a workflow that the worker starts."""

import asyncio
import logging
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer

from app.directory.bulk_operations import CHUNK_SIZE, work_off_chunk
from app.models.contracts import BulkOperationRef
from app.runtime.resources import Runtime
from app.runtime.temporal import connect, task_queue
from app.worker import rows
from app.worker.bulk_operations import BulkDispatcher
from app.worker.main import run_workers, workflow_runner
from app.workflows.bulk_operation import BulkOperationWorkflow
from tests.bench import Api
from tests.servers import eventually


async def ask_to_identify(directory: Api, users: list[dict[str, Any]]) -> dict[str, Any]:
    answer = await directory.post("/v1/users/bulk/identify", json={"users": users})
    assert answer.status_code == 200, answer.text
    operation = answer.json()
    assert isinstance(operation, dict)
    return operation


async def shown(directory: Api, operation: dict[str, Any]) -> dict[str, Any]:
    answer = await directory.get(operation["progress_path"])
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert isinstance(found, dict)
    return found


async def done(directory: Api, operation: dict[str, Any]) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        found = await shown(directory, operation)
        return found if found["status"] in ("completed", "failed") else None

    return await eventually(look)  # type: ignore[return-value]


async def work_off(runtime: Runtime, operation: dict[str, Any]) -> bool:
    async with runtime.engine.begin() as connection:
        return await work_off_chunk(connection, UUID(operation["id"]))


def people(number: int) -> list[dict[str, Any]]:
    return [{"id": f"user_{each:04}", "name": f"User {each}"} for each in range(number)]


async def test_progress_shows_after_each_chunk(runtime: Runtime, directory: Api) -> None:
    operation = await ask_to_identify(directory, people(2 * CHUNK_SIZE + 1))
    assert (operation["status"], operation["processed_rows"]) == ("queued", 0)
    progress = []
    while await work_off(runtime, operation):
        found = await shown(directory, operation)
        progress.append((found["status"], found["processed_rows"], found["success_count"]))
    assert progress == [
        ("processing", CHUNK_SIZE, CHUNK_SIZE),
        ("processing", 2 * CHUNK_SIZE, 2 * CHUNK_SIZE),
    ]
    found = await shown(directory, operation)
    assert (found["status"], found["processed_rows"]) == ("completed", 2 * CHUNK_SIZE + 1)
    assert found["started_at"] <= found["completed_at"]
    assert not await work_off(runtime, operation)
    assert await shown(directory, operation) == found


async def test_chunks_worked_off_at_once_are_each_made_once(runtime: Runtime, directory: Api) -> None:
    operation = await ask_to_identify(directory, people(3 * CHUNK_SIZE))
    await asyncio.gather(*(work_off(runtime, operation) for _ in range(5)))
    found = await shown(directory, operation)
    assert (found["processed_rows"], found["success_count"]) == (3 * CHUNK_SIZE, 3 * CHUNK_SIZE)


async def test_a_change_that_cannot_be_made_stops_no_other(runtime: Runtime, directory: Api) -> None:
    users = [*people(3), {"id": "heavy", "notes": "x" * 300_000}, {"id": "last"}]
    operation = await ask_to_identify(directory, users)
    await work_off(runtime, operation)
    found = await shown(directory, operation)
    assert (found["status"], found["processed_rows"]) == ("completed", 5)
    assert (found["success_count"], found["error_count"]) == (4, 1)
    assert found["error_items"] == [{"id": "heavy", "collection": "$users"}]
    assert (await directory.get("/v1/users/last")).status_code == 200
    assert (await directory.get("/v1/users/heavy")).status_code == 404


async def test_items_are_forgotten_when_they_are_done(runtime: Runtime, directory: Api) -> None:
    operation = await ask_to_identify(directory, people(1))
    await work_off(runtime, operation)
    async with runtime.engine.connect() as connection:
        items = await connection.execute(
            text("SELECT items FROM bulk_operations WHERE id = :id"), {"id": UUID(operation["id"])}
        )
        assert items.scalar_one() is None


async def test_nothing_to_do(runtime: Runtime, directory: Api) -> None:
    operation = await ask_to_identify(directory, [])
    await work_off(runtime, operation)
    assert (await shown(directory, operation))["status"] == "completed"


async def test_waits_for_a_worker_and_runs_as_a_workflow(
    runtime: Runtime, temporal: Client, environment: str, directory: Api
) -> None:
    """The API answers without Temporal; what it wrote is found when a worker starts."""
    operation = await ask_to_identify(directory, people(CHUNK_SIZE + 1))
    async with run_workers(runtime, temporal, [environment]):
        assert (await done(directory, operation))["status"] == "completed"
        handle = temporal.get_workflow_handle(BulkDispatcher.workflow_id(environment, UUID(operation["id"])))
        await handle.result()
        history = await handle.fetch_history()
        later = await ask_to_identify(directory, people(1))
        assert (await done(directory, later))["status"] == "completed"
    replayer = Replayer(
        workflows=[BulkOperationWorkflow],
        data_converter=pydantic_data_converter,
        workflow_runner=workflow_runner(sandbox=True),
    )
    await replayer.replay_workflow(history)
    sent = history.to_json()
    assert "User 1" not in sent
    assert "user_0001" not in sent


async def test_an_operation_whose_workflow_was_ended_by_hand_has_failed(
    runtime: Runtime, temporal: Client, environment: str, directory: Api
) -> None:
    operation = await ask_to_identify(directory, people(1))
    identifier = UUID(operation["id"])
    handle = await temporal.start_workflow(
        BulkOperationWorkflow.run,
        BulkOperationRef(operation_id=identifier, environment=environment),
        id=BulkDispatcher.workflow_id(environment, identifier),
        task_queue=task_queue(environment),
    )
    await handle.terminate()
    async with run_workers(runtime, temporal, [environment]):
        found = await done(directory, operation)
    assert found["status"] == "failed"
    assert found["failed_at"] is not None
    assert (await handle.describe()).status is WorkflowExecutionStatus.TERMINATED


async def test_temporal_may_be_away(
    runtime: Runtime,
    environment: str,
    directory: Api,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The dispatcher goes on looking, and the operation waits."""
    monkeypatch.setattr(rows, "SWEEP_INTERVAL", timedelta(milliseconds=10))
    away = runtime.settings.model_copy(update={"temporal_address": "127.0.0.1:1"})
    nowhere = await connect(away, lazy=True)
    dispatcher = BulkDispatcher(environment, engine=runtime.engine, client=nowhere)
    operation = await ask_to_identify(directory, people(1))
    with caplog.at_level(logging.WARNING):
        running = asyncio.create_task(dispatcher.run())
        await eventually(lambda: running.done() or caplog.messages.count("bulk_not_started") > 1)
        assert not running.done()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert (await shown(directory, operation))["status"] == "queued"
