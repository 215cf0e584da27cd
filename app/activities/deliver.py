"""The activities that reach outside for a workflow's run: `fetch_data`, `send_email`, `send_webhook`.

Each says first that it is about to send, which it may not when the run was cancelled; a cancel in turn waits
for what is on its way. A failure that may pass is raised, for Temporal to try again; any other is recorded.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from temporalio import activity

from app.activities.failures import tried_later
from app.activities.follow_run import verdict_on
from app.core import exact_json
from app.core.errors import Permanent, Retryable
from app.directory.definition import FetchStep
from app.directory.recipients import Json
from app.directory.requests import RenderedRequest, outgoing
from app.directory.run_log import LoadedRun, RunLog, StoredStep
from app.models.contracts import StepRef, StepVerdict
from app.models.status import StepStatus
from app.outbound.email import Email
from app.outbound.http import Outbound, webhook_headers
from app.outbound.mail import Mailer
from app.scripting.templates import Templates

# What a run's data may grow to, as for triggers.
MAXIMUM_DATA_BYTES = 10 * 1024 * 1024
MAXIMUM_DEPTH = 100

Attempt = Callable[[LoadedRun, StepRef, StoredStep], Awaitable[Json | None]]


class Deliver:
    """Sends what steps have rendered, and fetches what they ask for."""

    def __init__(self, runs: RunLog, mailer: Mailer, outbound: Outbound, templates: Templates) -> None:
        self._runs = runs
        self._mailer = mailer
        self._outbound = outbound
        self._templates = templates

    def activities(self) -> list[Callable[..., Any]]:
        return [self.fetch_data, self.send_email, self.send_webhook]

    @activity.defn
    async def fetch_data(self, step: StepRef) -> StepVerdict:
        """Request data and merge it into the run's."""
        return await self._attempt(step, self._fetch)

    @activity.defn
    async def send_email(self, step: StepRef) -> StepVerdict:
        """Hand the email to the SMTP server."""
        return await self._attempt(step, self._mail)

    @activity.defn
    async def send_webhook(self, step: StepRef) -> StepVerdict:
        """Send the request, signed."""
        return await self._attempt(step, self._call)

    async def _attempt(self, step: StepRef, send: Attempt) -> StepVerdict:
        run = await self._runs.load(step.run_id)
        stored = await self._runs.begin_send(step.run_id, step.position)
        if stored.status is not StepStatus.SENDING:
            return verdict_on(stored, run.step(step.position))
        try:
            data = await send(run, step, stored)
        except Permanent as error:
            await self._runs.fail_step(step.run_id, step.position, str(error))
        except Retryable as error:
            await self._runs.put_off(step.run_id, step.position, str(error))
            raise tried_later(error, "the run's steps") from None
        else:
            await self._runs.complete_step(step.run_id, step.position, data=data)
        ended = await self._runs.step(step.run_id, step.position)
        assert ended is not None
        return verdict_on(ended, run.step(step.position))

    async def _fetch(self, run: LoadedRun, step: StepRef, stored: StoredStep) -> Json | None:
        fetch = run.step(step.position)
        assert isinstance(fetch, FetchStep)
        request = await outgoing(fetch.settings, run.scope(), self._templates, run.owner)
        answer = await self._outbound.send(request.outgoing(), follow_redirects=True)
        if not answer.body.strip():
            return None
        merged = _merged(run.data or {}, _object(answer.body), fetch.settings.response_path)
        if len(exact_json.dumps(merged)) > MAXIMUM_DATA_BYTES:
            raise Permanent("the run's data would have more than 10 MB")
        return merged

    async def _mail(self, run: LoadedRun, step: StepRef, stored: StoredStep) -> None:
        assert stored.message_id is not None
        content = await self._runs.content(stored.message_id)
        if not content["from"]:
            raise Permanent("no address to send from: set DOORBELL_SMTP_FROM, or from_address in the step")
        email = Email(
            sender=content["from"],
            sender_name=content.get("from_name"),
            to=content["to"],
            subject=content["subject_line"],
            html=content["html_body"],
            text=content["text_body"],
            cc=content.get("cc"),
            bcc=content.get("bcc"),
            reply_to=content.get("reply_to"),
        )
        await self._mailer.send(email, message_id=stored.message_id.hex)

    async def _call(self, run: LoadedRun, step: StepRef, stored: StoredStep) -> None:
        assert stored.message_id is not None
        request = RenderedRequest.from_content(await self._runs.content(stored.message_id))
        secret = await self._runs.signing_secret(run.environment, run.key)
        identifier = f"msg_{stored.message_id.hex}"
        headers = webhook_headers((request.body or "").encode(), secret, identifier)
        await self._outbound.send(request.outgoing(headers))


def _object(body: bytes) -> Json:
    try:
        answer = exact_json.loads(body)
    except orjson.JSONDecodeError:
        raise Permanent("the answer is not JSON") from None
    if not isinstance(answer, dict):
        raise Permanent("the answer is not a JSON object")
    _check_storable(answer)
    return answer


def _check_storable(answer: Json) -> None:
    """Refuse what triggers may not hold either: it could not be searched for.

    Raises:
        Permanent: it names the character or the depth.
    """
    level: list[Any] = [answer]
    for _ in range(MAXIMUM_DEPTH + 1):
        if any(isinstance(each, str) and "\x00" in each for each in level):
            raise Permanent("the answer has the character U+0000, which cannot be stored")
        nested = [each for each in level if isinstance(each, dict | list)]
        level = [item for each in nested for item in (each.values() if isinstance(each, dict) else each)]
        level += [key for each in nested if isinstance(each, dict) for key in each]
        if not level:
            return
    raise Permanent(f"the answer is nested more than {MAXIMUM_DEPTH} levels deep")


def _merged(data: Json, answer: Json, path: str | None) -> Json:
    """Knock's merge: the answer's top-level names replace those of the data, or all of it goes under the
    path."""
    if path is None:
        return {**data, **answer}
    first, _, rest = path.partition(".")
    if not rest:
        return {**data, first: answer}
    inner = data.get(first)
    return {**data, first: _merged(inner if isinstance(inner, dict) else {}, answer, rest)}
