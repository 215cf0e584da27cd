"""What tests do with sources: configure them, send to them as the vendor would, look into the logs."""

import secrets
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx
import orjson
from sqlalchemy import text
from sqlmodel.ext.asyncio.session import AsyncSession
from temporalio.client import Client, WorkflowExecution, WorkflowHistory

from app.actions.registry import action_types
from app.models.environment import Environment
from app.models.source import Mapping, SigningSecret, Source, SourceEnvironment
from app.models.types import now
from app.providers.base import DefaultMapping
from app.providers.registry import providers
from app.runtime.resources import Runtime
from tests.servers import eventually

FINAL = ("succeeded", "failed", "idempotent", "rejected", "ignored")


class Api(httpx.AsyncClient):
    """An HTTP client of the application. `token` is its service token."""

    def __init__(self, base_url: str, token: str, transport: httpx.AsyncBaseTransport | None = None) -> None:
        headers = {"authorization": f"Bearer {token}"}
        super().__init__(base_url=base_url, headers=headers, timeout=30, transport=transport)


@dataclass
class Bench:
    """Sources in one environment, and what became of their events."""

    runtime: Runtime
    environment: str
    api: Api

    async def source(
        self,
        provider: str = "stripe",
        *,
        mappings: dict[str, list[tuple[str, dict[str, Any]]]] | None = None,
        skip_older: bool = False,
        secret: str | None = "whsec_dGVzdC1zZWNyZXQtZm9yLXRoZS1iZW5jaA==",
        **settings: Any,
    ) -> "BenchSource":
        """A source with the provider's defaults, unless given otherwise: mappings that are given skip older
        events when `skip_older` says so."""
        declared = providers()[provider]
        key = f"{provider.replace('_', '-')}-{secrets.token_hex(3)}"
        defaults: dict[str, Any] = {
            "event_type_path": declared.event_type_path,
            "idempotency_key_path": declared.idempotency_key_path,
            "ordering_key_path": declared.ordering_key_path,
            "timestamp_path": declared.timestamp_path,
            "enforce_verification": declared.enforce_verification,
        }
        if mappings is None:
            wanted = [each for each in declared.default_mappings if each.action_type in action_types()]
        else:
            wanted = [
                DefaultMapping(event_type, *each, skip_older)
                for event_type, actions in mappings.items()
                for each in actions
            ]
        async with AsyncSession(self.runtime.engine) as session:
            session.add(Source(key=key, name=key, provider=provider))
            await session.flush()
            configured = SourceEnvironment(
                source_key=key,
                environment=self.environment,
                endpoint_token=secrets.token_urlsafe(24),
                **{**defaults, **settings},
            )
            token = configured.endpoint_token
            session.add(configured)
            await session.flush()
            if secret is not None:
                ciphertext = self.runtime.box.encrypt(secret.encode())
                session.add(SigningSecret(source_environment_id=configured.id, ciphertext=ciphertext))
            for each in wanted:
                session.add(
                    Mapping(
                        source_environment_id=configured.id,
                        event_type=each.event_type,
                        action_type=each.action_type,
                        action_parameters=each.action_parameters,
                        skip_older=each.skip_older,
                    )
                )
            await session.commit()
        await self.runtime.configuration.refresh()
        source = BenchSource(self, key, token, provider, secret)
        await eventually(source.is_known)
        return source

    async def use_destination(self, url: str, key: str = "sk_test_far") -> None:
        """Let actions run against this URL instead of the embedded directory."""
        async with AsyncSession(self.runtime.engine) as session:
            found = await session.get_one(Environment, self.environment)
            found.destination_url, found.destination_key = url, self.runtime.box.encrypt(key.encode())
            await session.commit()
        await self.runtime.configuration.refresh()

    async def rows(self, query: str, **parameters: Any) -> list[dict[str, Any]]:
        async with self.runtime.engine.connect() as connection:
            return [dict(row) for row in (await connection.execute(text(query), parameters)).mappings()]

    async def event(self, identifier: str | UUID) -> dict[str, Any]:
        rows = await self.rows("SELECT * FROM events WHERE id = :id", id=UUID(str(identifier)))
        return rows[0]

    async def final(self, identifier: str | UUID, deadline: float = 60.0) -> dict[str, Any]:
        """The event once it has a final status."""

        async def look() -> dict[str, Any] | None:
            event = await self.event(identifier)
            return event if event["status"] in FINAL else None

        found = await eventually(look, deadline)
        assert found is not None
        return found

    async def actions(self, identifier: str | UUID) -> list[dict[str, Any]]:
        return await self.rows(
            "SELECT * FROM actions WHERE event_id = :id ORDER BY started_at", id=UUID(str(identifier))
        )


@dataclass
class BenchSource:
    """A configured source."""

    bench: Bench
    key: str
    token: str
    provider: str
    secret: str | None = field(repr=False)

    @property
    def path(self) -> str:
        return f"/integrations/receive/{self.token}"

    async def is_known(self) -> bool:
        """Whether the API process has seen it: a strange body is refused, not unknown. The log forgets it."""
        answer = await self.bench.api.post(self.path, content=b"", headers={"content-encoding": "probe"})
        async with self.bench.runtime.engine.begin() as connection:
            await connection.execute(
                text(
                    "WITH gone AS (DELETE FROM events WHERE source_key = :key AND error LIKE '%''probe''%' "
                    "RETURNING id) DELETE FROM event_payloads USING gone WHERE event_payloads.id = gone.id"
                ),
                {"key": self.key},
            )
        return answer.status_code == 400

    def example(self, event_type: str, **changes: Any) -> bytes:
        """The provider's example, with an id of its own and these changes at the top level."""
        body = providers()[self.provider].examples[event_type][0].body
        return orjson.dumps({**body, "id": f"evt_{secrets.token_hex(8)}", **changes})

    def signed(self, body: bytes, secret: str | None = None) -> dict[str, str]:
        scheme = providers()[self.provider].scheme
        used = secret or self.secret
        assert scheme is not None
        assert used is not None
        return scheme.sign(body, used, now(), f"msg_{secrets.token_hex(8)}")

    async def post(self, body: bytes, headers: dict[str, str] | None = None) -> httpx.Response:
        """Send a body, signed as the vendor signs unless headers are given."""
        return await self.bench.api.post(
            self.path, content=body, headers=self.signed(body) if headers is None else headers
        )

    async def send(self, event_type: str, **changes: Any) -> str:
        """Send the provider's example; the event's id."""
        answer = await self.post(self.example(event_type, **changes))
        assert answer.status_code == 200, answer.text
        identifier: str = answer.json()["id"]
        return identifier


async def runs_of(temporal: Client, source: BenchSource) -> list[WorkflowExecution]:
    """The runs of a source's events that Temporal lists, which it does a moment after their start."""
    return [each async for each in temporal.list_workflows(f"DoorbellSource = '{source.key}'")]


async def closed_history(temporal: Client, event: dict[str, Any]) -> WorkflowHistory:
    """The history of an event's run. The log knows its outcome a moment before Temporal knows of its end."""
    handle = temporal.get_workflow_handle(event["workflow_id"], run_id=event["run_id"])

    async def closed() -> bool:
        return (await handle.describe()).close_time is not None

    await eventually(closed)
    return await handle.fetch_history()
