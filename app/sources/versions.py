"""Versions of what people edit, as HTTP's ETags: two people who edit the same thing do not overwrite each
other.

A version follows from the rows' ids and times of change, so that it is the same in every process.
"""

import re
from collections.abc import Iterable

from app.core.errors import RequestError
from app.models.source import Mapping
from app.models.types import digest_of
from app.sources.store import ConfiguredSource

_ENTITY_TAG = re.compile(r'(W/)?"([^"]*)"')


def source_version(found: ConfiguredSource) -> str:
    """The ETag of a source with its settings and mappings in all environments."""
    parts = [found.source.key, found.source.updated_at.isoformat()]
    for slug, configured in found.environments.items():
        parts += [slug, str(configured.settings.id), configured.settings.updated_at.isoformat()]
        parts += _mapping_parts(configured.mappings)
    return _tag(parts)


def mapping_version(mapping: Mapping) -> str:
    """The ETag of a mapping."""
    return _tag(_mapping_parts([mapping]))


def check_match(if_match: str | None, version: str | None, what: str) -> None:
    """Refuse a change to something that is not as the caller saw it; `version` None is something that is not
    there.

    `If-Match` is read as RFC 9110, section 13.1.1, says: `*`, or a list of entity tags, compared strongly.

    Raises:
        RequestError: 412, it has another version.
    """
    if if_match is None:
        return
    known = {f'"{tag}"' for weak, tag in _ENTITY_TAG.findall(if_match) if not weak}
    if version is not None and (if_match.strip() == "*" or version in known):
        return
    message = f"{what} has changed since you read it: read it again, and apply your change to that"
    headers = {} if version is None else {"etag": version}
    raise RequestError(412, "precondition_failed", message, headers=headers)


def _mapping_parts(mappings: Iterable[Mapping]) -> list[str]:
    return [part for each in mappings for part in (str(each.id), each.updated_at.isoformat())]


def _tag(parts: Iterable[str]) -> str:
    return f'"{digest_of(*parts).hex()[:32]}"'
