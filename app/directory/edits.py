"""Changes of workflow definitions, as the Management API and the dashboard make them: noted in the audit
log."""

from hmac import compare_digest
from typing import Any

from sqlmodel.ext.asyncio.session import AsyncSession

from app.account.audit import Snapshot, note_change
from app.account.tokens import Access
from app.core.secrets import REDACTED, SecretBox
from app.directory.definitions import (
    StoredWorkflow,
    delete_workflow,
    find_workflow,
    get_workflow,
    read_workflow,
    save_workflow,
)
from app.scripting.templates import Templates


async def write_workflow(
    session: AsyncSession,
    access: Access,
    box: SecretBox,
    templates: Templates,
    environment: str,
    key: str,
    body: Any,
) -> StoredWorkflow:
    """Create or replace a workflow. Runs that were triggered before follow what it was then.

    Raises:
        RequestError: 422, naming all fields that are wrong; 503, too many definitions are being read.
    """
    # Parsing may wait for its turn: the connection is given back meanwhile. A rollback would take what the
    # caller has read from it.
    await session.commit()
    workflow = await read_workflow(body, templates, (environment, key))
    earlier = await find_workflow(session, environment, key)
    stored = await save_workflow(session, box, environment, key, workflow)
    note_change(
        session,
        access,
        "workflow.updated" if earlier else "workflow.created",
        ("workflow", key),
        environment=environment,
        before=None if earlier is None else workflow_snapshot(earlier),
        after=workflow_snapshot(stored, earlier),
    )
    return stored


async def discard_workflow(session: AsyncSession, access: Access, environment: str, key: str) -> None:
    """Delete a workflow. Runs under way go on.

    Raises:
        RequestError: 404, there is none with this key in this environment.
    """
    before = workflow_snapshot(await get_workflow(session, environment, key))
    await delete_workflow(session, environment, key)
    note_change(
        session, access, "workflow.deleted", ("workflow", key), environment=environment, before=before
    )


def workflow_snapshot(found: StoredWorkflow, earlier: StoredWorkflow | None = None) -> Snapshot:
    """A workflow; of its signing secret, whether there is one, and whether it was written since `earlier`."""
    secret = None if found.signing_secret is None else REDACTED
    if (
        found.signing_secret
        and earlier
        and not compare_digest(earlier.signing_secret or b"", found.signing_secret)
    ):
        secret = f"{REDACTED} (new)"
    # Secret values that changed show as another version.
    version = {} if found.sealed is None else {"version_id": str(found.version_id)}
    return {**found.definition, **version, "signing_secret": secret}
