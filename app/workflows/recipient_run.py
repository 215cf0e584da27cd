"""One recipient's run of a triggered workflow: it follows the definition, step by step.

Deterministic, and it sees ids and verdicts only. Its activities are in `app/activities/follow_run.py` (local
first: Postgres is all they need) and `app/activities/deliver.py` (requests to others).
"""

from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from app.models.contracts import RunOutcome, RunPlan, RunRef, StepRef, StepVerdict
    from app.models.status import RunStatus
    from app.workflows import policies
    from app.workflows.steps import run_step


@workflow.defn(name="RecipientRun")
class RecipientRunWorkflow:
    """One run. A cancel ends it wherever it is, and its row says so before Temporal does."""

    @workflow.run
    async def run(self, run: RunRef) -> RunOutcome:
        try:
            await self._follow(run)
        except BaseException as error:
            if not is_cancelled_exception(error):
                raise
            await run_step(
                "finish_run", RunOutcome(run_id=run.run_id, status=RunStatus.CANCELLED), RunOutcome
            )
            raise
        return await run_step(
            "finish_run", RunOutcome(run_id=run.run_id, status=RunStatus.COMPLETED), RunOutcome
        )

    async def _follow(self, run: RunRef) -> None:
        plan = await run_step("begin_run", run, RunPlan)
        for position in range(plan.steps):
            step = StepRef(run_id=run.run_id, environment=run.environment, position=position)
            verdict = await run_step("start_step", step, StepVerdict)
            if verdict.wait_until is not None:
                await workflow.sleep(max(timedelta(0), verdict.wait_until - workflow.now()))
                verdict = await run_step("end_delay", step, StepVerdict)
            elif verdict.call is not None:
                verdict = await _deliver(verdict.call, step)
            if verdict.halt:
                return


async def _deliver(name: str, step: StepRef) -> StepVerdict:
    """What became of a step that reaches outside, also when Temporal gave up on it."""
    policy = policies.FETCH if name == "fetch_data" else policies.SEND
    verdict: StepVerdict
    try:
        verdict = await workflow.execute_activity(name, step, result_type=StepVerdict, **policy)
    except ActivityError as error:
        if is_cancelled_exception(error):
            raise
        verdict = await run_step("give_up_step", step, StepVerdict)
    return verdict
