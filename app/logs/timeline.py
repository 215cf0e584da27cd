"""How an event's workflow ran, read from Temporal: its steps, every attempt with its failure, and what is
pending.

Temporal's history is the record; the event log and the action log are what was written down from it.
Temporal's client is imported with the first question: an API process that receives events is 17 MB smaller
without it.
"""

import asyncio
from importlib import import_module
from typing import TYPE_CHECKING

from app.core.errors import ConfigurationError
from app.core.settings import Settings
from app.events.claims import Claimed, workflow_id
from app.logs.steps import Timeline
from app.models.event import Event
from app.models.status import EventStatus
from app.sources.live import Configuration

if TYPE_CHECKING:
    from temporalio.client import Client


class Timelines:
    """Reads timelines. Connects when first asked, and again when Temporal was away."""

    def __init__(self, settings: Settings, configuration: Configuration) -> None:
        self._settings = settings
        self._configuration = configuration
        self._client: Client | None = None

    async def of_event(self, event: Event) -> Timeline:
        """The timeline of an event's run. Never fails: when there is none, it says why."""
        identifier = self.workflow_id_of(event)
        if identifier is None:
            return Timeline(reason="the event has no workflow run")
        return await self._read(identifier, event.run_id)

    def workflow_id_of(self, event: Event) -> str | None:
        """The id of the workflow that an event waits for; None when it waits for none."""
        if event.workflow_id is None and event.status == EventStatus.PROCESSING:
            return self._expected_id(event)
        return event.workflow_id

    def _expected_id(self, event: Event) -> str:
        """The log gets to know the run when it ends or takes long; its id follows from the event."""
        endpoint = self._configuration.endpoint(event.environment, event.source_key)
        claimed = Claimed(
            event.id,
            event.source_key,
            event.event_type,
            event.idempotency_key,
            event.received_at,
            workflow_id=None,
            run_id=None,
            origin=event.origin,
            takes_key=event.takes_key,
        )
        enforced = endpoint.enforce_idempotency if endpoint else True
        return workflow_id(event.environment, claimed, enforce_idempotency=enforced)

    async def client(self) -> "Client":
        """A client of Temporal, which connects when it is first used.

        Raises:
            ConfigurationError: Temporal's address is not set.
        """
        if self._client is None:
            # In a thread: it takes a second, and the process goes on receiving events.
            temporal = await asyncio.to_thread(import_module, "app.runtime.temporal")
            self._client = await temporal.connect(self._settings, lazy=True)
        return self._client

    async def _read(self, identifier: str, run_id: str | None) -> Timeline:
        try:
            client = await self.client()
        except ConfigurationError as error:
            return Timeline(reason=str(error))
        from app.logs import history as workflow_history

        return await workflow_history.read(client, identifier, run_id)
