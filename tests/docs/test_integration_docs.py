"""The commands in docs/tracking-api.md, docs/reverse-etl.md and docs/workflow-runs.md, run as they stand
against the real application."""

import re
import shlex
from pathlib import Path
from string import Template

import httpx
import pytest

from app.account.tokens import issue_key
from tests.api.reverse_etl.keys import source_key
from tests.bench import Bench
from tests.conftest import ADMIN_TOKEN

DOCS = Path(__file__).parents[2] / "docs"


def commands(page: str) -> list[list[str]]:
    """The words of each curl command of a page."""
    found = re.findall(r"```sh\n(curl .*?)\n```", (DOCS / page).read_text(), re.DOTALL)
    return [shlex.split(each.replace("\\\n", " ")) for each in found]


def request(words: list[str], variables: dict[str, str]) -> httpx.Request:
    """The request that curl would make; options that are not known here fail."""
    words = [Template(each).substitute(variables) for each in words]
    assert words[:2] == ["curl", "-X"]
    method, url, headers, data = words[2], words[3], {"content-type": "application/x-www-form-urlencoded"}, ""
    for option, value in zip(words[4::2], words[5::2], strict=True):
        match option:
            case "-H":
                name, _, content = value.partition(": ")
                headers[name] = content
            case "-u":
                user, _, password = value.partition(":")
                signed = next(httpx.BasicAuth(user, password).auth_flow(httpx.Request(method, url)))
                headers["authorization"] = signed.headers["authorization"]
            case "-d":
                data = value
            case _:
                raise AssertionError(f"curl {option} is not known here")
    return httpx.Request(method, url, headers=headers, content=data)


@pytest.mark.parametrize(
    ("page", "count"), [("tracking-api.md", 3), ("reverse-etl.md", 6), ("workflow-runs.md", 3)]
)
async def test_commands_work(bench: Bench, page: str, count: int) -> None:
    tracked = await bench.source("segment", secret=None)
    synced = await bench.source("hightouch", secret=None)
    variables = {
        "DOORBELL": str(bench.api.base_url).rstrip("/"),
        "WRITE_KEY": tracked.token,
        "SOURCE": synced.key,
        "ENVIRONMENT": bench.environment,
        "TOKEN": ADMIN_TOKEN,
        "SOURCE_KEY": await source_key(synced),
        "DIRECTORY_KEY": await issue_key(bench.runtime.settings, bench.environment, "docs"),
    }
    found = commands(page)
    assert len(found) == count
    async with httpx.AsyncClient(timeout=30) as client:
        for words in found:
            answer = await client.send(request(words, variables))
            assert answer.is_success, (words, answer.text)
            if answer.content:
                assert "error" not in answer.json(), answer.text
    rows = await bench.rows(
        "SELECT event_type FROM events WHERE environment = :environment ORDER BY id",
        environment=bench.environment,
    )
    assert [row["event_type"] for row in rows] == {
        "tracking-api.md": ["identify", "track/Order Completed", "track/Order Completed"],
        "workflow-runs.md": [],
        "reverse-etl.md": ["users:identify", "audiences:add", "users:identify", "users:identify"]
        + ["audiences:add"] * 2,
    }[page]
