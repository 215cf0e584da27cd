"""Knock's contract over HTTP: each operation as a client calls it, then calls generated from the document.

Whatever is asked, an answer is one that the contract knows: never a 5xx, errors in Knock's body, successes in the
shape of the operation.
"""

import asyncio
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings, strategies
from schemathesis.core.result import Ok

from app.actions.registry import action_types
from app.providers.registry import providers
from app.replays import one as reruns
from tests.api.management.contract import OPERATIONS, Contract, Error
from tests.bench import Api, Bench

EXAMPLES = 6
NAMES = (
    "the quick", "Zoë", "💥", "", " ", ".", "a.b", "0", "null", "%2F", "'; --", "\\u0000", "\ud7ff", "x" * 300,
)  # fmt: skip


def check(method: str, template: str, answer: httpx.Response) -> None:
    """The answer is one of the contract's."""
    where = f"{method} {answer.request.url}: {answer.status_code} {answer.text[:500]}"
    assert answer.status_code < 500, where
    if answer.status_code >= 400:
        body = Error.model_validate_json(answer.content)
        assert body.status == answer.status_code, where
        assert answer.status_code == 422 or not body.errors, where
    elif answer.status_code != 204:
        OPERATIONS.get((method, template), Contract).model_validate_json(answer.content)


async def call(api: Api, method: str, template: str, *, key: str = "", **options: Any) -> Any:
    path = template.replace("{key}", key).replace("{environment_slug}", key)
    answer = await api.request(method, path, **options)
    check(method, template, answer)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.usefixtures("worker")
async def test_each_operation_as_a_client_calls_it(bench: Bench) -> None:
    api, here = bench.api, {"environment": bench.environment}
    source = await bench.source("stripe")
    await bench.final(await source.send("invoice.paid"))
    await source.post(b"{}", {})
    called = set()

    async def one(method: str, template: str, key: str = source.key, **options: Any) -> Any:
        called.add((method, template))
        return await call(api, method, template, key=key, **options)

    read = await one("GET", "/v1/sources/{key}", params=here)
    await one("PUT", "/v1/sources/{key}", params=here, json={"source": read})
    for provider in providers():
        body = {"source": {"name": provider, "preconfigured_provider": provider}}
        await one("PUT", "/v1/sources/{key}", f"new-{provider}", params=here, json=body)
        include = "branding,default_action_mappings,example_payloads,preprocessing_script,static_fields"
        await one("GET", "/v1/source_providers/{key}", provider, params={"include": include})
    await one("GET", "/v1/source_providers")
    listed = await one("GET", "/v1/sources", params={"include": "environment_settings"})
    assert len(listed["entries"]) == 1 + len(providers())
    logs = await one("GET", "/v1/sources/{key}/logs", params={**here, "include": "actions", "limit": 1})
    assert logs["page_info"]["page_size"] == 1
    older = {**here, "include[]": "actions", "after": logs["page_info"]["after"]}
    assert (await one("GET", "/v1/sources/{key}/logs", params=older))["entries"][0]["actions"]
    payload = {"payload": {"body": {"type": "invoice.paid", "data": {"object": {"customer": "cus_1"}}}}}
    rehearsed = await one("POST", "/v1/sources/{key}/rehearse", params=here, json=payload)
    assert rehearsed["status"] == "ok"
    assert (await one("GET", "/v1/sources/{key}/events", params=here))["entries"]
    assert (await one("GET", "/v1/sources/{key}/status", params=here))["events_count"] == 3
    await one("GET", "/v1/environments", params={"limit": 2})
    await one("GET", "/v1/environments/{environment_slug}", "production")
    await one("GET", "/v1/whoami")
    await one("POST", "/v1/api_keys/exchange", params=here)
    assert called == OPERATIONS.keys()


def test_the_contract_and_doorbell_know_the_same_actions() -> None:
    schema = OPERATIONS["GET", "/v1/sources/{key}"].model_json_schema()
    known = schema["$defs"]["Mapping"]["properties"]["action_type"]["enum"]
    assert set(action_types()) <= set(known)


@pytest.fixture
async def document(api: Api) -> dict[str, Any]:
    found: dict[str, Any] = (await api.get("/openapi.json")).json()
    return found


async def test_generated_calls(
    api: Api, bench: Bench, document: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls of every shape that the document allows and some that it does not."""
    monkeypatch.setattr(reruns, "REHEARSAL_DEADLINE", 0.02)
    source = await bench.source("stripe")
    await source.send("invoice.paid")
    schema = schemathesis.openapi.from_dict(document)
    operations = [
        result.ok()
        for result in schema.get_all_operations()
        if isinstance(result, Ok) and is_management(result.ok().definition.raw, result.ok().path)
    ]
    assert len(operations) >= 40
    # Hypothesis is synchronous and the server runs on this loop: it goes to a thread, with a client of its own.
    await asyncio.to_thread(
        call_each, operations, str(api.base_url), dict(api.headers), bench.environment, source.key
    )


def is_management(operation: dict[str, Any], path: str) -> bool:
    return "Service token" in str(operation.get("security")) and not path.endswith("/stream")


def call_each(
    operations: list[Any], base_url: str, headers: dict[str, str], environment: str, key: str
) -> None:
    with httpx.Client(base_url=base_url, headers=headers, timeout=30) as client:
        for operation in operations:
            exercise(client, operation, environment, key)


def exercise(client: httpx.Client, operation: Any, environment: str, key: str) -> None:
    """Generated calls of one operation, half of them about the source and environment that are there."""

    @settings(
        max_examples=EXAMPLES,
        database=None,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(), known=strategies.booleans(), name=strategies.sampled_from(NAMES))
    def run(case: Any, known: bool, name: str) -> None:
        parameters = dict(case.path_parameters or {})
        query = dict(case.query or {})
        if known:
            parameters |= {each: key for each in parameters if each == "key"}
            query |= {"environment": environment}
        else:
            parameters |= {each: name for each in parameters if each in ("key", "environment_slug")}
        path = operation.path
        for each, value in parameters.items():
            path = path.replace(f"{{{each}}}", quoted(value))
        body = {"json": case.body} if isinstance(case.body, dict | list | str | int | float | bool) else {}
        answer = client.request(
            operation.method.upper(),
            path,
            params={each: text_of(value) for each, value in query.items()},
            **body,
        )
        check(operation.method.upper(), operation.path, answer)

    run()


def quoted(value: object) -> str:
    """A part of a path; an empty one would make another path."""
    return quote(str(value).encode("utf-8", "replace"), safe="") or "-"


def text_of(value: Any) -> Any:
    """A query's value as text that UTF-8 can hold."""
    if isinstance(value, list):
        return [text_of(each) for each in value]
    return str(value).encode("utf-8", "replace").decode()
