"""Polytomic: its Webhook connection, which sends records in batches; each record becomes one event.

https://apidocs.polytomic.com/guides/syncing-to-custom-webhooks
"""

from collections.abc import Sequence
from typing import Any

from app.core.raw_json import as_sent
from app.providers.base import (
    ORDERING_KEYS_PATH,
    DefaultMapping,
    Example,
    Provider,
    SecretField,
    Sending,
    here,
    there,
)
from app.providers.verification import SharedSecret

SENT_AT = "polytomic-signature-timestamp"
_OBJECT = {"id": "1ea8f90a-8c1d-4b7f-9f38-0d5a3f6f0c11", "name": "Users"}
_RECORD = {
    "hash": "b7421c6c57bd49f7",
    "fields": {"user_id": "user_42", "email": "ada@example.com", "last_login": "2025-12-31T00:00:00Z"},
}


def _split(body: bytes, decoded: Any) -> Sequence[bytes] | None:
    """A body for each record: what the batch says of all of them, with the record's hash and fields beside
    it."""
    if not isinstance(decoded, dict) or decoded.get("event") != "sync.records":
        return None
    synced = decoded.get("object")
    records = synced.get("records") if isinstance(synced, dict) else None
    if not isinstance(synced, dict) or not isinstance(records, list):
        return None
    common = {**decoded, "object": {name: value for name, value in synced.items() if name != "records"}}
    return [as_sent({**record, **common} if isinstance(record, dict) else record) for record in records]


def _preprocess(body: Any, headers: dict[str, str]) -> dict[str, Any]:
    """The event type and the idempotency key of a record.

    A batch holds records that changed since the last one, so a record that comes back as it once was has
    changed too: only the same record of the same delivery, which its time names, is a repeat.
    """
    synced, record_hash = body["object"], body.get("hash")
    sent_at = headers.get(SENT_AT)
    return {
        "event_type": f"{body['event']}/{synced['name']}",
        "idempotency_key": f"{synced['id']}:{record_hash}:{sent_at}" if record_hash and sent_at else None,
    }


def _ordering_keys(body: Any, headers: dict[str, str]) -> list[Any]:
    """The record's id, under whichever of the usual names it has."""
    fields = body["fields"]
    return [next(filter(None, map(fields.get, ("user_id", "id", "external_id", "email"))), None)]


provider = Provider(
    key="polytomic",
    name="Polytomic",
    description="Run actions for each record that Polytomic syncs from your warehouse.",
    categories=("Infrastructure",),
    website_url="https://www.polytomic.com",
    webhook_docs_url="https://apidocs.polytomic.com/guides/syncing-to-custom-webhooks",
    event_type_path="preprocess.event_type",
    idempotency_key_path="preprocess.idempotency_key",
    ordering_key_path=ORDERING_KEYS_PATH,
    ordering_keys=_ordering_keys,
    timestamp_path=f"headers.{SENT_AT}",
    scheme=SharedSecret(headers=(("authorization", "Bearer "),)),
    secret=SecretField(
        label="Secret",
        help="Polytomic makes it when the Webhook connection is created, and shows it there.",
    ),
    default_mappings=(
        DefaultMapping(
            "sync.records/Users",
            "users_identify",
            {"id": "body.fields.user_id", "email": "body.fields.email", "properties": "body.fields"},
        ),
    ),
    examples={
        "sync.records/Users": (
            Example(
                body={"event": "sync.records", "object": {**_OBJECT, "records": [_RECORD]}},
                headers={
                    "content-type": "application/json",
                    SENT_AT: "2026-01-01T00:00:00Z",
                },
            ),
        ),
    },
    preprocess=_preprocess,
    split=_split,
    setup=(
        there("In Polytomic open Connections, Add connection, and choose Webhook."),
        there("Paste this source's URL and copy the secret that Polytomic shows."),
        here("Add the secret to this source."),
        there(
            "Create a sync to the connection. Its target object's name becomes the event type: "
            "`sync.records/<name>`."
        ),
        here(
            "Let a mapping take its parameters from the fields of the sync, for example body.fields.user_id."
        ),
    ),
    sending=Sending(
        timeout="Polytomic does not publish it.",
        retries="Polytomic does not publish them; any 4xx or 5xx marks the whole sync as failed.",
        success="200",
    ),
    kind="reverse_etl",
    notes=(
        ("Each record of a batch becomes an event of its own, all of them or none."),
        ("Polytomic never sends deletions: syncs update or create."),
        ("Polytomic rewrites field names (`$first_name` becomes `first_name`) unless told not to."),
    ),
)
