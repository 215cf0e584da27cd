"""The shapes in which vendors say the same thing, and what preprocessing makes of each."""

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from app.actions.sensitive import redacted, withheld
from app.providers.registry import providers
from tests.providers.test_conformance import received

JSON = {"content-type": "application/json"}


def preprocessed(key: str, body: Any, headers: dict[str, str] = JSON) -> dict[str, Any]:
    compute = providers()[key].preprocess
    assert compute is not None
    return compute(body, headers)


@pytest.mark.parametrize("timestamp", [1716883200, 1716883200000, "2024-05-28T08:00:00Z"])
async def test_clerks_time_in_seconds_or_milliseconds(timestamp: int | str) -> None:
    event = await received(
        "clerk", {"type": "user.created", "timestamp": timestamp, "data": {"id": "u"}}, JSON
    )
    assert event.occurred_at == datetime(2024, 5, 28, 8, tzinfo=UTC)


@pytest.mark.parametrize(
    ("user", "email"),
    [
        ({"primary_email_address_id": "b"}, "b@example.com"),
        ({"primary_email_address_id": "gone"}, None),
        ({"primary_email_address_id": None}, None),
        ({"primary_email_address_id": "b", "email_addresses": None}, None),
    ],
)
def test_clerks_primary_address(user: dict[str, Any], email: str | None) -> None:
    addresses = [{"id": each, "email_address": f"{each}@example.com"} for each in "ab"]
    data = {"email_addresses": addresses, "first_name": "Ada", "last_name": None, **user}
    found = {} if email is None else {"email": email}
    assert preprocessed("clerk", {"data": data}) == {"name": "Ada", **found}


@pytest.mark.parametrize(
    ("data", "person"),
    [
        ({"name": "Ada E.", "email": "a@b.c", "first_name": "Ada"}, {"name": "Ada E.", "email": "a@b.c"}),
        (
            {
                "first_name": "Ada",
                "last_name": "Example",
                "emails": [{"primary": False, "value": "x@b.c"}, {"primary": True, "value": "a@b.c"}],
            },
            {"name": "Ada Example", "email": "a@b.c"},
        ),
        ({"emails": []}, {}),
    ],
)
def test_workos_users_in_their_older_and_newer_form(data: dict[str, Any], person: dict[str, Any]) -> None:
    assert preprocessed("workos", {"data": data}) == person


@pytest.mark.parametrize(
    ("body", "event_type", "key"),
    [
        ({"user_id": "u", "event_type": "Signed Up", "uuid": "1", "message_id": "2"}, "Signed Up", "1"),
        ({"user_id": "u", "message_id": "2", "event_time": "2026-01-01"}, "$identify", "2"),
        ({"user_id": "", "device_id": "d", "event_time": "2026-01-01"}, "$identify", "d:2026-01-01"),
        ({"device_id": "d"}, "$identify", None),
        ({"event_time": "2026-01-01"}, "$identify", None),
        ({"in_cohort": True, "cohort_id": 7, "users": []}, "cohort.entered", None),
        ({"in_cohort": False, "cohort_id": 7, "users": [], "message_id": "m"}, "cohort.exited", "m"),
    ],
)
async def test_amplitudes_senders(body: dict[str, Any], event_type: str, key: str | None) -> None:
    event = await received("amplitude", body, JSON)
    assert (event.event_type, event.idempotency_key, event.error) == (event_type, key, None)


def test_amplitude_leaves_out_members_without_an_id() -> None:
    users = [{"user_id": "u1"}, {"user_id": None}, {"device_id": "d"}, {"user_id": ""}, {"user_id": "u2"}]
    found = preprocessed("amplitude", {"in_cohort": True, "cohort_id": 7, "users": users})
    assert (found["audience_key"], found["members"]) == ("amplitude-7", ["u1", "u2"])


def test_githubs_actions() -> None:
    headers = {**JSON, "x-github-event": "issues"}
    assert preprocessed("github", {"action": "opened"}, headers) == {"event_action": "issues.opened"}
    assert preprocessed("github", {}, headers) == {"event_action": "issues"}


def test_sensitive_values_go_wherever_the_path_leads() -> None:
    body = {"rows": [{"secret": "s", "id": 1}, {"id": 2}, "text"], "secret": {"deep": True}, "kept": ""}
    paths = ("body.rows.*.secret", "body.secret", "body.kept", "body.no.such", "body.rows.secret")
    before = orjson.dumps(body)
    assert withheld(body, paths) == {"rows": [{"id": 1}, {"id": 2}, "text"]}
    assert redacted(body, paths) == {
        "rows": [{"secret": "[redacted]", "id": 1}, {"id": 2}, "text"],
        "secret": "[redacted]",
        "kept": "",
    }
    assert orjson.dumps(body) == before
    assert withheld(None, paths) is None
