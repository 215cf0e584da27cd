"""The rows of workflow runs as the worker reads and writes them: runs, their steps, their messages.

Everything here can be done twice: a step that has ended stays as it ended, and a run that was cancelled stays
cancelled. `app/activities/follow_run.py` and `app/activities/deliver.py` decide what is written.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.core.errors import Permanent
from app.core.secrets import SecretBox
from app.database.engine import to_json
from app.directory.definition import AnyStep, EmailStep, InAppStep, WebhookStep, Workflow
from app.directory.recipients import Json, Recipient, Reference, recipient_of
from app.directory.sealing import restore, seal_content, unseal, unseal_content
from app.models.directory import USERS
from app.models.status import RunStatus, StepStatus
from app.models.types import new_id
from app.scripting.turns import Owner

# A run that is looked at again after this time: its workflow may have ended without a word.
LEASE = timedelta(minutes=15)
# Longer than any request may take (app/outbound/http.py, app/outbound/mail.py): after that nothing is on its
# way any more.
SEND_LEASE = timedelta(seconds=20)
MAXIMUM_ERROR_LENGTH = 2000
MAXIMUM_CACHED_VERSIONS = 500

_LOAD = text("""
SELECT run.id, run.environment, run.workflow_run_id, run.workflow, run.recipient_collection, run.recipient_id,
       run.tenant, run.status, run.inserted_at, coalesce(run.data, trigger.data) AS data, run.subscription,
         trigger.settings,
       trigger.actor_collection, trigger.actor_id, trigger.version_id
FROM workflow_recipient_runs AS run JOIN workflow_runs AS trigger ON trigger.id = run.workflow_run_id
WHERE run.id = :id
""")

_VERSION = text("SELECT definition, sealed FROM workflow_versions WHERE id = :id")

_RECIPIENTS = text("""
SELECT recipient.collection, recipient.id, properties, preferences, updated_at
FROM unnest(CAST(:collections AS text[]), CAST(:ids AS text[])) AS wanted (collection, id)
JOIN directory_recipients AS recipient
    ON recipient.environment = :environment AND recipient.collection = wanted.collection
      AND recipient.id = wanted.id
""")

_MESSAGES = text("""
SELECT step_ref, status, seen_at, read_at, interacted_at, archived_at FROM messages WHERE run_id = :id
""")

_BEGIN = text("""
UPDATE workflow_recipient_runs
SET status = 'processing', started_at = coalesce(started_at, now()), updated_at = now(),
  lease_expires_at = now() + :lease
WHERE id = :id AND status IN ('queued', 'processing', 'paused')
RETURNING id
""")

_LOCK = text("SELECT status FROM workflow_recipient_runs WHERE id = :id FOR UPDATE")

_STEP = text("SELECT * FROM workflow_run_steps WHERE run_id = :run_id AND position = :position")

_OPEN = text("""
INSERT INTO workflow_run_steps (run_id, position, ref, type, channel_type, status, attempts, error,
  wait_until,
                                message_id, started_at, finished_at)
VALUES (:run_id, :position, :ref, :type, :channel_type, :status, 0, NULL, :wait_until, :message_id, now(),
        CASE WHEN :ended THEN now() END)
ON CONFLICT DO NOTHING
RETURNING position
""")

_ADD_MESSAGE = text("""
INSERT INTO messages (id, environment, run_id, workflow_run_id, version_id, workflow, categories, step_ref,
  channel_key,
                      channel_type, recipient_collection, recipient_id, actor_collection, actor_id, tenant,
                        status,
                      content, sealed, data, inserted_at, updated_at)
VALUES (:id, :environment, :run_id, :workflow_run_id, :version_id, :workflow, CAST(:categories AS json),
  :step_ref,
        :channel_key, :channel_type, :recipient_collection, :recipient_id, :actor_collection, :actor_id,
          :tenant,
        :status, CAST(:content AS json), :sealed, CAST(:data AS json), now(), now())
""")

_PAUSE = text("""
UPDATE workflow_recipient_runs SET status = 'paused', updated_at = now(), lease_expires_at = :until
  WHERE id = :id
""")

_BEGIN_SEND = text("""
UPDATE workflow_run_steps SET status = 'sending', attempts = attempts + 1, lease_expires_at = now() + :lease
WHERE run_id = :run_id AND position = :position AND status IN ('pending', 'sending')
""")

_CONTENT = text("SELECT id, content, sealed FROM messages WHERE id = :id")

_COMPLETE = text("""
WITH ended AS (
    UPDATE workflow_run_steps
    SET status = 'completed', error = NULL, lease_expires_at = NULL, finished_at = now()
    WHERE run_id = :run_id AND position = :position AND status IN ('pending', 'waiting', 'sending')
    RETURNING run_id, message_id
), message AS (
    UPDATE messages SET status = 'sent', error = NULL, updated_at = now() FROM ended
      WHERE messages.id = ended.message_id
)
UPDATE workflow_recipient_runs
SET updated_at = now(), data = coalesce(CAST(:data AS json), data),
    status = CASE WHEN status = 'paused' THEN 'processing' ELSE status END
FROM ended WHERE id = ended.run_id
""")

_PUT_OFF = text("""
UPDATE workflow_run_steps SET status = 'pending', error = :error, lease_expires_at = NULL
WHERE run_id = :run_id AND position = :position AND status = 'sending'
""")

_FAIL = text("""
WITH ended AS (
    UPDATE workflow_run_steps
    SET status = :status, error = coalesce(CAST(:error AS text), error, 'given up: see the run in Temporal'),
      lease_expires_at = NULL, finished_at = now()
    WHERE run_id = :run_id AND position = :position AND status IN ('pending', 'waiting', 'sending')
    RETURNING run_id, message_id, ref, error
), message AS (
    UPDATE messages SET status = 'undelivered', error = ended.error, updated_at = now()
    FROM ended WHERE messages.id = ended.message_id
)
UPDATE workflow_recipient_runs
SET updated_at = now(), error_count = error_count + 1, error = ended.ref || ': ' || ended.error
FROM ended WHERE id = ended.run_id
""")

_FINISH = text("""
UPDATE workflow_recipient_runs
SET status = CASE WHEN status = 'cancelled' THEN status
  ELSE :status END, finished_at = coalesce(finished_at, now()),
    updated_at = now(), lease_expires_at = NULL, stop_requested = false, temporal_run_id = :temporal_run_id
WHERE id = :id
RETURNING status
""")

# A step that is sending ends by itself; it is not called back.
_ABANDON = text("""
WITH ended AS (
    UPDATE workflow_run_steps SET status = 'cancelled', finished_at = now()
    WHERE run_id = :id AND status IN ('pending', 'waiting') RETURNING message_id
)
UPDATE messages SET status = 'not_sent', updated_at = now() FROM ended WHERE messages.id = ended.message_id
""")

_SECRET = text("""
SELECT signing_secret FROM workflow_definitions WHERE environment = :environment AND key = :key
""")


@dataclass(frozen=True)
class LoadedRun:
    """A run with everything that its steps look at."""

    id: UUID
    environment: str
    workflow_run_id: UUID
    version_id: UUID
    key: str
    workflow: Workflow
    status: RunStatus
    recipient: Reference
    actor: Reference | None
    tenant: str | None
    data: Json | None
    subscription: Json | None
    settings: Json
    inserted_at: datetime
    recipients: dict[Reference, Recipient] = field(default_factory=dict)
    messages: dict[str, Json] = field(default_factory=dict)

    @property
    def cancelled(self) -> bool:
        return self.status is RunStatus.CANCELLED

    @property
    def owner(self) -> Owner:
        """Who waits for turns with templates."""
        return self.environment, self.key

    def step(self, position: int) -> AnyStep:
        return self.workflow.steps[position]

    def scope(self) -> Json:
        """What templates and conditions see. The trigger's data is at the top too, below Knock's own
        names."""
        data = self.data or {}
        tenant = Reference.to_tenant(self.tenant) if self.tenant is not None else None
        return {
            **data,
            "data": data,
            "recipient": self._serialized_recipient(),
            "actor": self._serialized(self.actor),
            "tenant": self._serialized(tenant),
            "workflow": {
                "id": str(self.version_id),
                "key": self.key,
                "name": self.workflow.name,
                "categories": self.workflow.categories,
            },
            "run": {
                "id": str(self.id),
                "total_activities": 1,
                "total_actors": 0 if self.actor is None else 1,
            },
            "refs": self.messages,
            "timestamp": self.inserted_at.isoformat(),
            "total_activities": 1,
            "total_actors": 0 if self.actor is None else 1,
        }

    def _serialized_recipient(self) -> Json | None:
        """The recipient, with what its subscription says when it has the run as a subscriber."""
        recipient = self._serialized(self.recipient)
        if recipient is None or self.subscription is None:
            return recipient
        subscribed_to = self._serialized(_subscribed_to(self.subscription))
        return {**recipient, "subscription": {**self.subscription["properties"], "object": subscribed_to}}

    def _serialized(self, reference: Reference | None) -> Json | None:
        """A recipient as templates see it; one that is not in the directory has its id only."""
        if reference is None:
            return None
        stored = self.recipients.get(reference)
        is_user = reference.collection == USERS
        return {
            "__typename": "User" if is_user else "Object",
            **({} if is_user else {"collection": reference.collection}),
            **(stored.properties if stored else {}),
            **({"updated_at": stored.updated_at.isoformat()} if stored else {}),
            "id": reference.id,
        }


@dataclass(frozen=True)
class StoredStep:
    """A step of a run as stored."""

    status: StepStatus
    wait_until: datetime | None
    message_id: UUID | None


@dataclass(frozen=True)
class NewMessage:
    """A message to store. `status` is one of Knock's."""

    status: str
    content: Json


class RunLog:
    """Runs, steps and messages of every environment that this process works for."""

    def __init__(self, engine: AsyncEngine, box: SecretBox) -> None:
        self._engine = engine
        self._box = box
        self._versions: dict[UUID, Workflow] = {}

    async def load(self, run_id: UUID) -> LoadedRun:
        """The run.

        Raises:
            Permanent: there is none, or it has no definition.
        """
        async with self._engine.connect() as connection:
            row = (await connection.execute(_LOAD, {"id": run_id})).first()
            if row is None or row.version_id is None:
                raise Permanent(f"there is no workflow run {run_id} with a definition")
            recipient = Reference(row.recipient_collection, row.recipient_id)
            actor = None if row.actor_id is None else Reference(row.actor_collection, row.actor_id)
            wanted = [recipient, *([actor] if actor else [])]
            if row.tenant is not None:
                wanted.append(Reference.to_tenant(row.tenant))
            if row.subscription is not None:
                wanted.append(_subscribed_to(row.subscription))
            return LoadedRun(
                id=row.id,
                environment=row.environment,
                workflow_run_id=row.workflow_run_id,
                version_id=row.version_id,
                key=row.workflow,
                workflow=await self._version(connection, row.version_id),
                status=RunStatus(row.status),
                recipient=recipient,
                actor=actor,
                tenant=row.tenant,
                data=row.data,
                subscription=row.subscription,
                settings=row.settings or {},
                inserted_at=row.inserted_at,
                recipients=await _recipients(connection, row.environment, wanted),
                messages=await _messages(connection, row.id),
            )

    async def begin(self, run_id: UUID) -> bool:
        """Mark a run as being followed; False when it was cancelled, or has ended."""
        async with self._engine.begin() as connection:
            return (await connection.execute(_BEGIN, {"id": run_id, "lease": LEASE})).first() is not None

    async def step(self, run_id: UUID, position: int) -> StoredStep | None:
        """A step, if the run has come to it."""
        async with self._engine.connect() as connection:
            row = (await connection.execute(_STEP, {"run_id": run_id, "position": position})).first()
        return None if row is None else StoredStep(StepStatus(row.status), row.wait_until, row.message_id)

    async def open_step(
        self,
        run: LoadedRun,
        position: int,
        status: StepStatus,
        *,
        wait_until: datetime | None = None,
        message: NewMessage | None = None,
    ) -> bool:
        """Record that a run has come to a step, with the message that it made; False when it was
        cancelled."""
        step = run.step(position)
        message_id = new_id() if message else None
        async with self._engine.begin() as connection:
            if await _is_cancelled(connection, run.id):
                return False
            opened = await connection.execute(
                _OPEN,
                {
                    "run_id": run.id,
                    "position": position,
                    "ref": step.ref,
                    "type": step.type,
                    "channel_type": step.channel_type
                    if isinstance(step, EmailStep | WebhookStep | InAppStep)
                    else None,
                    "status": status,
                    "wait_until": wait_until,
                    "message_id": message_id,
                    "ended": status in (StepStatus.COMPLETED, StepStatus.SKIPPED),
                },
            )
            if opened.first() is None:
                # It was opened before, by an attempt whose answer Temporal did not get.
                return True
            if message is not None and message_id is not None:
                await connection.execute(_ADD_MESSAGE, self._message_row(run, position, message_id, message))
            if wait_until is not None and status is StepStatus.WAITING:
                await connection.execute(_PAUSE, {"id": run.id, "until": wait_until + LEASE})
        return True

    async def begin_send(self, run_id: UUID, position: int) -> StoredStep:
        """Say that a request is about to go out: from now on a cancel waits for its end.

        The step's status is `sending` when it may; `cancelled` when the run was; else it has ended before.
        """
        key = {"run_id": run_id, "position": position}
        async with self._engine.begin() as connection:
            cancelled = await _is_cancelled(connection, run_id)
            if not cancelled:
                await connection.execute(_BEGIN_SEND, {**key, "lease": SEND_LEASE})
            row = (await connection.execute(_STEP, key)).one()
        status = StepStatus(row.status)
        if cancelled and status in (StepStatus.PENDING, StepStatus.SENDING):
            status = StepStatus.CANCELLED
        return StoredStep(status, row.wait_until, row.message_id)

    async def content(self, message_id: UUID) -> Json:
        """What a message holds, as it was rendered."""
        async with self._engine.connect() as connection:
            row = (await connection.execute(_CONTENT, {"id": message_id})).one()
        return unseal_content(self._box, row.content, row.sealed)

    async def complete_step(self, run_id: UUID, position: int, *, data: Json | None = None) -> None:
        """End a step well. `data`, when given, is the run's data from now on; a message counts as sent."""
        await self._execute(
            _COMPLETE,
            run_id=run_id,
            position=position,
            data=None if data is None else to_json(data),
        )

    async def put_off(self, run_id: UUID, position: int, error: str) -> None:
        """An attempt failed; there will be another."""
        await self._execute(_PUT_OFF, run_id=run_id, position=position, error=_capped(error))

    async def fail_step(
        self,
        run_id: UUID,
        position: int,
        error: str | None = None,
        status: StepStatus = StepStatus.FAILED,
    ) -> None:
        """End a step badly, with this error or the one of its last attempt, and count it on the run."""
        await self._execute(
            _FAIL,
            run_id=run_id,
            position=position,
            status=status,
            error=None if error is None else _capped(error),
        )

    async def finish(self, run_id: UUID, status: RunStatus, temporal_run_id: str | None) -> RunStatus:
        """End a run; what it was about to do is not done any more. The status that it has now."""
        async with self._engine.begin() as connection:
            ended = await connection.execute(
                _FINISH, {"id": run_id, "status": status, "temporal_run_id": temporal_run_id}
            )
            await connection.execute(_ABANDON, {"id": run_id})
            return RunStatus(ended.scalar_one())

    async def signing_secret(self, environment: str, key: str) -> str | None:
        """The secret that signs a workflow's webhooks, if it has one.

        Raises:
            Permanent: the workflow was deleted, and its secret with it.
        """
        async with self._engine.connect() as connection:
            row = (await connection.execute(_SECRET, {"environment": environment, "key": key})).first()
        if row is None:
            raise Permanent("the workflow was deleted: its webhooks cannot be signed any more")
        return None if row.signing_secret is None else self._box.decrypt(row.signing_secret).decode()

    def _message_row(self, run: LoadedRun, position: int, message_id: UUID, message: NewMessage) -> Json:
        step = run.step(position)
        content, sealed = seal_content(self._box, message.content)
        assert isinstance(step, EmailStep | WebhookStep | InAppStep)
        channel_type = step.channel_type
        return {
            "id": message_id,
            "environment": run.environment,
            "run_id": run.id,
            "workflow_run_id": run.workflow_run_id,
            "version_id": run.version_id,
            "workflow": run.key,
            "categories": to_json(run.workflow.categories),
            "step_ref": step.ref,
            "channel_key": step.channel_key or channel_type,
            "channel_type": channel_type,
            "recipient_collection": run.recipient.collection,
            "recipient_id": run.recipient.id,
            "actor_collection": run.actor.collection if run.actor else None,
            "actor_id": run.actor.id if run.actor else None,
            "tenant": run.tenant,
            "status": message.status,
            "content": to_json(content),
            "sealed": sealed,
            "data": None if run.data is None else to_json(run.data),
        }

    async def _version(self, connection: AsyncConnection, version_id: UUID) -> Workflow:
        found = self._versions.get(version_id)
        if found is None:
            row = (await connection.execute(_VERSION, {"id": version_id})).one()
            found = Workflow.model_validate(restore(row.definition, unseal(self._box, row.sealed)))
            if len(self._versions) >= MAXIMUM_CACHED_VERSIONS:
                self._versions.clear()
            self._versions[version_id] = found
        return found

    async def _execute(self, statement: Any, **parameters: Any) -> None:
        async with self._engine.begin() as connection:
            await connection.execute(statement, parameters)


async def _is_cancelled(connection: AsyncConnection, run_id: UUID) -> bool:
    """Whether the run was cancelled; if not, it cannot be before this transaction ends."""
    status = (await connection.execute(_LOCK, {"id": run_id})).scalar_one()
    return bool(status == RunStatus.CANCELLED)


async def _recipients(
    connection: AsyncConnection, environment: str, wanted: list[Reference]
) -> dict[Reference, Recipient]:
    rows = await connection.execute(
        _RECIPIENTS,
        {
            "environment": environment,
            "collections": [each.collection for each in wanted],
            "ids": [each.id for each in wanted],
        },
    )
    found = [recipient_of(row) for row in rows]
    return {each.reference: each for each in found}


async def _messages(connection: AsyncConnection, run_id: UUID) -> dict[str, Json]:
    """The messages of earlier steps as conditions see them: `refs.<ref>.delivery_status` and
    `engagement_status`."""
    rows = await connection.execute(_MESSAGES, {"id": run_id})
    return {
        row.step_ref: {
            "delivery_status": row.status,
            "engagement_status": engagement(row),
        }
        for row in rows
    }


def _subscribed_to(subscription: Json) -> Reference:
    return Reference(subscription["collection"], subscription["id"])


def engagement(row: Any) -> list[str]:
    """Knock's words for what the recipient did with a message."""
    marks = (("seen", row.seen_at), ("read", row.read_at), ("interacted", row.interacted_at))
    return [*(name for name, moment in marks if moment), *(["archived"] if row.archived_at else [])]


def _capped(text: str) -> str:
    return text.replace("\x00", "")[:MAXIMUM_ERROR_LENGTH]
