"""The directory under generated requests, good and bad, from the project's own OpenAPI document."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.bench import Api

PATHS = "^/v1/(users|objects|tenants|audiences|bulk_operations|workflows|workflow_recipient_runs)"
# No 5xx, only documented statuses, and bodies as documented.
CHECKS = "not_a_server_error,status_code_conformance,response_schema_conformance"
# Random requests for each operation, beside those that cover the bounds of each field.
EXAMPLES = 5
# On a busy machine; alone it takes a tenth of this.
DEADLINE = 240

# With these in the path, generated requests find something, instead of 404.
KNOWN = """
[parameters]
"path.user_id" = "ada"
"path.collection" = "projects"
"path.object_id" = "p1"
"path.key" = "trial"
"""


@pytest.fixture
async def document(api: Api) -> dict[str, Any]:
    document = (await api.get("/openapi.json")).json()
    assert isinstance(document, dict)
    return document


async def run_schemathesis(directory: Api, config: Path, *options: str) -> None:
    """Send what Schemathesis makes of the document; fails with its report."""
    # Made when it is first asked for, which takes longer than Schemathesis waits on a busy machine.
    (await directory.get("/openapi.json")).raise_for_status()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", "from schemathesis.cli import schemathesis; schemathesis()"),
        *("--config-file", str(config), "run", str(directory.base_url.join("/openapi.json"))),
        *("--header", f"Authorization: {directory.headers['authorization']}"),
        *("--include-path-regex", PATHS, "--checks", CHECKS, "--warnings", "off"),
        *("--seed", "1", "--generation-database", "none", "--no-shrink", "--no-color"),
        *options,
        # It leaves reports and a cache where it runs.
        cwd=config.parent,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        printed, _ = await asyncio.wait_for(process.communicate(), DEADLINE)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, printed.decode()


@pytest.mark.timeout(2 * DEADLINE)
async def test_bounds_of_every_field(directory: Api, tmp_path: Path) -> None:
    config = tmp_path / "schemathesis.toml"
    # Methods that a path does not have are answered by the framework.
    config.write_text("[phases.coverage]\nunexpected-methods = []\n")
    await run_schemathesis(directory, config, "--phases", "examples,coverage")


@pytest.mark.timeout(2 * DEADLINE)
async def test_random_requests_to_what_is_there(directory: Api, tmp_path: Path) -> None:
    for path, body in [
        ("users/ada", {"name": "Ada"}),
        ("users/bob", {"name": "Bob"}),
        ("objects/projects/p1", {"name": "Rocket"}),
    ]:
        (await directory.put(f"/v1/{path}", json=body)).raise_for_status()
    added = await directory.post(
        "/v1/audiences/trial/members?create_audience=true", json={"members": [{"user": {"id": "ada"}}]}
    )
    added.raise_for_status()
    subscribed = await directory.post(
        "/v1/objects/projects/p1/subscriptions", json={"recipients": ["ada", "bob"]}
    )
    subscribed.raise_for_status()
    config = tmp_path / "schemathesis.toml"
    config.write_text(KNOWN)
    await run_schemathesis(
        directory, config, "--phases", "fuzzing", "--max-examples", str(EXAMPLES), "--mode", "all"
    )


async def test_every_answer_is_described(document: dict[str, Any]) -> None:
    """Bodies and answers have schemas, and every refusal has the error's."""
    described = 0
    for path, operations in document["paths"].items():
        if not path.startswith(("/v1/users", "/v1/objects", "/v1/tenants", "/v1/audiences", "/v1/bulk")):
            continue
        for method, operation in operations.items():
            where = f"{method} {path}"
            described += 1
            assert operation["summary"], where
            assert operation["description"], where
            assert {"400", "401", "413", "422", "503"} <= set(operation["responses"]), where
            for status, answer in operation["responses"].items():
                if status == "204":
                    continue
                schema = answer["content"]["application/json"]["schema"]
                assert schema, f"{where} does not say what it answers with {status}"
                if status != "200":
                    assert schema == {"$ref": "#/components/schemas/ErrorBody"}, where
            if "requestBody" in operation:
                content = operation["requestBody"]["content"]["application/json"]
                assert "$ref" in orjson.dumps(content["schema"]).decode(), where
    assert described >= 29
