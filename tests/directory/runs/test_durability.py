"""Runs survive what happens to workers and to Temporal: nothing is lost, and nothing is sent twice that need
not be."""

from collections.abc import AsyncIterator
from uuid import UUID

import pytest
from sqlalchemy import text
from temporalio.client import Client
from temporalio.testing import ActivityEnvironment

from app.activities.deliver import Deliver
from app.activities.follow_run import FollowRun
from app.core.errors import Permanent
from app.directory.run_log import RunLog
from app.models.contracts import RunRef, StepRef, StepVerdict
from app.models.status import StepStatus
from app.outbound.http import Outbound
from app.outbound.mail import Mailer
from app.runtime.resources import Runtime
from app.runtime.temporal import connect
from app.worker.main import run_workers
from tests.directory.runs.conftest import Runs, delay, email, in_app, statuses, webhook
from tests.directory.runs.far import MailServer, WebServer


async def test_runs_that_were_triggered_without_a_worker_are_found_later(
    runs: Runs, runtime: Runtime, temporal: Client
) -> None:
    await runs.define(in_app())
    [run_id] = await runs.trigger(data={"text": "x"})
    assert (await runs.run(run_id))["status"] == "queued"
    async with run_workers(runtime, temporal, [runs.environment]):
        assert statuses(await runs.ended(run_id)) == {"feed": "completed"}


async def test_a_run_goes_on_with_another_worker(
    runs: Runs, runtime: Runtime, temporal: Client, mails: MailServer
) -> None:
    await runs.define(in_app(), delay(delay_for={"unit": "seconds", "value": 3}), email())
    async with run_workers(runtime, temporal, [runs.environment]):
        [run_id] = await runs.trigger()
        await runs.in_status(run_id, "paused")
    async with run_workers(runtime, temporal, [runs.environment]):
        run = await runs.ended(run_id)
    assert statuses(run) == dict.fromkeys(("feed", "wait", "mail"), "completed")
    assert len(mails.mails) == 1


async def test_several_workers_follow_each_run_once(
    runs: Runs, runtime: Runtime, temporal: Client, mails: MailServer
) -> None:
    await runs.define(in_app(), email())
    async with (
        run_workers(runtime, temporal, [runs.environment]),
        run_workers(runtime, await connect(runtime.settings), [runs.environment]),
    ):
        ids = await runs.trigger(*({"id": f"u{n}", "email": f"u{n}@example.com"} for n in range(20)))
        for run_id in ids:
            assert statuses(await runs.ended(run_id)) == {"feed": "completed", "mail": "completed"}
    assert sorted(each.recipients[0] for each in mails.mails) == sorted(
        f"u{n}@example.com" for n in range(20)
    )
    [row] = await runs.bench.rows("SELECT count(*) AS messages FROM messages")
    assert row["messages"] == 40


async def test_a_run_cancelled_before_a_worker_found_it_never_begins(
    runs: Runs, runtime: Runtime, temporal: Client, mails: MailServer
) -> None:
    await runs.define(email())
    [run_id] = await runs.trigger(cancellation_key="k")
    await runs.knock.workflows.cancel("welcome", cancellation_key="k")
    [other] = await runs.trigger()
    async with run_workers(runtime, temporal, [runs.environment]):
        await runs.ended(other)
    run = await runs.run(run_id)
    assert (run["status"], run["steps"], len(mails.mails)) == ("cancelled", [], 1)


async def test_a_run_that_temporal_does_not_know_is_started_again(
    runs: Runs, runtime: Runtime, temporal: Client
) -> None:
    """As after the loss of Temporal's database: what was done stays done."""
    await runs.define(in_app(), in_app("second"))
    [run_id] = await runs.trigger()
    log = RunLog(runtime.engine, runtime.box)
    follow = FollowRun(log, Mailer(runtime.settings), runtime.templates)
    reference = RunRef(run_id=UUID(run_id), environment=runs.environment)
    await ActivityEnvironment().run(follow.begin_run, reference)
    await ActivityEnvironment().run(follow.start_step, _step(runs, run_id, 0))
    async with runtime.engine.begin() as connection:
        await connection.execute(
            text("UPDATE workflow_recipient_runs SET lease_expires_at = now() - interval '1 s'")
        )
    async with run_workers(runtime, temporal, [runs.environment]):
        assert statuses(await runs.ended(run_id)) == dict.fromkeys(("feed", "second"), "completed")
    assert len(await runs.messages(run_id)) == 2


class TestActivitiesDoneTwice:
    """Temporal gives an activity again when it did not get its result."""

    @pytest.fixture
    async def log(self, runtime: Runtime) -> RunLog:
        return RunLog(runtime.engine, runtime.box)

    @pytest.fixture
    async def deliver(self, runtime: Runtime, log: RunLog) -> AsyncIterator[Deliver]:
        outbound = Outbound(lambda address: True)
        yield Deliver(log, Mailer(runtime.settings), outbound, runtime.templates)
        await outbound.close()

    @pytest.fixture
    async def follow(self, runtime: Runtime, log: RunLog) -> FollowRun:
        return FollowRun(log, Mailer(runtime.settings), runtime.templates)

    async def test_an_email_that_was_sent_is_not_sent_again(
        self, runs: Runs, follow: FollowRun, deliver: Deliver, mails: MailServer
    ) -> None:
        await runs.define(email())
        [run_id] = await runs.trigger()
        step = _step(runs, run_id, 0)
        for _ in range(2):
            verdict = await ActivityEnvironment().run(follow.start_step, step)
        assert verdict == StepVerdict(status=StepStatus.PENDING, call="send_email")
        for _ in range(2):
            verdict = await ActivityEnvironment().run(deliver.send_email, step)
        assert (verdict.status, len(mails.mails)) == (StepStatus.COMPLETED, 1)
        assert len(await runs.messages(run_id)) == 1

    async def test_a_webhook_of_a_cancelled_run_is_not_sent(
        self, runs: Runs, follow: FollowRun, deliver: Deliver, web: WebServer
    ) -> None:
        await runs.define(webhook(f"{web.url}/x"))
        [run_id] = await runs.trigger(cancellation_key="k")
        step = _step(runs, run_id, 0)
        await ActivityEnvironment().run(follow.start_step, step)
        await runs.knock.workflows.cancel("welcome", cancellation_key="k")
        verdict = await ActivityEnvironment().run(deliver.send_webhook, step)
        assert (verdict.status, verdict.halt, web.hits) == (StepStatus.CANCELLED, True, [])

    async def test_giving_up_keeps_the_last_error(
        self, runs: Runs, follow: FollowRun, deliver: Deliver, mails: MailServer
    ) -> None:
        await runs.define(email())
        [run_id] = await runs.trigger()
        step = _step(runs, run_id, 0)
        await ActivityEnvironment().run(follow.start_step, step)
        mails.answers.append("451 mailbox is busy")
        with pytest.raises(Exception, match="tried again later"):
            await ActivityEnvironment().run(deliver.send_email, step)
        for _ in range(2):
            verdict = await ActivityEnvironment().run(follow.give_up_step, step)
        assert verdict.status is StepStatus.FAILED
        run = await runs.run(run_id)
        assert (run["error_count"], run["steps"][0]["status"]) == (1, "failed")
        assert "451 mailbox is busy" in run["steps"][0]["error"]

    async def test_a_webhook_is_not_sent_unsigned_when_its_workflow_was_deleted(
        self, runs: Runs, follow: FollowRun, deliver: Deliver, web: WebServer, log: RunLog
    ) -> None:
        await runs.define(webhook(f"{web.url}/x"))
        [run_id] = await runs.trigger()
        step = _step(runs, run_id, 0)
        await ActivityEnvironment().run(follow.start_step, step)
        await runs.api.delete("/v1/workflows/welcome", params={"environment": runs.environment})
        verdict = await ActivityEnvironment().run(deliver.send_webhook, step)
        assert (verdict.status, web.hits) == (StepStatus.FAILED, [])
        with pytest.raises(Permanent):
            await log.signing_secret(runs.environment, "welcome")


def _step(runs: Runs, run_id: str, position: int) -> StepRef:
    return StepRef(run_id=UUID(run_id), environment=runs.environment, position=position)
