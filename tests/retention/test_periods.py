"""Retention: set through the API, with what does not fit refused, and kept to by the maintenance."""

from datetime import UTC, datetime, time, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import text

from app.activities.maintenance import MaintenanceActivities
from app.database.partitions import create_partitions
from app.models.types import first_id_at, now
from app.runtime.resources import Runtime
from tests.bench import Api, Bench


def days_ago(days: float) -> UUID:
    return first_id_at(now() - timedelta(days=days))


def on_day(days: int, hour: int) -> UUID:
    """An id of an hour of the day that was so many days ago: that day's whatever the time is now."""
    day = now().date() - timedelta(days=days)
    return first_id_at(datetime.combine(day, time(hour), tzinfo=UTC))


async def test_retention_is_set_checked_and_audited(api: Api, runtime: Runtime) -> None:
    found = (await api.get("/v1/retention")).json()
    assert (found["payload_days"], found["log_days"], found["message_days"]) == (30, 30, 90)
    assert found["updated_at"] is None

    answer = await api.put("/v1/retention", json={"retention": {"payload_days": 7, "workflow_run_days": 20}})
    assert answer.status_code == 200, answer.text
    saved = answer.json()["retention"]
    assert (saved["payload_days"], saved["log_days"], saved["workflow_run_days"]) == (7, 30, 20)
    assert saved["message_days"] == 20, "a message goes no later than its run, whatever the default"
    assert saved["defaults"]["payload_days"] == 30

    wrong = await api.put(
        "/v1/retention", json={"retention": {"payload_days": 40, "message_days": 21, "log_days": 20}}
    )
    assert wrong.status_code == 422
    assert [each["field"] for each in wrong.json()["errors"]] == [
        "retention.payload_days",
        "retention.message_days",
    ]
    assert (await api.put("/v1/retention", json={"retention": {"log_days": 0}})).status_code == 422

    source = {"name": "S", "preconfigured_provider": "stripe"}
    window = {"environment_settings": {"development": {"settings": {"idempotency_window_seconds": 86400}}}}
    answer = await api.put(
        "/v1/sources/s", params={"environment": "development"}, json={"source": {**source, **window}}
    )
    assert answer.status_code == 200, answer.text
    async with runtime.engine.begin() as connection:
        await connection.execute(text("UPDATE source_environments SET idempotency_window = '50 hours'"))
    wrong = await api.put("/v1/retention", json={"retention": {"payload_days": 1, "log_days": 2}})
    assert [each["field"] for each in wrong.json()["errors"]] == ["retention.log_days"]
    assert "3 days" in wrong.json()["message"]

    back = await api.put(
        "/v1/retention", json={"retention": {"payload_days": None, "workflow_run_days": None}}
    )
    assert (back.json()["retention"]["payload_days"], back.json()["retention"]["updated_at"]) == (30, None)
    assert (await api.get("/v1/whoami")).json()["account_features"]["data_retention_days"] == 30

    entries = (await api.get("/v1/audit_log", params={"resource_type": "retention"})).json()["entries"]
    assert [each["action"] for each in entries] == ["retention.updated"] * 2
    assert (entries[1]["before"]["payload_days"], entries[1]["after"]["payload_days"]) == (30, 7)


async def test_maintenance_takes_what_is_past_retention_and_finished(bench: Bench, api: Api) -> None:
    engine = bench.runtime.engine
    days = {
        "payload_days": 2,
        "log_days": 5,
        "message_days": 3,
        "workflow_run_days": 6,
        "bulk_operation_days": 4,
    }
    answer = await api.put("/v1/retention", json={"retention": days})
    assert answer.status_code == 200, answer.text
    async with engine.connect() as connection:
        for ago in (20, 8, 3):
            await connection.run_sync(create_partitions, (now() - timedelta(days=ago)).date())
    # The day of 20 days ago has an event in mid-work; 60 days ago has no partition.
    days_and_hours: dict[tuple[int, int], str] = {
        (60, 12): "succeeded",
        (59, 12): "processing",
        (20, 12): "processing",
        (20, 11): "failed",
        (8, 12): "ignored",
        (3, 12): "failed",
        (0, 12): "succeeded",
    }
    ids = {each: on_day(*each) for each in days_and_hours}
    async with engine.begin() as connection:
        for each, status in days_and_hours.items():
            await connection.execute(
                text(
                    "WITH e AS (INSERT INTO events (id, environment, source_key, status, "
                    "verification_status, "
                    "received_at) VALUES (:id, :environment, 's', :status, 'enforced:verified', now())), "
                    "a AS (INSERT INTO actions (id, event_id, mapping_id, action_type, parameters, status, "
                    "attempts) VALUES (:id, :id, :id, 'users_identify', '{}', 'succeeded', 1)) "
                    "INSERT INTO event_payloads (id, body, headers) VALUES (:id, '{}', '{}')"
                ),
                {"id": ids[each], "environment": bench.environment, "status": status},
            )
        for ago, status in ((7, "completed"), (7.1, "paused"), (4, "cancelled"), (1, "completed")):
            await connection.execute(
                text(
                    "WITH w AS (INSERT INTO workflow_runs (id, environment, workflow, inserted_at) "
                    "VALUES (:id, :environment, 'w', :moment) RETURNING id), "
                    "r AS (INSERT INTO workflow_recipient_runs (id, environment, workflow_run_id, workflow, "
                    "recipient_collection, recipient_id, status, error_count, stop_requested, inserted_at, "
                    "updated_at) "
                    "SELECT :id, :environment, id, 'w', '$users', 'ada', :status, 0, false, :moment, :moment "
                    "FROM w RETURNING id) "
                    "INSERT INTO messages (id, environment, run_id, workflow_run_id, version_id, workflow, "
                    "categories, "
                    "step_ref, channel_key, channel_type, recipient_collection, recipient_id, status, "
                    "content, "
                    "inserted_at, updated_at) SELECT :id, :environment, id, id, id, 'w', '[]', 's', 'c', "
                    "'in_app', '$users', 'ada', 'sent', '{}', :moment, :moment FROM r"
                ),
                {
                    "id": days_ago(ago),
                    "environment": bench.environment,
                    "status": status,
                    "moment": now() - timedelta(days=ago),
                },
            )
        for ago, status in ((5, "completed"), (5.1, "processing"), (1, "failed")):
            await connection.execute(
                text(
                    "INSERT INTO bulk_operations (id, environment, name, status, estimated_total_rows, "
                    "processed_rows, success_count, error_count, error_items, inserted_at, updated_at) "
                    "VALUES (:id, :environment, 'n', :status, 1, 0, 0, 0, '[]', :moment, :moment)"
                ),
                {
                    "id": days_ago(ago),
                    "environment": bench.environment,
                    "status": status,
                    "moment": now() - timedelta(days=ago),
                },
            )

    maintenance = MaintenanceActivities(engine, bench.runtime.settings)
    await maintenance.maintain_partitions()
    assert await maintenance.prune_directory() is False

    async def left(table: str) -> set[tuple[int, int]]:
        rows = await bench.rows(f"SELECT id FROM {table}")
        by_id: dict[Any, tuple[int, int]] = {identifier: each for each, identifier in ids.items()}
        return {by_id[row["id"]] for row in rows if row["id"] in by_id}

    whole_day = {(20, 12), (20, 11)}
    assert await left("events") == {(59, 12), *whole_day, (3, 12), (0, 12)}
    assert await left("actions") == {(59, 12), *whole_day, (3, 12), (0, 12)}
    assert await left("event_payloads") == {(59, 12), *whole_day, (0, 12)}

    async def ages_left(table: str) -> list[int]:
        rows = await bench.rows(f"SELECT inserted_at FROM {table} ORDER BY inserted_at")
        return [(datetime.now(UTC) - row["inserted_at"]).days for row in rows]

    assert await ages_left("workflow_recipient_runs") == [7, 4, 1], "the run that waits is kept"
    assert await ages_left("workflow_runs") == [7, 4, 1]
    assert await ages_left("messages") == [7, 1]
    assert await ages_left("bulk_operations") == [5, 1]
