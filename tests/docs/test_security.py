"""docs/security.md: every threat names tests, and each of them is there."""

import ast
import re
from pathlib import Path

from app.api import protocol, receive
from app.api.storable import MAXIMUM_BODY_BYTES
from app.api.storable import MAXIMUM_DEPTH as DIRECTORY_DEPTH
from app.core.raw_json import MAXIMUM_DEPTH
from app.core.settings import Settings
from app.events.reception import MAXIMUM_EVENTS, MAXIMUM_NAME_LENGTH, MAXIMUM_REJECTED_BODY

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "security.md").read_text()


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def rows(title: str) -> list[list[str]]:
    """The cells of a section's table, without its head."""
    lines = [each for each in section(title).splitlines() if each.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def test_each_threat_names_tests_that_there_are() -> None:
    threats = rows("Threats")
    assert len(threats) >= 25
    for threat, measure, proof in threats:
        assert measure, threat
        named = re.findall(r"`([\w/]+\.py)::(\w+)`", proof)
        assert named, threat
        for file, name in named:
            tree = ast.parse((TESTS / file).read_text())
            defined = {
                each.name
                for each in ast.walk(tree)
                if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
            }
            assert name in defined, f"{threat}: {file} has no {name}"


def test_limits_are_those_of_the_code() -> None:
    limits = {what: limit for what, limit, _ in rows("Limits at the edge")}
    default = Settings(_env_file=None).max_body_bytes
    mebi, kibi = 1024 * 1024, 1024
    assert f"{default // mebi} MiB" in limits["body of a delivery, inflated"]
    assert f"{receive.GZIP_OVERHEAD // kibi} KiB" in limits["body as it was sent"]
    assert (
        f"{MAXIMUM_BODY_BYTES // mebi} MiB" in limits["body of a call to the Management API or the directory"]
    )
    head = f"{protocol.MAXIMUM_HEADERS} headers, {protocol.MAXIMUM_HEAD_BYTES // kibi} KiB together"
    assert limits["request line and headers"].startswith(f"{head}, {protocol.HEAD_TIMEOUT:g} s")
    assert limits["nesting of JSON"].startswith(f"{MAXIMUM_DEPTH} levels; {DIRECTORY_DEPTH} in")
    assert limits["events in one delivery or call"] == f"{MAXIMUM_EVENTS:,}"
    assert limits["event types and idempotency keys"] == f"{MAXIMUM_NAME_LENGTH} characters"
    refused = (
        f"{receive.REFUSALS_PER_MINUTE} a minute for each source, {MAXIMUM_REJECTED_BODY // kibi} KiB of body"
    )
    assert limits["refused deliveries in the log"] == refused
