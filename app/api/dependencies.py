"""What handlers of every API are given: the process's runtime, a session, timelines."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Request
from sqlmodel.ext.asyncio.session import AsyncSession

from app.logs.timeline import Timelines
from app.runtime.resources import Runtime


async def _runtime(request: Request) -> Runtime:
    runtime: Runtime = request.app.state.runtime
    return runtime


RuntimeDep = Annotated[Runtime, Depends(_runtime)]


async def _session(runtime: RuntimeDep) -> AsyncIterator[AsyncSession]:
    async with AsyncSession(runtime.engine, expire_on_commit=False) as session:
        yield session


SessionDep = Annotated[AsyncSession, Depends(_session)]


async def _timelines(request: Request) -> Timelines:
    timelines: Timelines = request.app.state.timelines
    return timelines


TimelinesDep = Annotated[Timelines, Depends(_timelines)]
