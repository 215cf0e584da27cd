"""One gate for every way in: what a source enforces at its ingestion URL, it enforces wherever events of it
are made."""

import itertools
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import orjson
import pytest

from app.cli.requests import Output, send
from app.core.settings import Settings
from app.models.types import now
from app.providers.registry import providers
from tests.api.reverse_etl.keys import Caller, source_key
from tests.bench import Bench, BenchSource
from tests.conftest import ADMIN_TOKEN
from tests.servers import eventually

# Whether the source enforces verification, has a secret, has a verifying script.
CASES = list(itertools.product((True, False), repeat=3))
SECRET = "sesame"
SCRIPT = "function main({ headers }) { return { verified: timingSafeEqual(headers['x-open'], 'sesame') } }"
LET_IN = {"x-open": SECRET}
IDENTIFY = {"type": "identify", "userId": "ada"}
TRACKING = {
    "/v1/identify": IDENTIFY,
    "/v1/i": IDENTIFY,
    "/api/s/identify": IDENTIFY,
    "/api/s/s2s/identify": IDENTIFY,
    "/v1/batch": {"batch": [IDENTIFY, IDENTIFY]},
    "/v1/import": {"batch": [IDENTIFY]},
}


async def source_of(
    bench: Bench, provider: str, *, enforced: bool, secret: bool, script: bool
) -> BenchSource:
    return await bench.source(
        provider,
        secret=SECRET if secret else None,
        enforce_verification=enforced,
        preprocess_script=SCRIPT if script else None,
    )


def signed(source: BenchSource, body: bytes) -> dict[str, str]:
    scheme = providers()[source.provider].scheme
    assert scheme is not None
    return scheme.sign(body, SECRET, now(), "msg_1") if source.secret else {}


async def logged(source: BenchSource) -> list[dict[str, Any]]:
    return await source.bench.rows("SELECT * FROM events WHERE source_key = :key ORDER BY id", key=source.key)


async def post(source: BenchSource, path: str, body: Any, headers: dict[str, str]) -> httpx.Response:
    """With the write key in the body, and without the client's own token."""
    content = body if isinstance(body, bytes) else orjson.dumps({**body, "writeKey": source.token})
    request = source.bench.api.build_request("POST", path, content=content, headers=headers)
    if "authorization" not in headers:
        del request.headers["authorization"]
    return await source.bench.api.send(request)


def check_log(events: list[dict[str, Any]], *, enforced: bool) -> None:
    """No event is accepted of which the log does not say, truly, why it could be."""
    for each in events:
        enforces, _, found = each["verification_status"].partition(":")
        assert enforces == ("enforced" if enforced else "not_enforced"), each
        assert (each["status"] == "rejected") is (enforced and found != "verified"), each


@pytest.mark.parametrize(("enforced", "secret", "script"), CASES)
async def test_deliveries_and_libraries(bench: Bench, enforced: bool, secret: bool, script: bool) -> None:
    source = await source_of(bench, "segment", enforced=enforced, secret=secret, script=script)
    one, many = orjson.dumps(IDENTIFY), orjson.dumps([IDENTIFY, IDENTIFY])
    refused = 401 if enforced else 200
    ways: list[tuple[str, Any]] = [(source.path, one), (source.path, many), *TRACKING.items()]
    for path, body in ways:
        answer = await post(source, path, body, {})
        assert answer.status_code == refused, (path, answer.text)
        assert refused == 200 or answer.json()["code"] in ("verification_failed", "verification_enforced")
        wrong = {"x-open": "tahini", "x-signature": "0" * 40}
        assert (await post(source, path, body, wrong)).status_code == refused, path
    for path, body in ways:
        if script:
            assert (await post(source, path, body, LET_IN)).status_code == 200, path
    for path, body in ways:
        content = body if isinstance(body, bytes) else orjson.dumps({**body, "writeKey": source.token})
        expected = 200 if secret and not script else refused
        assert (await post(source, path, content, signed(source, content))).status_code == expected, path
    check_log(await logged(source), enforced=enforced)


@pytest.mark.parametrize("provider", ["rudderstack", "jitsu", "freshpaint"])
async def test_a_script_without_a_secret_lets_no_library_in(bench: Bench, provider: str) -> None:
    source = await source_of(bench, provider, enforced=True, secret=False, script=True)
    for path, body in TRACKING.items():
        answer = await post(source, path, body, {})
        assert (answer.status_code, answer.json()["code"]) == (401, "verification_enforced"), path
    check_log(await logged(source), enforced=True)


@pytest.mark.parametrize("script", ["function main() { null.x }", "function main() { return {} }"])
async def test_a_script_that_says_nothing_lets_nobody_in(bench: Bench, script: str) -> None:
    source = await bench.source("segment", secret=None, enforce_verification=True, preprocess_script=script)
    for path, body in TRACKING.items():
        assert (await post(source, path, body, {})).status_code == 401, path


@pytest.mark.parametrize(("enforced", "secret", "script"), CASES)
async def test_source_keys(bench: Bench, enforced: bool, secret: bool, script: bool) -> None:
    """A source key is a credential of its caller, whatever the URL asks for; nothing else gets in."""
    source = await source_of(bench, "hightouch", enforced=enforced, secret=secret, script=script)
    call = Caller(bench, await source_key(source))
    configuration = {
        "identifierMapping": {"from": "id", "to": "user_id"},
        "audience_key": "vip",
        "mode": "mirror",
    }
    params = {"configuration": configuration, "rows": [{"id": "ada"}]}
    rpc = {"jsonrpc": "2.0", "id": "1", "method": "add", "params": params}
    path = "/v1/integrations/hightouch/embedded-destination"

    async def accepted() -> bool:
        return (await call("PUT", "/v1/users/ada", json={"name": "Ada"})).status_code == 200

    await eventually(accepted)
    assert (await call("POST", path, json=rpc)).json()["result"] == {"rejectedRows": []}
    vouched_for = await logged(source)
    assert {each["verification_status"] for each in vouched_for} == {
        "enforced:verified" if enforced else "not_enforced:verified"
    }
    other = Caller(bench, "sk_src_of-nobody")
    assert (await other("PUT", "/v1/users/ada", json={})).status_code == 401
    assert (await other("POST", path, json=rpc)).status_code == 401
    assert len(await logged(source)) == len(vouched_for)
    answer = await source.post(b'{"type":"users:identify","user_id":"ada","user":{}}', {})
    assert answer.status_code == (401 if enforced else 200)


@pytest.fixture
async def visitor(bench: Bench) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody who is logged in to the dashboard."""
    async with httpx.AsyncClient(base_url=bench.api.base_url, timeout=30, follow_redirects=True) as client:
        client.headers["sec-fetch-site"] = "same-origin"
        await client.post("/login", data={"token": ADMIN_TOKEN})
        page = (await client.get("/sources", params={"environment": bench.environment})).text
        found = re.search(r'name="csrf-token" content="([^"]+)"', page)
        assert found is not None, page[:500]
        client.headers["x-csrf-token"] = found[1]
        yield client


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(("enforced", "secret", "script"), CASES)
async def test_events_of_people(
    bench: Bench,
    settings: Settings,
    visitor: httpx.AsyncClient,
    enforced: bool,
    secret: bool,
    script: bool,
) -> None:
    """Test events of the dashboard and of `doorbell send` are deliveries. A rehearsal, for which a service
    token has to be given and which no production environment takes, says that it was not verified."""
    source = await source_of(bench, "segment", enforced=enforced, secret=secret, script=script)
    is_let_in = not enforced or (secret and not script)
    here = Settings(
        _env_file=None,
        database_url=settings.database_url,
        secret_key=settings.secret_key,
        public_url=str(bench.api.base_url),
    )
    test_event = f"/sources/{source.key}/setup/test-event"
    await visitor.post(test_event, params={"environment": bench.environment})
    sent = await send(
        here,
        source.key,
        "track/Order Completed",
        environment=bench.environment,
        payload=None,
        count=1,
        output=Output(as_json=True),
    )
    assert sent is is_let_in
    events = await logged(source)
    assert [each["status"] != "rejected" for each in events] == [is_let_in, is_let_in]
    check_log(events, enforced=enforced)
    rehearsed = await bench.api.post(
        f"/v1/sources/{source.key}/rehearse",
        params={"environment": bench.environment},
        json={"payload": {"body": IDENTIFY, "headers": {}}},
    )
    assert rehearsed.json()["status"] == "ok", rehearsed.text
    rehearsal = (await logged(source))[-1]
    assert rehearsal["origin"] == "rehearsal"
    assert rehearsal["verification_status"].startswith("not_enforced:")


@pytest.mark.parametrize("path", ["/v1/identify", "/v1/batch"])
async def test_a_rejected_call_of_a_library_is_replayed_only_through_the_gate(
    bench: Bench, path: str
) -> None:
    source = await source_of(bench, "segment", enforced=True, secret=False, script=True)
    assert (await post(source, path, TRACKING[path], {})).status_code == 401
    (rejected,) = await logged(source)
    assert rejected["verification_status"] == "enforced:failed"
    replay = f"/v1/sources/{source.key}/logs/{rejected['id']}/replay"
    assert (await bench.api.post(replay)).status_code == 422
    assert len(await logged(source)) == 1
