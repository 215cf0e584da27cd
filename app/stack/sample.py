"""The sample of `doorbell dev`: a Stripe source, and two events sent to it over HTTP as Stripe sends them.

It goes through the public APIs only, as a person would.
"""

import secrets
import time
from dataclasses import dataclass
from typing import Any

import httpx
import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.models.types import now
from app.providers.registry import providers

SOURCE = "stripe"
ENVIRONMENT = "development"
EVENTS = ("customer.created", "invoice.paid")
FINAL = frozenset({"succeeded", "failed", "rejected", "ignored", "idempotent"})
DEADLINE = 30.0


@dataclass(frozen=True)
class SampleSource:
    """What the sample left behind: the ingestion URL and the log entries, oldest first."""

    endpoint: str
    entries: list[dict[str, Any]]


def connect_and_ring(base_url: str, admin_token: str) -> SampleSource:
    """Connect a sample Stripe source in development and send it two signed events.

    Raises:
        httpx.HTTPError: an API call failed.
        TimeoutError: the events were not processed within 30 seconds.
    """
    secret = "whsec_" + secrets.token_urlsafe(24)
    with httpx.Client(
        base_url=base_url, headers={"authorization": f"Bearer {admin_token}"}, timeout=10
    ) as client:
        endpoint = _connect(client, secret)
        sent = [_ring(client, endpoint, event_type, secret) for event_type in EVENTS]
        return SampleSource(endpoint, _wait_for(client, sent))


def _connect(client: httpx.Client, secret: str) -> str:
    """Create the source and its signing secret; the ingestion URL."""
    where = {"environment": ENVIRONMENT}
    body = {"source": {"name": "Stripe (sample)", "preconfigured_provider": "stripe"}}
    answer = client.put(f"/v1/sources/{SOURCE}", params=where, json=body).raise_for_status().json()
    client.post(
        f"/v1/sources/{SOURCE}/secrets", params=where, json={"secret": {"value": secret}}
    ).raise_for_status()
    endpoint: str = answer["source"]["environment_settings"][ENVIRONMENT]["settings"]["endpoint"]
    return endpoint


def _ring(client: httpx.Client, endpoint: str, event_type: str, secret: str) -> str:
    """Send one example event, signed; its id."""
    provider = providers()[SOURCE]
    assert provider.scheme is not None
    example = provider.examples[event_type][0]
    body = orjson.dumps({**example.body, "created": int(now().timestamp())})
    signature = provider.scheme.sign(body, secret, now(), secrets.token_hex(8))
    answer = client.post(endpoint, content=body, headers={**example.headers, **signature}).raise_for_status()
    identifier: str = answer.json()["id"]
    return identifier


def _wait_for(client: httpx.Client, sent: list[str]) -> list[dict[str, Any]]:
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        answer = client.get(
            f"/v1/sources/{SOURCE}/logs", params={"environment": ENVIRONMENT, "include": "actions"}
        ).raise_for_status()
        entries = [each for each in reversed(answer.json()["entries"]) if each["id"] in sent]
        if len(entries) == len(sent) and all(each["status"] in FINAL for each in entries):
            return entries
        time.sleep(0.05)
    raise TimeoutError(f"the sample events were not processed within {DEADLINE:g} s; see the workers' output")


def show(sample: SampleSource, console: Console) -> None:
    """Print the event log and action log of the sample, and a command to try next."""
    table = Table(title="Two events from the sample Stripe source", title_justify="left", show_lines=False)
    for column in ("event / action", "status", "duration", "result"):
        table.add_column(column, overflow="fold")
    for entry in sample.entries:
        table.add_row(
            entry["event"], _status(entry["status"]), _duration(entry), entry["verification_status"]
        )
        for action in entry["actions"]:
            table.add_row(
                f"  └ {action['action_type']}",
                _status(action["action_status"]),
                _duration(action),
                _result(action),
            )
    console.print(table)
    for entry in sample.entries:
        if entry.get("temporal_url"):
            console.print(f"  {entry['event']} in Temporal's UI: {entry['temporal_url']}", soft_wrap=True)
    console.print(f"\n  Ingestion URL: {sample.endpoint}", soft_wrap=True)


def _status(status: str) -> Text:
    style = {"succeeded": "green", "success": "green", "skipped": "yellow"}.get(status, "red")
    return Text(status, style=style)


def _duration(entry: dict[str, Any]) -> str:
    return f"{entry['duration_ms']} ms" if entry.get("duration_ms") is not None else ""


def _result(action: dict[str, Any]) -> str:
    """What became of an action, at a glance."""
    if action.get("error"):
        return str(action["error"])
    payload = action.get("action_payload") or {}
    if action["action_type"] == "workflows_trigger":
        return f"workflow {payload.get('key')} for {', '.join(map(str, payload.get('recipients', [])))}"
    return f"user {payload.get('id')} ({payload.get('email', 'no email')})"
