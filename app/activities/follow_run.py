"""The activities of `app/workflows/recipient_run.py` that need Postgres only: begin a run, start its steps,
end it.

`start_step` decides what a step does: it is skipped, waits, is done at once, or names the activity of
`app/activities/deliver.py` that does it.
"""

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from temporalio import activity

from app.activities.failures import tried_later
from app.core.conditions import TooMuchToCompare
from app.core.errors import Permanent
from app.directory.conditions import holds
from app.directory.definition import AnyStep, DelayStep, EmailStep, FetchStep, InAppStep, WebhookStep
from app.directory.delays import UnknownTime, wait_until
from app.directory.recipients import Json
from app.directory.requests import outgoing
from app.directory.run_log import LoadedRun, NewMessage, RunLog, StoredStep
from app.models.contracts import RunOutcome, RunPlan, RunRef, StepRef, StepVerdict
from app.models.status import StepStatus
from app.models.types import now
from app.outbound.email import single_address
from app.outbound.mail import Mailer
from app.scripting.templates import Template, Templates
from app.scripting.turns import Busy

logger = logging.getLogger(__name__)

CANCELLED = StepVerdict(status=StepStatus.CANCELLED, halt=True)


class FollowRun:
    """Follows runs through their definitions. `mailer` says where emails come from."""

    def __init__(self, runs: RunLog, mailer: Mailer, templates: Templates) -> None:
        self._runs = runs
        self._mailer = mailer
        self._templates = templates

    def activities(self) -> list[Callable[..., Any]]:
        return [self.begin_run, self.start_step, self.end_delay, self.give_up_step, self.finish_run]

    @activity.defn
    async def begin_run(self, run: RunRef) -> RunPlan:
        """How many steps to follow."""
        if not await self._runs.begin(run.run_id):
            return RunPlan(steps=0)
        loaded = await self._runs.load(run.run_id)
        try:
            met = holds(loaded.workflow.conditions, loaded.scope())
        except TooMuchToCompare as error:
            logger.warning("conditions_not_met", extra={"run_id": str(run.run_id), "error": str(error)})
            met = False
        return RunPlan(steps=len(loaded.workflow.steps) if met else 0)

    @activity.defn
    async def start_step(self, step: StepRef) -> StepVerdict:
        """Come to a step; a second time finds what was decided the first time."""
        run = await self._runs.load(step.run_id)
        if run.cancelled:
            return CANCELLED
        if await self._runs.step(step.run_id, step.position) is None:
            try:
                opened = await self._open(run, step.position)
            except Busy as error:
                raise tried_later(error, "the run's steps") from None
            except Permanent as error:
                opened = await self._runs.open_step(run, step.position, StepStatus.PENDING)
                await self._runs.fail_step(step.run_id, step.position, str(error))
            if not opened:
                return CANCELLED
        stored = await self._runs.step(step.run_id, step.position)
        assert stored is not None
        return verdict_on(stored, run.step(step.position))

    @activity.defn
    async def end_delay(self, step: StepRef) -> StepVerdict:
        """The time has come."""
        run = await self._runs.load(step.run_id)
        if run.cancelled or not await self._runs.begin(step.run_id):
            return CANCELLED
        await self._runs.complete_step(step.run_id, step.position)
        return StepVerdict(status=StepStatus.COMPLETED)

    @activity.defn
    async def give_up_step(self, step: StepRef) -> StepVerdict:
        """Temporal stopped retrying: the step has failed with the error of its last attempt."""
        run = await self._runs.load(step.run_id)
        await self._runs.fail_step(step.run_id, step.position)
        stored = await self._runs.step(step.run_id, step.position)
        assert stored is not None
        return verdict_on(stored, run.step(step.position))

    @activity.defn
    async def finish_run(self, outcome: RunOutcome) -> RunOutcome:
        """Record how a run ended, with one wide line into the process log."""
        info = activity.info()
        status = await self._runs.finish(outcome.run_id, outcome.status, info.workflow_run_id)
        logger.info(
            "workflow_run",
            extra={
                "run_id": str(outcome.run_id),
                "status": status.value,
                "workflow_id": info.workflow_id,
                "temporal_run_id": info.workflow_run_id,
            },
        )
        return RunOutcome(run_id=outcome.run_id, status=status)

    async def _open(self, run: LoadedRun, position: int) -> bool:
        """Decide what the step does. False when the run was cancelled.

        Raises:
            Permanent: a template cannot be rendered.
            Busy: too many templates wait.
        """
        step, scope = run.step(position), run.scope()
        if not holds(step.conditions, scope):
            return await self._runs.open_step(run, position, StepStatus.SKIPPED)
        match step:
            case DelayStep():
                return await self._wait(run, position, step, scope)
            case FetchStep():
                return await self._runs.open_step(run, position, StepStatus.PENDING)
            case InAppStep():
                content = await self._in_app(run, step, scope)
            case EmailStep():
                content = await self._email(run, step, scope)
            case WebhookStep():
                content = (await outgoing(step.template, scope, self._templates, run.owner)).as_content()
        sandboxed = run.settings.get("sandbox_mode")
        done = sandboxed or isinstance(step, InAppStep)
        message = NewMessage("not_sent" if sandboxed else "delivered" if done else "queued", content)
        return await self._runs.open_step(
            run, position, StepStatus.COMPLETED if done else StepStatus.PENDING, message=message
        )

    async def _wait(self, run: LoadedRun, position: int, step: DelayStep, scope: Json) -> bool:
        if run.settings.get("skip_delay"):
            return await self._runs.open_step(run, position, StepStatus.SKIPPED)
        moment = now()
        try:
            end = wait_until(step.settings, scope, moment)
        except UnknownTime as error:
            # As in Knock: the error is logged, and the delay is skipped.
            opened = await self._runs.open_step(run, position, StepStatus.PENDING)
            await self._runs.fail_step(run.id, position, str(error), StepStatus.SKIPPED)
            return opened
        if end - moment <= timedelta(0):
            return await self._runs.open_step(run, position, StepStatus.COMPLETED, wait_until=end)
        return await self._runs.open_step(run, position, StepStatus.WAITING, wait_until=end)

    async def _email(self, run: LoadedRun, step: EmailStep, scope: Json) -> Json:
        names = {f"{name}_address": name for name in ("from", "to", "cc", "bcc", "reply_to")}
        overrides = step.channel_overrides.model_dump(exclude_none=True) if step.channel_overrides else {}
        sources = {
            "subject_line": Template(step.template.subject),
            "html_body": Template(step.template.html_body, html=True),
            **{names.get(field, field): Template(source) for field, source in overrides.items()},
        }
        if step.template.text_body is not None:
            sources["text_body"] = Template(step.template.text_body)
        texts = await self._templates.render(list(sources.values()), scope, run.owner)
        content: Json = {
            "from": self._mailer.sender or "",
            "to": single_address(str(scope["recipient"].get("email") or ""), "the recipient's email"),
            **dict(zip(sources, texts, strict=True)),
        }
        if step.template.text_body is None:
            content["text_body"] = await self._templates.text_of(content["html_body"], run.owner)
        return content

    async def _in_app(self, run: LoadedRun, step: InAppStep, scope: Json) -> Json:
        """Knock's content of an in-app message: a Markdown block, an address, buttons."""
        template = step.template
        sources = [template.markdown_body, *([] if template.action_url is None else [template.action_url])]
        sources += [source for each in template.action_buttons for source in (each.label, each.action)]
        texts = iter(await self._templates.render([Template(each) for each in sources], scope, run.owner))
        markdown = next(texts)
        html = await self._templates.html_of(markdown, run.owner)
        blocks: list[Json] = [{"name": "body", "type": "markdown", "content": markdown, "rendered": html}]
        if template.action_url is not None:
            url = next(texts)
            blocks.append({"name": "action_url", "type": "text", "content": url, "rendered": url})
        if template.action_buttons:
            buttons = [
                {"name": f"button_{number}", "label": next(texts), "action": next(texts)}
                for number, _ in enumerate(template.action_buttons, start=1)
            ]
            blocks.append({"name": "actions", "type": "button_set", "buttons": buttons})
        return {"blocks": blocks}


def verdict_on(stored: StoredStep, step: AnyStep) -> StepVerdict:
    """What is next after a step as it is stored. A fetch that failed ends the run: what follows lacks its
    data."""
    match stored.status:
        case StepStatus.WAITING:
            return StepVerdict(status=stored.status, wait_until=stored.wait_until)
        case StepStatus.PENDING | StepStatus.SENDING:
            return StepVerdict(status=stored.status, call=_CALLS[type(step)])
        case StepStatus.FAILED:
            return StepVerdict(status=stored.status, halt=isinstance(step, FetchStep))
        case StepStatus.CANCELLED:
            return CANCELLED
    return StepVerdict(status=stored.status)


_CALLS: dict[type[Any], str] = {
    FetchStep: "fetch_data",
    EmailStep: "send_email",
    WebhookStep: "send_webhook",
}
