"""Looks after what Doorbell keeps in Temporal's namespace: the search attributes, the schedule of the
maintenance, and whether it still is the namespace that it was."""

import asyncio
import logging
from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError

from app.activities.maintenance import ensure_schedule
from app.core.outages import Outage
from app.runtime.temporal import namespace_refusal, register_search_attributes

logger = logging.getLogger(__name__)

INTERVAL = timedelta(seconds=10)

_SEEN = text("""
INSERT INTO temporal_namespaces (name, namespace_id) VALUES (:name, :namespace_id)
ON CONFLICT (name) DO NOTHING
""")

# One worker process notices it, and the row lock has the others find it noticed.
_CHANGED = text("""
WITH before AS (SELECT namespace_id FROM temporal_namespaces WHERE name = :name FOR UPDATE)
UPDATE temporal_namespaces SET namespace_id = :namespace_id, changed_at = now()
FROM before WHERE name = :name AND before.namespace_id <> :namespace_id
RETURNING before.namespace_id
""")

# The runs of these events are gone with the namespace: nobody waits for their leases.
_EXPIRE_LEASES = text("""
UPDATE events SET lease_expires_at = now()
WHERE status = 'processing' AND run_id IS NOT NULL AND lease_expires_at > now()
""")


class NamespaceWatch:
    """Looks at the namespace again and again, in every worker process."""

    def __init__(self, engine: AsyncEngine, client: Client) -> None:
        self._engine = engine
        self._client = client

    async def run(self) -> None:
        """Look after the namespace until cancelled."""
        outage = Outage(logger, "namespace_cannot_be_used", namespace=self._client.namespace)
        while True:
            try:
                await self._look()
                outage.is_over()
            except RPCError as error:
                outage.goes_on(error=namespace_refusal(self._client, error))
            except (SQLAlchemyError, OSError) as error:
                outage.goes_on(error=type(error).__name__)
            except Exception:
                logger.exception("namespace_watch_failed")
            await asyncio.sleep(INTERVAL.total_seconds())

    async def _look(self) -> None:
        await self._compare()
        await register_search_attributes(self._client)
        await ensure_schedule(self._client)

    async def _compare(self) -> None:
        """Notice that the namespace is another one: Temporal's data was lost, or it was made again."""
        answer = await self._client.workflow_service.describe_namespace(
            DescribeNamespaceRequest(namespace=self._client.namespace)
        )
        found = {"name": self._client.namespace, "namespace_id": answer.namespace_info.id}
        async with self._engine.begin() as connection:
            await connection.execute(_SEEN, found)
            before = await connection.scalar(_CHANGED, found)
            if before is None:
                return
            expired = (await connection.execute(_EXPIRE_LEASES)).rowcount
        logger.error(
            "namespace_changed",
            extra={"namespace": found["name"], "before": before, "now": answer.namespace_info.id}
            | {"events_looked_after_again": expired},
        )
