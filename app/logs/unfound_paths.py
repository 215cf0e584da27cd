"""Paths without a root that no stored event has a value at: words that were meant as text, most likely."""

from collections.abc import Iterator, Sequence

from sqlmodel.ext.asyncio.session import AsyncSession

from app.actions.parameters import paths_of
from app.actions.paths import MISSING, ROOTS, DecodedEvent, parse_path, resolve
from app.actions.registry import action_types
from app.core.secrets import SecretBox
from app.logs.entries import LogEntry, complete
from app.logs.event_types import list_latest
from app.models.source import Mapping

MAXIMUM_EVENTS = 10
# Of a source with many mappings the first ones are looked at.
MAXIMUM_EVENT_TYPES = 20


async def unfound_paths(
    session: AsyncSession, box: SecretBox, environment: str, source_key: str, mappings: Sequence[Mapping]
) -> list[str]:
    """A warning for each such path of these mappings; none for an event type of which nothing is stored."""
    rootless = {each.id: list(_rootless(each)) for each in mappings}
    looked_at = [each for each in mappings if rootless[each.id]]
    warnings = []
    for event_type in list(dict.fromkeys(each.event_type for each in looked_at))[:MAXIMUM_EVENT_TYPES]:
        latest = await list_latest(session, environment, source_key, event_type, MAXIMUM_EVENTS)
        entries = [LogEntry(each) for each in latest]
        await complete(session, box, entries, with_actions=False)
        events = [
            DecodedEvent(each.data, each.headers, each.preprocess_output)
            for each in entries
            if each.data is not None
        ]
        for mapping in (each for each in looked_at if each.event_type == event_type and events):
            warnings += [
                f"{event_type}: {name}: {path} is read from body, and has no value in the latest events of "
                f'this type. For a constant write {{"value": "{path}"}}'
                for name, path in rootless[mapping.id]
                if not any(_has_value(path, event) for event in events)
            ]
    return warnings


def _rootless(mapping: Mapping) -> Iterator[tuple[str, str]]:
    """The paths of a mapping that name none of `body`, `headers` and `preprocess`, by parameter."""
    action = action_types().get(mapping.action_type)
    for name, path in paths_of(action, mapping.action_parameters) if action else ():
        if path not in ROOTS and not path.startswith(tuple(f"{root}." for root in ROOTS)):
            yield name, path


def _has_value(path: str, event: DecodedEvent) -> bool:
    return resolve(parse_path(path), event) not in (MISSING, [])
