"""No request waits for a thread: FastAPI hands plain functions to one, which costs more than what ours do."""

from collections.abc import Iterable, Iterator
from inspect import isasyncgenfunction, isclass, iscoroutinefunction, isfunction
from typing import Any

from fastapi.dependencies.models import Dependant
from starlette.routing import BaseRoute

from app.api.app import _routes
from app.api.dashboard.routes import ROUTERS


def dependants(routes: Iterable[BaseRoute]) -> Iterator[Dependant]:
    """All handlers, and what they depend on."""
    for route in routes:
        if isinstance(found := getattr(route, "dependant", None), Dependant):
            yield from _with_dependencies(found)
        else:
            yield from dependants(route.original_router.routes)  # type: ignore[attr-defined]


def _with_dependencies(dependant: Dependant) -> Iterator[Dependant]:
    yield dependant
    for each in dependant.dependencies:
        yield from _with_dependencies(each)


def runs_in_a_thread(call: Any) -> bool:
    function = call if isfunction(call) else call.__call__
    return isclass(call) or not (iscoroutinefunction(function) or isasyncgenfunction(function))


def test_no_handler_and_no_dependency_runs_in_a_thread() -> None:
    routes = [*_routes(), *(route for router in ROUTERS for route in router.routes)]
    found = {each.call for each in dependants(routes)}
    assert len(found) > 200
    assert [each for each in found if runs_in_a_thread(each)] == []
