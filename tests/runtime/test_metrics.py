"""What Prometheus gets: every stage of an event is counted, nothing when nobody asked, names as
documented."""

from collections.abc import AsyncIterator
from datetime import timedelta

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from sqlalchemy import text
from temporalio.client import Client
from temporalio.service import RPCError

from app.activities.maintenance import MaintenanceActivities
from app.core.errors import ConfigurationError
from app.core.settings import Settings
from app.models.status import ActionStatus
from app.models.types import now
from app.runtime import backlog, metrics, readings
from app.runtime.backlog import Backlog
from app.runtime.resources import Runtime
from app.runtime.scrape import serve_metrics
from app.stack.ports import find_free
from tests.bench import Api, Bench
from tests.database.test_storage import fill, scanned_whole
from tests.knock import KnockServer, error
from tests.runtime.test_observability import SDK_METRICS
from tests.servers import eventually


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"metrics_port": find_free("127.0.0.1", 1)[0]})


class Scraped:
    """One scrape."""

    def __init__(self, content: str) -> None:
        self.samples: list[Sample] = [
            sample for family in text_string_to_metric_families(content) for sample in family.samples
        ]
        self.names = {each.name for each in self.samples}

    def value(self, name: str, **labels: str) -> float:
        """The sum of the samples that have these labels."""
        return sum(
            each.value for each in self.samples if each.name == name and labels.items() <= each.labels.items()
        )


@pytest.fixture
async def scraper(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{settings.metrics_port}", timeout=60) as client:
        yield client


async def scrape(client: httpx.AsyncClient) -> Scraped:
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return Scraped(answer.text)


@pytest.mark.usefixtures("api", "worker")
async def test_each_stage_of_an_event_is_counted(
    bench: Bench, knock: KnockServer, scraper: httpx.AsyncClient, api: Api, temporal: Client
) -> None:
    await bench.use_destination(knock.url)
    source = await bench.source("stripe")
    with pytest.raises(RPCError):
        await temporal.get_workflow_handle("nothing").describe()
    here, of_source = (
        {"environment": bench.environment},
        {"environment": bench.environment, "source": source.key},
    )
    knock.answers.append(error(503, "unavailable", "down"))
    await bench.final(await source.send("invoice.paid", id="evt_once"))
    await bench.final(await source.send("invoice.paid", id="evt_once"))
    await bench.final(await source.send("invoice.paid", type="charge.refunded"))
    knock.answers.append(error(422, "invalid_params", "no"))
    await bench.final(await source.send("invoice.paid"))
    assert (await source.post(source.example("invoice.paid"), headers={})).status_code == 401
    assert (await api.post("/integrations/receive/unknown", content=b"{}")).status_code == 404
    seen = await scrape(scraper)

    assert seen.value("doorbell_events_accepted_total", through="webhook", **of_source) == 4
    assert seen.value("doorbell_accept_duration_seconds_count", **here) == 4
    assert seen.value("doorbell_requests_rejected_total", reason="verification_failed", **of_source) == 1
    assert seen.value("doorbell_requests_rejected_total", reason="endpoint_missing", source="unknown") >= 1
    assert seen.value("doorbell_inbox_batch_events_count") >= 5
    assert seen.value("doorbell_claim_delay_seconds_count", **here) == 4
    assert seen.value("doorbell_events_dispatched_total", **here) == 3
    outcomes = {"succeeded": 1, "idempotent": 1, "ignored": 1, "failed": 1}
    for outcome, number in outcomes.items():
        assert seen.value("doorbell_events_finished_total", outcome=outcome, **of_source) == number, outcome
    assert seen.value("doorbell_event_duration_seconds_count", **here) == 3
    action = {**here, "action_type": "workflows_trigger"}
    assert seen.value("doorbell_actions_finished_total", outcome="succeeded", **action) == 1
    assert seen.value("doorbell_actions_finished_total", outcome="failed", **action) == 1
    assert seen.value("doorbell_action_retries_total", reason="http_503", **action) == 1
    statuses = {"2xx": 1, "5xx": 1, "4xx": 1}
    for status, number in statuses.items():
        assert seen.value("doorbell_destination_calls_total", status=status, **action) == number, status
    assert seen.value("doorbell_destination_call_duration_seconds_count", **action) == 3
    assert seen.value("doorbell_rate_limit_wait_seconds_count", **action) == 3
    assert seen.value("doorbell_events_in_flight", **here) == 0
    assert seen.value("doorbell_events_in_flight_limit", **here) == 80
    assert seen.value("doorbell_backlog_events", **here) == 0
    assert 0 <= seen.value("doorbell_configuration_age_seconds") < 60
    assert seen.value("doorbell_database_pool_limit") == 10
    assert seen.value("doorbell_build_info") == 1
    assert seen.value("process_resident_memory_bytes") > 0
    # The SDK's own, from its core.
    assert seen.value("temporal_workflow_completed_total", task_queue=f"doorbell-{bench.environment}") >= 1
    assert seen.names >= SDK_METRICS


@pytest.mark.usefixtures("scraper")
async def test_the_public_port_shows_no_metrics(api: Api) -> None:
    assert (await api.get("/metrics")).status_code == 404


async def test_a_backlog_is_seen_without_a_worker(
    bench: Bench, scraper: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readings, "KEPT", 0.0)
    source = await bench.source("stripe")
    for _ in range(3):
        await source.send("invoice.paid")
    async with bench.runtime.engine.begin() as connection:
        await connection.execute(
            text(
                "UPDATE events SET status = 'processing', lease_expires_at = now() - interval '5 minutes' "
                "WHERE id = (SELECT id FROM events WHERE environment = :environment LIMIT 1)"
            ),
            {"environment": bench.environment},
        )

    async def aged() -> Scraped | None:
        seen = await scrape(scraper)
        return (
            seen
            if seen.value("doorbell_backlog_oldest_age_seconds", environment=bench.environment) > 0
            else None
        )

    seen = await eventually(aged)
    assert seen is not None
    assert seen.value("doorbell_backlog_events", environment=bench.environment) == 2
    assert seen.value("doorbell_events_processing", environment=bench.environment) == 1
    assert seen.value("doorbell_events_overdue", environment=bench.environment) == 1


async def test_the_backlog_is_read_from_its_index_and_rarely(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readings, "KEPT", 3600.0)
    await fill(runtime, 60_000)
    for statement in (backlog._WAITING, backlog._PROCESSING):
        assert not await scanned_whole(runtime, statement, most=backlog.MAXIMUM_COUNTED)
    reader = Backlog(runtime.engine)
    first = await reader.read()
    assert first is not None
    assert first["development"].received == 12
    assert await reader.read() is first


async def test_missing_partitions_and_late_maintenance_are_seen(
    bench: Bench, scraper: httpx.AsyncClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readings, "KEPT", 0.0)
    seen = await scrape(scraper)
    began = seen.value("doorbell_maintenance_success_timestamp_seconds")
    assert began > 0, "a database whose maintenance never ran"
    for table in ("events", "event_payloads", "actions"):
        assert seen.value("doorbell_partitions_ahead_days", table=table) == 8
        assert seen.value("doorbell_default_partition_rows", table=table) == 0

    async with bench.runtime.engine.begin() as connection:
        await connection.execute(text(f"DROP TABLE events_{now():%Y%m%d}"))
        await connection.execute(text(f"DROP TABLE actions_{now() + timedelta(days=2):%Y%m%d}"))
    source = await bench.source("stripe")
    await source.send("invoice.paid")
    seen = await scrape(scraper)
    assert seen.value("doorbell_partitions_ahead_days", table="events") == 0
    assert seen.value("doorbell_partitions_ahead_days", table="actions") == 2
    assert seen.value("doorbell_default_partition_rows", table="events") == 1

    maintenance = MaintenanceActivities(bench.runtime.engine, settings)
    await maintenance.maintain_partitions()
    assert not await maintenance.prune_directory()
    seen = await scrape(scraper)
    assert seen.value("doorbell_maintenance_success_timestamp_seconds") > began
    for table in ("events", "event_payloads", "actions"):
        assert seen.value("doorbell_partitions_ahead_days", table=table) == 8
        assert seen.value("doorbell_default_partition_rows", table=table) == 0


async def test_a_taken_port_is_named(runtime: Runtime) -> None:
    async with serve_metrics(runtime):
        with pytest.raises(ConfigurationError, match="DOORBELL_METRICS_PORT"):
            async with serve_metrics(runtime):
                pass


def test_nothing_is_counted_unless_asked_for() -> None:
    before = metrics.REGISTRY.get_sample_value("doorbell_events_dispatched_total", {"environment": "nowhere"})
    metrics.count_dispatched("nowhere")
    assert before is None
    assert (
        metrics.REGISTRY.get_sample_value("doorbell_events_dispatched_total", {"environment": "nowhere"})
        is None
    )


def test_sources_past_the_limit_share_a_name() -> None:
    with metrics.counting(sources=2):
        for number in range(4):
            metrics.count_idempotent("capped", f"source-{number}", 1)
    value = metrics.REGISTRY.get_sample_value
    labels = {"environment": "capped", "outcome": "idempotent"}
    assert value("doorbell_events_finished_total", {**labels, "source": "source-1"}) == 1
    assert value("doorbell_events_finished_total", {**labels, "source": "other"}) == 2
    assert value("doorbell_events_finished_total", {**labels, "source": "source-2"}) is None


def test_a_pending_action_is_not_counted() -> None:
    with metrics.counting(sources=2):
        metrics.count_action("pending", "users_identify", ActionStatus.PENDING)
    labels = {"environment": "pending", "action_type": "users_identify", "outcome": "pending"}
    assert metrics.REGISTRY.get_sample_value("doorbell_actions_finished_total", labels) is None


def test_time_in_the_claim_delay_is_in_seconds() -> None:
    received = now() - timedelta(seconds=90)
    with metrics.counting(sources=2):
        metrics.count_claimed("delayed", [received])
    total = metrics.REGISTRY.get_sample_value("doorbell_claim_delay_seconds_sum", {"environment": "delayed"})
    assert 90 <= total <= (now() - received).total_seconds()
