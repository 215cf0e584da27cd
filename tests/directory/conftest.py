"""The directory over real HTTP, opened by a real key of the test's environment."""

from collections.abc import AsyncIterator

import pytest

from app.account.tokens import issue_key
from app.runtime.resources import Runtime
from tests.bench import Api
from tests.directory.clients import Client, JavaScriptClient, PythonClient
from tests.node import Node


@pytest.fixture
async def key(runtime: Runtime, environment: str) -> str:
    """A secret key (`sk_...`) of the environment."""
    return await issue_key(runtime.settings, environment, "tests")


@pytest.fixture
async def directory(api: Api, key: str) -> AsyncIterator[Api]:
    """An HTTP client of the directory."""
    async with Api(base_url=str(api.base_url), token=key) as client:
        yield client


@pytest.fixture(params=["knockapi", "@knocklabs/node"])
async def client(request: pytest.FixtureRequest, api: Api, key: str) -> AsyncIterator[Client]:
    """Knock's own client, in Python and in JavaScript."""
    url = str(api.base_url).rstrip("/")
    if request.param == "knockapi":
        async with PythonClient.connected(url, key) as python:
            yield python
    else:
        node: Node = request.getfixturevalue("node")
        async with JavaScriptClient.connected(node, url, key) as javascript:
            yield javascript
