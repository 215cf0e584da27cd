"""Workflow definitions in the database: saved as versions that never change, read, listed, deleted."""

import hashlib
import re
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from hmac import compare_digest
from typing import Any
from uuid import UUID

import orjson
from pydantic import ValidationError
from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col
from sqlmodel.ext.asyncio.session import AsyncSession

from app.core import exact_json
from app.core.errors import FieldError, Permanent, RequestError
from app.core.secrets import SecretBox
from app.core.validation import field_errors, invalid_fields
from app.database.pages import Page, PageRequest, fetch_page
from app.directory.definition import KEY_PATTERN, NOT_FIELDS, TemplatesOf, Workflow, WrappedWorkflow
from app.directory.sealing import redact, restore, restore_redacted, seal, unseal
from app.models.directory import WorkflowRun
from app.models.types import now
from app.models.workflow import WorkflowDefinition, WorkflowVersion
from app.scripting.templates import MAXIMUM_TOTAL_LENGTH, Templates
from app.scripting.turns import Busy, Owner


@dataclass(frozen=True)
class StoredWorkflow:
    """A workflow of an environment as it is now. Encrypted are its signing secret and the values that the
    definition has `[redacted]` for."""

    environment: str
    key: str
    version_id: UUID
    definition: dict[str, Any]
    sha: str
    sealed: bytes | None = field(repr=False)
    signing_secret: bytes | None = field(repr=False)
    created_at: datetime
    updated_at: datetime

    @property
    def has_signing_secret(self) -> bool:
        return self.signing_secret is not None


async def save_workflow(
    session: AsyncSession, box: SecretBox, environment: str, key: str, workflow: Workflow
) -> StoredWorkflow:
    """Create or replace a workflow. Runs that were triggered before follow what it was then.

    Raises:
        RequestError: 422, the key is none, or a value is redacted and there is no earlier one to keep.
    """
    if re.fullmatch(KEY_PATTERN, key) is None:
        raise invalid_fields([FieldError("workflow_key", "is 3 to 255 of a-z, 0-9, _ and -")])
    stored = await session.get(WorkflowDefinition, (environment, key), with_for_update=True)
    present = None if stored is None else await session.get(WorkflowVersion, stored.version_id)
    earlier = {} if present is None else _secrets(box, present)
    definition, secrets = redact(
        restore_redacted(workflow.model_dump(mode="json", exclude_none=True), earlier)
    )
    sha = hashlib.sha256(exact_json.dumps(definition, option=orjson.OPT_SORT_KEYS)).hexdigest()
    moment = now()
    version = WorkflowVersion(
        environment=environment,
        key=key,
        definition=definition,
        sha=sha,
        sealed=seal(box, secrets),
        created_at=moment,
    )
    if stored is None:
        stored = WorkflowDefinition(
            environment=environment, key=key, version_id=version.id, created_at=moment
        )
    if present is None or present.sha != sha or not _same(earlier, secrets):
        session.add(version)
        await session.flush()
        stored.version_id = version.id
    stored.updated_at = moment
    if "signing_secret" in workflow.model_fields_set:
        secret = workflow.signing_secret
        stored.signing_secret = None if secret is None else box.encrypt(secret.get_secret_value().encode())
    session.add(stored)
    await session.flush()
    return await get_workflow(session, environment, key)


async def get_workflow(session: AsyncSession, environment: str, key: str) -> StoredWorkflow:
    """The workflow.

    Raises:
        RequestError: 404, there is none with this key in this environment.
    """
    found = await find_workflow(session, environment, key)
    if found is None:
        raise RequestError(404, "resource_missing", f"There is no workflow {key!r} in {environment!r}")
    return found


async def find_workflow(session: AsyncSession, environment: str, key: str) -> StoredWorkflow | None:
    """The workflow; None without one."""
    connection = await session.connection()
    row = (await connection.execute(_query(environment).where(col(WorkflowDefinition.key) == key))).first()
    return None if row is None else _stored(row)


async def get_version(
    connection: AsyncConnection, environment: str, workflow_run_id: UUID
) -> dict[str, Any] | None:
    """The definition that the runs of a trigger follow; None without one."""
    trigger, version = WorkflowRun, WorkflowVersion
    query = (
        select(col(version.definition))
        .join(trigger, col(trigger.version_id) == col(version.id))
        .where(col(trigger.environment) == environment, col(trigger.id) == workflow_run_id)
    )
    definition: dict[str, Any] | None = (await connection.execute(query)).scalar()
    return None if definition is None else redact(definition)[0]


async def list_workflows(session: AsyncSession, environment: str, page: PageRequest) -> Page[StoredWorkflow]:
    """The workflows of an environment by key."""
    connection = await session.connection()
    return await fetch_page(connection, _query(environment), [col(WorkflowDefinition.key)], page, _stored)


async def delete_workflow(session: AsyncSession, environment: str, key: str) -> None:
    """Delete a workflow. Triggers of its key record runs that complete at once again; runs under way go on.

    Raises:
        RequestError: 404, there is none with this key in this environment.
    """
    stored = await session.get(WorkflowDefinition, (environment, key))
    if stored is None:
        raise RequestError(404, "resource_missing", f"There is no workflow {key!r} in {environment!r}")
    await session.delete(stored)
    await session.flush()


async def read_workflow(body: Any, templates: Templates, owner: Owner) -> Workflow:
    """The definition of a body, whose templates can be parsed.

    Raises:
        RequestError: 422, naming all fields that are wrong; 503, too many definitions are being read.
    """
    found = TemplatesOf()
    with suppress(ValidationError):
        WrappedWorkflow.model_validate(body, context=found)
    try:
        problems = await _problems(found.sources, templates, owner)
        return WrappedWorkflow.model_validate(body, context=TemplatesOf(problems=problems)).workflow
    except ValidationError as error:
        errors = error.errors()
        for each in errors:
            each["loc"] = tuple(part for part in each["loc"] if part not in NOT_FIELDS)
        raise invalid_fields(field_errors(errors)) from None


async def _problems(sources: list[str], templates: Templates, owner: Owner) -> dict[str, str]:
    total = sum(map(len, sources))
    if total > MAXIMUM_TOTAL_LENGTH:
        message = f"has templates of {total} characters together; {MAXIMUM_TOTAL_LENGTH} are allowed"
        raise invalid_fields([FieldError("workflow.steps", message)])
    try:
        return await templates.problems(sources, owner)
    except Permanent:
        message = "has templates that take more than a second to parse: use fewer or shorter ones"
        raise invalid_fields([FieldError("workflow.steps", message)]) from None
    except Busy as error:
        raise RequestError(503, "service_unavailable", f"{error}: try again later") from None


def _query(environment: str) -> Any:
    definition, version = WorkflowDefinition, WorkflowVersion
    return (
        select(
            col(definition.environment),
            col(definition.key),
            col(definition.version_id),
            col(version.definition),
            col(version.sha),
            col(version.sealed),
            col(definition.signing_secret),
            col(definition.created_at),
            col(definition.updated_at),
        )
        .join(version, col(version.id) == col(definition.version_id))
        .where(col(definition.environment) == environment)
    )


def _stored(row: Row[Any]) -> StoredWorkflow:
    fields = {name: row._mapping[name] for name in StoredWorkflow.__dataclass_fields__}
    # Versions from before secrets were kept apart still hold them.
    return StoredWorkflow(**{**fields, "definition": redact(fields["definition"])[0]})


def _secrets(box: SecretBox, version: WorkflowVersion) -> dict[str, str]:
    """The secret values of a version."""
    return redact(restore(version.definition, unseal(box, version.sealed)))[1]


def _same(one: dict[str, str], other: dict[str, str]) -> bool:
    return compare_digest(*(orjson.dumps(each, option=orjson.OPT_SORT_KEYS) for each in (one, other)))
