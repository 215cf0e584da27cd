"""The configuration in memory, read while it is being changed."""

import asyncio
import secrets

from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.models.source import Source, SourceEnvironment
from app.runtime.resources import Runtime


async def connect_source(runtime: Runtime, environment: str) -> str:
    """A source and its configuration, in one transaction."""
    key, token = f"custom-{secrets.token_hex(4)}", secrets.token_urlsafe(24)
    async with AsyncSession(runtime.engine) as session:
        session.add(Source(key=key, name=key, provider="custom_http"))
        await session.flush()
        session.add(SourceEnvironment(source_key=key, environment=environment, endpoint_token=token))
        await session.commit()
    return token


async def test_sources_that_appear_while_it_is_read_are_seen_whole_or_not_at_all(
    runtime: Runtime, environment: str
) -> None:
    done = asyncio.Event()
    rounds = 0

    async def read() -> None:
        nonlocal rounds
        while not done.is_set():
            await runtime.configuration.refresh()
            rounds += 1

    reading = asyncio.create_task(read())
    tokens: list[str] = []
    while len(tokens) < 100 or rounds <= 10:
        assert not reading.done()
        tokens.append(await connect_source(runtime, environment))
    done.set()
    await reading
    await runtime.configuration.refresh()
    assert all(runtime.configuration.by_token(token) for token in tokens)


async def test_a_row_that_cannot_be_used_does_not_stop_later_changes(
    runtime: Runtime, environment: str
) -> None:
    """A source of a provider that this version does not know is passed over."""
    token = await connect_source(runtime, environment)
    async with AsyncSession(runtime.engine) as session:
        source = (await session.exec(select(Source))).one()
        source.provider = "of_a_later_version"
        await session.commit()
    later = await connect_source(runtime, environment)
    await runtime.configuration.refresh()
    assert runtime.configuration.by_token(token) is None
    assert runtime.configuration.by_token(later) is not None
