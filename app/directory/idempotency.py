"""Answers kept under their Idempotency-Key: one execution a key, however many requests arrive at once."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.errors import RequestError
from app.database.engine import to_json

MAXIMUM_KEY_LENGTH = 255

# The key is claimed by inserting it: a second request waits here for the first one's commit. An answer that
# is past its time is overwritten.
_CLAIM = """
INSERT INTO idempotent_responses AS stored (environment, key, request_digest, request_id, response,
  created_at)
{rows}
ON CONFLICT (environment, key) DO UPDATE SET
    request_digest = excluded.request_digest, request_id = excluded.request_id, response = excluded.response,
    created_at = excluded.created_at
    WHERE stored.created_at < now() - interval '24 hours'
RETURNING environment, key
"""
_CLAIM_ONE = text(
    _CLAIM.format(
        rows="VALUES (:environment, :key, :request_digest, :request_id, CAST(:response AS json), now())"
    )
)
# For statements that claim the keys of many requests, of which `given` has a row each. In one order
# everywhere, so that those who wait for each other's keys never wait in a circle.
CLAIM_GIVEN = _CLAIM.format(
    rows="""SELECT environment, key, request_digest, request_id, response::json, now() FROM given
WHERE key IS NOT NULL ORDER BY environment, key"""
)

_RELEASE = text("""
DELETE FROM idempotent_responses
WHERE environment = :environment AND key = :key AND request_id = :request_id
""")

_STORED = text("""
SELECT request_digest, request_id, response FROM idempotent_responses
WHERE environment = :environment AND key = :key
""")


@dataclass(frozen=True)
class KeptResponse:
    """The answer that an earlier request with this key got."""

    request_id: str
    response: dict[str, Any]


async def claim_key(
    connection: AsyncConnection,
    environment: str,
    key: str,
    *,
    request_digest: str,
    request_id: str,
    response: dict[str, Any],
) -> KeptResponse | None:
    """None when this request is the first with its key and shall be executed, in this transaction.

    Raises:
        RequestError: the key was used with another request.
    """
    if len(key) > MAXIMUM_KEY_LENGTH:
        raise RequestError(
            400, "invalid_params", f"Idempotency-Key has at most {MAXIMUM_KEY_LENGTH} characters"
        )
    claim = {
        "environment": environment,
        "key": key,
        "request_digest": request_digest,
        "request_id": request_id,
        "response": to_json(response),
    }
    if (await connection.execute(_CLAIM_ONE, claim)).first() is not None:
        return None
    stored = (await connection.execute(_STORED, {"environment": environment, "key": key})).one()
    if stored.request_digest != request_digest:
        raise RequestError(
            400,
            "idempotency_key_reused",
            "This Idempotency-Key was used with other parameters within the last 24 hours",
        )
    return KeptResponse(stored.request_id, stored.response)


async def release_key(connection: AsyncConnection, environment: str, key: str, request_id: str) -> None:
    """Let go of a key that this request claimed, and was not executed."""
    await connection.execute(_RELEASE, {"environment": environment, "key": key, "request_id": request_id})
