"""Where everything is: the navigation and the tabs, in their order. What has no route yet is not shown."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from fastapi import APIRouter
from fastapi.routing import APIRoute


@dataclass(frozen=True)
class Entry:
    """A link. `key`: what jumps there after `g` on the keyboard."""

    label: str
    path: str
    icon: str = ""
    key: str = ""


@dataclass(frozen=True)
class Section:
    """Links under a heading; the first section has none."""

    label: str
    entries: tuple[Entry, ...]


_SECTIONS = (
    Section(
        "",
        (
            Entry("Overview", "/", "chart", "o"),
            Entry("Sources", "/sources", "plug", "s"),
            Entry("Logs", "/logs", "list", "l"),
        ),
    ),
    Section(
        "Directory",
        (
            Entry("Users", "/directory/users", "user", "u"),
            Entry("Objects", "/directory/objects", "box"),
            Entry("Tenants", "/directory/tenants", "building"),
            Entry("Audiences", "/directory/audiences", "users"),
            Entry("Workflows", "/directory/workflows", "code", "w"),
            Entry("Workflow runs", "/directory/workflow-runs", "flow", "r"),
            Entry("Messages", "/directory/messages", "mail"),
        ),
    ),
    Section(
        "Settings",
        (
            Entry("Environments", "/settings/environments", "layers"),
            Entry("Variables", "/settings/variables", "braces", "v"),
            Entry("Tokens", "/settings/tokens", "key"),
            Entry("Audit log", "/settings/audit-log", "history"),
            Entry("Retention", "/settings/retention", "clock"),
        ),
    ),
)
_SOURCE_TABS = (
    Entry("Mappings", "/sources/{key}/mappings"),
    Entry("Logs", "/sources/{key}/logs"),
    Entry("Settings", "/sources/{key}/settings"),
)


class Navigation:
    """The links to what is there."""

    def __init__(self, routers: Iterable[APIRouter]) -> None:
        paths = {route.path for each in routers for route in each.routes if isinstance(route, APIRoute)}
        present = (
            replace(each, entries=tuple(entry for entry in each.entries if entry.path in paths))
            for each in _SECTIONS
        )
        self.sections = [each for each in present if each.entries]
        self._source_tabs = [each for each in _SOURCE_TABS if each.path in paths]

    def source_tabs(self, key: str) -> list[Entry]:
        """The tabs of a source's page."""
        return [replace(each, path=each.path.replace("{key}", key)) for each in self._source_tabs]
