"""The configuration of sources as every process keeps it in memory.

Read whole from Postgres: when a NOTIFY says that something changed, and at least every `config_max_age` as a
net. A saved change counts within a second; an unknown endpoint token costs no query.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, TypeVar
from uuid import UUID, uuid5

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.account.variables import Variables, read_variables
from app.actions.paths import TemplateError, liquid_in
from app.core.errors import Permanent
from app.core.outages import Outage
from app.core.secrets import SecretBox, token_hash
from app.database.engine import with_isolation
from app.database.listener import Listener
from app.models.environment import Environment
from app.models.source import (
    Mapping,
    ReplacedEndpointToken,
    SigningSecret,
    Source,
    SourceEnvironment,
    SourceKey,
)
from app.models.types import now
from app.outbound.destinations import Destination
from app.providers.base import Provider
from app.providers.registry import providers
from app.providers.verification import Secret

Row = TypeVar("Row", SigningSecret, Mapping)

logger = logging.getLogger(__name__)

CHANNEL = "doorbell_configuration"
# The event type with which customer data platforms tell who a user is.
IDENTIFY = "identify"


@dataclass(frozen=True)
class ActiveMapping:
    """A mapping as the event path needs it."""

    id: UUID
    action_type: str
    parameters: dict[str, Any]
    skip_older: bool = False
    conditions: dict[str, Any] | None = None

    @cached_property
    def liquid(self) -> tuple[str, ...]:
        """The Liquid templates of its parameters. One that is not written as one is met when it is
        evaluated."""
        try:
            return tuple(liquid_in(self.parameters))
        except TemplateError:
            return ()


@dataclass(frozen=True)
class Endpoint:
    """A source in one environment: what receiving and processing its events takes."""

    source_key: str
    environment: str
    provider: Provider
    event_type_path: str | None
    idempotency_key_path: str | None
    timestamp_path: str | None
    enforce_verification: bool
    enforce_idempotency: bool
    idempotency_window: timedelta
    start_unmapped: bool
    ordering_key_path: str | None = None
    ordering_hold: timedelta | None = None
    strict_batches: bool = False
    script: str | None = None
    variables: Variables = field(default_factory=Variables)
    rate_limit_per_second: int | None = None
    secrets: tuple[Secret, ...] = ()
    mappings: dict[str, tuple[ActiveMapping, ...]] = field(default_factory=dict)


class Configuration:
    """The configuration in memory."""

    def __init__(self, engine: AsyncEngine, box: SecretBox, max_age: timedelta) -> None:
        # One snapshot for all tables: what is saved between two statements must not be seen in half.
        self._engine = with_isolation(engine, "REPEATABLE READ")
        self._box = box
        self._max_age = max_age
        self._by_token: dict[str, Endpoint] = {}
        self._by_replaced_token: dict[str, tuple[Endpoint, datetime]] = {}
        self._by_source: dict[tuple[str, str], Endpoint] = {}
        self._by_key_hash: dict[str, Endpoint] = {}
        self._destinations: dict[str, Destination] = {}
        self._variables, self._variables_of = Variables(), dict[str, Variables]()
        self._changed = asyncio.Event()
        self._loaded = asyncio.Event()
        self._read_at = time.monotonic()

    @property
    def age(self) -> float:
        """Seconds since it was read, or since the process began to try."""
        return time.monotonic() - self._read_at

    @property
    def loaded(self) -> bool:
        """Whether Postgres was reached at least once."""
        return self._loaded.is_set()

    async def wait_until_loaded(self) -> None:
        await self._loaded.wait()

    def by_token(self, token: str) -> Endpoint | None:
        """The endpoint of an ingestion URL's token, or of one that was replaced and has not expired."""
        if endpoint := self._by_token.get(token):
            return endpoint
        replaced, expires_at = self._by_replaced_token.get(token, (None, None))
        return replaced if expires_at is not None and now() < expires_at else None

    def by_source_key(self, key: str) -> Endpoint | None:
        """The source in whose name a key (`sk_src_...`) calls."""
        return self._by_key_hash.get(token_hash(key))

    def endpoint(self, environment: str, source_key: str) -> Endpoint | None:
        """A source's configuration in an environment."""
        return self._by_source.get((environment, source_key))

    def endpoints(self) -> list[Endpoint]:
        """All sources in all environments."""
        return list(self._by_source.values())

    def environments(self) -> list[str]:
        """All environments."""
        return list(self._destinations)

    def destination(self, environment: str) -> Destination:
        """Where an environment's actions run.

        Raises:
            Permanent: there is no such environment.
        """
        try:
            return self._destinations[environment]
        except KeyError:
            raise Permanent(f"there is no environment {environment!r}") from None

    async def refresh(self) -> None:
        """Read everything again, now."""
        async with AsyncSession(self._engine) as session:
            environments = (
                await session.exec(select(Environment).where(col(Environment.deleted_at).is_(None)))
            ).all()
            sources = {source.key: source for source in (await session.exec(select(Source))).all()}
            configured = (await session.exec(select(SourceEnvironment))).all()
            secrets = (await session.exec(select(SigningSecret).order_by(col(SigningSecret.id).desc()))).all()
            mappings = (await session.exec(select(Mapping).order_by(col(Mapping.id)))).all()
            keys = (await session.exec(select(SourceKey).where(col(SourceKey.revoked_at).is_(None)))).all()
            replaced = (await session.exec(select(ReplacedEndpointToken))).all()
            self._variables, self._variables_of = await read_variables(session, self._box)
        secrets_of = _grouped(secrets)
        mappings_of = _grouped(mappings)
        self._destinations = {each.slug: self._destination(each) for each in environments}
        self._by_token = {
            each.endpoint_token: self._endpoint(
                each, sources[each.source_key], secrets_of.get(each.id, []), mappings_of.get(each.id, [])
            )
            for each in configured
            if each.environment in self._destinations and sources[each.source_key].provider in providers()
        }
        self._by_source = {(each.environment, each.source_key): each for each in self._by_token.values()}
        by_id = {each.id: self._by_token.get(each.endpoint_token) for each in configured}
        self._by_replaced_token = {
            each.token: (endpoint, each.expires_at)
            for each in replaced
            if (endpoint := by_id.get(each.source_environment_id)) is not None
        }
        self._by_key_hash = {
            each.key_hash: endpoint
            for each in keys
            if (endpoint := by_id.get(each.source_environment_id)) is not None
        }
        self._read_at = time.monotonic()
        self._loaded.set()

    def _destination(self, environment: Environment) -> Destination:
        key = environment.destination_key
        return Destination(
            environment.slug,
            environment.destination_url,
            self._box.decrypt(key).decode() if key is not None else None,
        )

    def _endpoint(
        self,
        configured: SourceEnvironment,
        source: Source,
        secrets: list[SigningSecret],
        mappings: list[Mapping],
    ) -> Endpoint:
        by_type: dict[str, list[ActiveMapping]] = {}
        for mapping in mappings:
            if mapping.active:
                active = ActiveMapping(
                    mapping.id,
                    mapping.action_type,
                    mapping.action_parameters,
                    mapping.skip_older,
                    mapping.conditions,
                )
                by_type.setdefault(mapping.event_type, []).append(active)
        provider = providers()[source.provider]
        _handle_identifies(configured, provider, by_type)
        _add_implicit(configured, provider, {each.event_type for each in mappings}, by_type)
        return Endpoint(
            source_key=source.key,
            environment=configured.environment,
            provider=provider,
            event_type_path=configured.event_type_path,
            idempotency_key_path=configured.idempotency_key_path,
            timestamp_path=configured.timestamp_path,
            enforce_verification=configured.enforce_verification,
            enforce_idempotency=configured.enforce_idempotency,
            idempotency_window=configured.idempotency_window,
            start_unmapped=configured.start_unmapped,
            ordering_key_path=configured.ordering_key_path,
            ordering_hold=_seconds(configured.ordering_hold),
            strict_batches=configured.strict_batches,
            script=configured.preprocess_script,
            variables=self._variables_of.get(configured.environment, self._variables),
            rate_limit_per_second=configured.rate_limit_per_second,
            secrets=tuple(
                Secret(each.id, self._box.decrypt(each.ciphertext).decode(), each.expires_at)
                for each in secrets
            ),
            mappings={event_type: tuple(each) for event_type, each in by_type.items()},
        )

    async def keep_fresh(self, listener: Listener) -> None:
        """Follow changes until cancelled. Postgres being away leaves the last known configuration in
        place."""
        listener.subscribe(CHANNEL, self._changed.set)
        outage = Outage(logger, "configuration_unreadable")
        while True:
            try:
                await self.refresh()
            except (SQLAlchemyError, OSError, Permanent) as error:
                outage.goes_on(error=str(error))
                await asyncio.sleep(1)
                continue
            except Exception:
                # Whatever a row holds, changes made later must still be followed.
                logger.exception("configuration_unreadable")
                await asyncio.sleep(1)
                continue
            outage.is_over()
            await self._change()

    async def _change(self) -> None:
        """Wait for a change, or for the time when one may have been missed."""
        # Not `wait_for`: Python 3.11's loses a cancellation that comes together with the change.
        with suppress(TimeoutError):
            async with asyncio.timeout(self._max_age.total_seconds()):
                await self._changed.wait()
        self._changed.clear()


def _handle_identifies(
    configured: SourceEnvironment, provider: Provider, by_type: dict[str, list[ActiveMapping]]
) -> None:
    """Let `identify` events identify their user without a mapping, or not at all, where the source says
    so."""
    identifies = [each for each in by_type.get(IDENTIFY, []) if each.action_type == "users_identify"]
    if configured.handle_identifies is False and identifies:
        by_type[IDENTIFY] = [each for each in by_type[IDENTIFY] if each not in identifies]
    if configured.handle_identifies and not identifies:
        by_type.setdefault(IDENTIFY, []).extend(
            # The same id in every process and on every reading: the action log refers to it.
            ActiveMapping(
                uuid5(configured.id, each.action_type),
                each.action_type,
                each.action_parameters,
                each.skip_older,
            )
            for each in provider.default_mappings
            if (each.event_type, each.action_type) == (IDENTIFY, "users_identify")
        )


def _seconds(value: int | None) -> timedelta | None:
    return None if value is None else timedelta(seconds=value)


def _add_implicit(
    configured: SourceEnvironment,
    provider: Provider,
    mapped: set[str],
    by_type: dict[str, list[ActiveMapping]],
) -> None:
    """Let the provider's implicit mappings run for event types that the source has no mapping of, active or
    not."""
    for each in provider.implicit_mappings:
        if each.event_type not in mapped:
            identifier = uuid5(configured.id, f"{each.event_type}/{each.action_type}")
            by_type.setdefault(each.event_type, []).append(
                ActiveMapping(identifier, each.action_type, each.action_parameters)
            )


def _grouped(rows: Sequence[Row]) -> dict[UUID, list[Row]]:
    """Rows by the source environment that they belong to."""
    grouped: dict[UUID, list[Row]] = {}
    for row in rows:
        grouped.setdefault(row.source_environment_id, []).append(row)
    return grouped
