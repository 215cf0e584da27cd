"""Promotion: a source's settings and mappings of one environment become those of another, with a look first.

Endpoints, signing secrets and failure alerts belong to their environment and stay.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlmodel.ext.asyncio.session import AsyncSession

from app.actions.conditions import MappingConditions
from app.core.errors import FieldError
from app.core.validation import invalid_fields
from app.models.source import Mapping, SourceEnvironment
from app.models.types import now
from app.sources.changes import MappingChange, canonical
from app.sources.store import Configured, ConfiguredSource, get_source, lock_source, replace_mappings
from app.sources.versions import check_match, source_version

# What a source has of its own in each environment.
_STAYS = frozenset(
    {"id", "source_key", "environment", "endpoint_token", "failure_alert", "created_at", "updated_at"}
)


@dataclass(frozen=True)
class Difference:
    """One setting or mapping that a promotion changes. `before` None: it is added; `after` None: it is
    removed."""

    field: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Promotion:
    """What a promotion changes or changed, and the source as it is then."""

    differences: list[Difference]
    source: ConfiguredSource


async def promote(
    session: AsyncSession, key: str, origin: str, target: str, *, dry_run: bool, if_match: str | None
) -> Promotion:
    """Make a source in `target` what it is in `origin`; a dry run only says what that changes.

    Raises:
        RequestError: 404, there is no such source; 412, it is not as `if_match` says; 422, it is not
            configured in an environment, or both are one.
    """
    await lock_source(session, key)
    found = await get_source(session, key)
    check_match(if_match, source_version(found), f"Source {key!r}")
    errors = [
        FieldError(f"promotion.{name}", f"the source is not configured in {slug!r}")
        for name, slug in (("from", origin), ("to", target))
        if slug not in found.environments
    ]
    if origin == target:
        errors.append(FieldError("promotion.to", "is the environment that it comes from"))
    if errors:
        raise invalid_fields(errors)
    model, copy = found.environments[origin], found.environments[target]
    differences = [*_setting_differences(model, copy), *_mapping_differences(model.mappings, copy.mappings)]
    if not dry_run and differences:
        await _apply(session, found, model, copy)
        found = await get_source(session, key)
    return Promotion(differences, found)


def _columns(settings: SourceEnvironment) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in SourceEnvironment.model_fields if name not in _STAYS}


def _setting_differences(model: Configured, copy: Configured) -> list[Difference]:
    wanted, present = _columns(model.settings), _columns(copy.settings)
    return [
        Difference(f"settings.{_name(name, value)}", _plain(present[name]), _plain(value))
        for name, value in wanted.items()
        if present[name] != value
    ]


def _name(column: str, value: Any) -> str:
    """A column as the API calls it: durations are in seconds there."""
    return f"{column}_seconds" if isinstance(value, timedelta) else column


def _plain(value: Any) -> Any:
    return int(value.total_seconds()) if isinstance(value, timedelta) else value


def _mapping_differences(model: Sequence[Mapping], copy: Sequence[Mapping]) -> list[Difference]:
    wanted, present = Counter(map(_what, model)), Counter(map(_what, copy))
    by_what = {_what(each): _shown(each) for each in [*model, *copy]}
    removed = [Difference("mappings", by_what[each], None) for each in (present - wanted).elements()]
    added = [Difference("mappings", None, by_what[each]) for each in (wanted - present).elements()]
    return [*removed, *added]


def _what(mapping: Mapping) -> bytes:
    return canonical(_shown(mapping))


def _shown(mapping: Mapping) -> dict[str, Any]:
    """A mapping as a difference shows it: without what it does not set of Doorbell's own."""
    what = mapping.model_dump(include={"event_type", "action_type", "action_parameters", "active"})
    own = {"skip_older": mapping.skip_older, "conditions": mapping.conditions}
    return {**what, **{name: value for name, value in own.items() if value}}


def _conditions(mapping: Mapping) -> MappingConditions | None:
    return None if mapping.conditions is None else MappingConditions.model_validate(mapping.conditions)


async def _apply(session: AsyncSession, found: ConfiguredSource, model: Configured, copy: Configured) -> None:
    moment = now()
    copy.settings.sqlmodel_update(_columns(model.settings))
    wanted = [
        MappingChange.model_construct(
            **{"id": None, "skip_older": False, **_shown(each), "conditions": _conditions(each)}
        )
        for each in model.mappings
    ]
    await replace_mappings(session, copy, wanted, moment)
    copy.settings.updated_at = found.source.updated_at = moment
    await session.flush()
