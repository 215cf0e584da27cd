"""Changes of workflow definitions, as the Management API and the dashboard make them: noted in the audit
log."""

from typing import Any

from sqlmodel.ext.asyncio.session import AsyncSession

from app.account.audit import note_change, workflow_snapshot
from app.account.tokens import Access
from app.core.secrets import SecretBox
from app.directory.definitions import (
    StoredWorkflow,
    delete_workflow,
    find_workflow,
    get_workflow,
    save_workflow,
)


async def write_workflow(
    session: AsyncSession, access: Access, box: SecretBox, environment: str, key: str, body: Any
) -> StoredWorkflow:
    """Create or replace a workflow. Runs that were triggered before follow what it was then.

    Raises:
        RequestError: 422, naming all fields that are wrong.
    """
    earlier = await find_workflow(session, environment, key)
    stored = await save_workflow(session, box, environment, key, body)
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
