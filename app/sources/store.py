"""Sources and their configuration in each environment: read, created, changed.

A new source starts in every environment with its provider's settings and default mappings. Every change is
one transaction; what is given is changed, the rest stays.
"""

import re
import secrets
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select as sa_select
from sqlalchemy import text
from sqlmodel import SQLModel, col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.account.environments import list_environments, unknown_environment
from app.actions.registry import action_types
from app.core.changes import MAXIMUM_NAME_LENGTH
from app.core.errors import FieldError, RequestError
from app.core.secrets import without_password
from app.core.validation import invalid_fields
from app.database.pages import Page, PageRequest, fetch_page
from app.models.environment import Environment
from app.models.source import Mapping, Source, SourceEnvironment
from app.models.types import now
from app.providers.base import Provider
from app.providers.registry import providers
from app.sources.changes import (
    DEFAULT_PROVIDER,
    KEY_PATTERN,
    EnvironmentChange,
    FailureAlertChange,
    MappingChange,
    ScriptChange,
    SettingsChange,
    SourceChange,
    canonical,
    check_change,
    stored_conditions,
)

# Two requests that change one source wait for each other, also when it does not exist yet.
_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('source/' || :key, 0))")


@dataclass
class Configured:
    """A source in one environment."""

    settings: SourceEnvironment
    mappings: list[Mapping] = field(default_factory=list)


@dataclass
class ConfiguredSource:
    """A source with its configuration by environment, in the environments' order."""

    source: Source
    environments: dict[str, Configured]


async def list_sources(session: AsyncSession) -> list[ConfiguredSource]:
    """All sources by key."""
    sources = (await session.exec(select(Source).order_by(col(Source.key)))).all()
    return await _with_configuration(session, sources)


async def page_of_sources(session: AsyncSession, request: PageRequest | None) -> Page[ConfiguredSource]:
    """A page of the sources by key; all of them without a request.

    Raises:
        RequestError: 422, the cursor is not one of this list.
    """
    if request is None:
        found = await list_sources(session)
        return Page(found, len(found), after=None, before=None)
    key = col(Source.key)
    connection = await session.connection()
    keys = await fetch_page(connection, sa_select(key), [key], request, lambda row: str(row.key))
    query = select(Source).where(key.in_(keys.items)).order_by(key)
    items = await _with_configuration(session, (await session.exec(query)).all())
    return Page(items, keys.size, keys.after, keys.before)


async def find_source(session: AsyncSession, key: str) -> Source:
    """The source.

    Raises:
        RequestError: 404, there is none with this key.
    """
    source = await session.get(Source, key)
    if source is None:
        raise RequestError(404, "resource_missing", f"There is no source {key!r}")
    return source


async def get_source(session: AsyncSession, key: str) -> ConfiguredSource:
    """The source with its configuration.

    Raises:
        RequestError: 404, there is none with this key.
    """
    return (await _with_configuration(session, [await find_source(session, key)]))[0]


async def get_configured(session: AsyncSession, key: str, environment: str) -> SourceEnvironment:
    """The source's settings in an environment.

    Raises:
        RequestError: 404, there is no such source, or it is not configured there yet.
    """
    await find_source(session, key)
    query = select(SourceEnvironment).where(
        SourceEnvironment.source_key == key, SourceEnvironment.environment == environment
    )
    configured = (await session.exec(query)).one_or_none()
    if configured is None:
        raise not_configured(key, environment)
    return configured


def not_configured(key: str, environment: str) -> RequestError:
    """The refusal of what needs the settings of a source in an environment where it has none."""
    message = f"Source {key!r} is not configured in {environment!r} yet: save it once more"
    return RequestError(404, "resource_missing", message)


async def lock_source(session: AsyncSession, key: str) -> None:
    """Let changes of one source come one after the other, until the end of the transaction."""
    await (await session.connection()).execute(_LOCK, {"key": key})


async def configure_missing(session: AsyncSession, environments: Sequence[Environment]) -> None:
    """Configure every source with its provider's defaults wherever it is not configured yet."""
    for each in await list_sources(session):
        await _configure_missing(session, each, environments)
    await session.flush()


async def upsert_source(
    session: AsyncSession, key: str, environment: str, body: object, *, unusable_scripts: Sequence[FieldError]
) -> ConfiguredSource:
    """Create or change a source as a request's body says; `environment` must be one that there is.
    `unusable_scripts` is what `script_errors` found in the body.

    The caller has the source's lock.

    Raises:
        RequestError: 422, naming everything that is wrong; nothing was changed.
    """
    environments = await list_environments(session)
    source = await session.get(Source, key)
    change, errors = check_change(
        body,
        environments=[each.slug for each in environments],
        existing_provider=None if source is None else source.provider,
    )
    errors = [*_target_errors(key, environment, environments), *errors, *unusable_scripts]
    if errors or change is None:
        raise invalid_fields(errors)
    is_bare = source is None and change.preconfigured_provider is None
    if source is None:
        provider = change.preconfigured_provider or change.provider or DEFAULT_PROVIDER
        source = Source(key=key, name=change.name, provider=provider)
        session.add(source)
        await session.flush()
    configured = (await _with_configuration(session, [source]))[0]
    await _configure_missing(session, configured, environments, with_mappings=not is_bare)
    await _apply(session, configured, change)
    await session.flush()
    return (await _with_configuration(session, [source]))[0]


def _target_errors(key: str, environment: str, environments: Sequence[Environment]) -> list[FieldError]:
    errors = []
    if len(key) > MAXIMUM_NAME_LENGTH or not re.fullmatch(KEY_PATTERN, key):
        errors.append(
            FieldError("key", f"{key!r} is not a key: use lower-case letters, digits, - and _ (at most 255)")
        )
    if environment not in {each.slug for each in environments}:
        errors.append(FieldError("environment", unknown_environment(environment, environments)))
    return errors


async def _with_configuration(session: AsyncSession, sources: Sequence[Source]) -> list[ConfiguredSource]:
    keys = [each.key for each in sources]
    rows = await session.exec(
        select(SourceEnvironment)
        .join(Environment, col(Environment.slug) == col(SourceEnvironment.environment))
        .where(col(SourceEnvironment.source_key).in_(keys), col(Environment.deleted_at).is_(None))
        .order_by(col(Environment.order), col(Environment.slug))
    )
    configured = {each.id: Configured(each) for each in rows}
    mappings = await session.exec(
        select(Mapping).where(col(Mapping.source_environment_id).in_(configured)).order_by(col(Mapping.id))
    )
    for mapping in mappings:
        configured[mapping.source_environment_id].mappings.append(mapping)
    by_source: defaultdict[str, dict[str, Configured]] = defaultdict(dict)
    for each in configured.values():
        by_source[each.settings.source_key][each.settings.environment] = each
    return [ConfiguredSource(source, by_source[source.key]) for source in sources]


async def _configure_missing(
    session: AsyncSession,
    configured: ConfiguredSource,
    environments: Iterable[Environment],
    *,
    with_mappings: bool = True,
) -> None:
    """Configure the source with its provider's defaults wherever it is not configured yet."""
    provider = providers().get(configured.source.provider)
    for environment in environments:
        if provider is not None and environment.slug not in configured.environments:
            defaults = _defaults(configured.source.key, environment.slug, provider)
            configured.environments[environment.slug] = defaults
            session.add(defaults.settings)
            await session.flush()
            if with_mappings:
                session.add_all(defaults.mappings)
            else:
                defaults.mappings.clear()
    # So that a change in the same request may delete them again.
    await session.flush()


def _defaults(key: str, environment: str, provider: Provider) -> Configured:
    settings = SourceEnvironment(
        source_key=key,
        environment=environment,
        endpoint_token=secrets.token_urlsafe(24),
        event_type_path=provider.event_type_path,
        idempotency_key_path=provider.idempotency_key_path,
        ordering_key_path=provider.ordering_key_path,
        timestamp_path=provider.timestamp_path,
        enforce_verification=provider.enforce_verification,
    )
    mappings = [
        Mapping(
            source_environment_id=settings.id,
            event_type=each.event_type,
            action_type=each.action_type,
            action_parameters=each.action_parameters,
            skip_older=each.skip_older,
            active=each.starts_active,
        )
        for each in provider.default_mappings
        if each.action_type in action_types()
    ]
    return Configured(settings, mappings)


async def _apply(session: AsyncSession, configured: ConfiguredSource, change: SourceChange) -> None:
    moment = now()
    given = change.given()
    fields: dict[str, Any] = {
        name: given[name] for name in ("name", "description", "custom_image_url") if name in given
    }
    changed = _set(configured.source, fields)
    for slug, environment in (change.environment_settings or {}).items():
        target = configured.environments[slug]
        if await _apply_environment(session, target, environment, moment):
            target.settings.updated_at = moment
            changed = True
    if changed:
        configured.source.updated_at = moment


async def _apply_environment(
    session: AsyncSession, target: Configured, change: EnvironmentChange, moment: datetime
) -> bool:
    changed = change.settings is not None and _set(target.settings, _columns(change.settings))
    if change.mappings is not None:
        changed = await replace_mappings(session, target, change.mappings, moment) or changed
    return changed


def _columns(change: SettingsChange) -> dict[str, Any]:
    """The given settings as columns."""
    given = change.given()
    if "preprocess_script" in given:
        script: ScriptChange | None = given["preprocess_script"]
        given["preprocess_script"] = script.source if script else None
    if "failure_alert" in given:
        alert: FailureAlertChange | None = given["failure_alert"]
        given["failure_alert"] = alert.model_dump() if alert else None
    if "idempotency_window_seconds" in given:
        given["idempotency_window"] = timedelta(seconds=given.pop("idempotency_window_seconds"))
    return given


def shown_alert(stored: dict[str, Any] | None) -> dict[str, Any] | None:
    """The setting `failure_alert` as it is shown: URLs that were saved with a password are without it."""
    if stored is None or stored.get("webhook_url") is None:
        return stored
    return {**stored, "webhook_url": without_password(stored["webhook_url"])}


async def replace_mappings(
    session: AsyncSession, target: Configured, wanted: Sequence[MappingChange], moment: datetime
) -> bool:
    """Make the mappings those that are wanted. Existing ones that match are changed, so that they keep their
    id."""
    existing = _match(target.mappings, wanted)
    changed = False
    kept = set()
    for mapping, change in zip(existing, wanted, strict=True):
        if change.is_deleted:
            continue
        if mapping is None:
            mapping = Mapping(
                source_environment_id=target.settings.id,
                event_type=change.event_type,
                action_type=change.action_type,
                created_at=moment,
                updated_at=moment,
            )
            session.add(mapping)
            changed = True
        if _set(mapping, change.columns()):
            mapping.updated_at = moment
            changed = True
        kept.add(mapping.id)
    for mapping in target.mappings:
        if mapping.id not in kept:
            await session.delete(mapping)
            changed = True
    return changed


def _match(existing: Sequence[Mapping], wanted: Sequence[MappingChange]) -> list[Mapping | None]:
    """For each wanted mapping the existing one that it is: by id, then the one that says the same, then the
    next one of the same event type and action type."""
    free = {str(each.id): each for each in existing}
    found: list[Mapping | None] = [free.pop(each.id, None) if each.id else None for each in wanted]
    for same in (_identity, _call, _kind):
        alike: defaultdict[Any, list[Mapping]] = defaultdict(list)
        for mapping in reversed(free.values()):
            alike[same(mapping)].append(mapping)
        for position, change in enumerate(wanted):
            if found[position] is None and alike[same(change)]:
                match = alike[same(change)].pop()
                found[position] = free.pop(str(match.id))
    return found


def _kind(mapping: Mapping | MappingChange) -> tuple[str, str]:
    return mapping.event_type, mapping.action_type


def _call(mapping: Mapping | MappingChange) -> tuple[str, str, bytes]:
    return *_kind(mapping), canonical(mapping.action_parameters or {})


def _identity(mapping: Mapping | MappingChange) -> tuple[str, str, bytes, bytes]:
    return *_call(mapping), canonical(conditions_of(mapping))


def conditions_of(mapping: Mapping | MappingChange) -> dict[str, Any] | None:
    """The conditions of a mapping as they are, or shall be, stored."""
    if isinstance(mapping, Mapping):
        return mapping.conditions
    return stored_conditions(mapping.conditions)


def _set(row: SQLModel, fields: dict[str, Any]) -> bool:
    """Set fields of a row; whether one of them was different."""
    different = {name: value for name, value in fields.items() if _differs(getattr(row, name), value)}
    for name, value in different.items():
        setattr(row, name, value)
    return bool(different)


def _differs(old: Any, new: Any) -> bool:
    return canonical(old) != canonical(new) if isinstance(old, dict) else bool(old != new)
