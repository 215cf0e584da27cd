"""Supabase's database webhooks: https://supabase.com/docs/guides/database/webhooks"""

from typing import Any

from app.providers.base import (
    ORDERING_KEYS_PATH,
    DefaultMapping,
    Example,
    Provider,
    SecretField,
    Sending,
    find_id,
    here,
    there,
)
from app.providers.verification import SharedSecret

# What a row of auth.users holds beside the user: a password's hash, and tokens that stand for the user.
_SECRET_COLUMNS = (
    "encrypted_password",
    "confirmation_token",
    "recovery_token",
    "email_change_token_new",
    "email_change_token_current",
    "phone_change_token",
    "reauthentication_token",
)

_USER = {
    "id": "ea30c0a0-0000-4000-8000-000000000001",
    "aud": "authenticated",
    "role": "authenticated",
    "email": "ada@example.com",
    "phone": None,
    "is_anonymous": False,
    "is_sso_user": False,
    "email_confirmed_at": "2026-01-01T00:00:00+00:00",
    "raw_app_meta_data": {"provider": "email", "providers": ["email"]},
    "raw_user_meta_data": {"name": "Ada Example", "avatar_url": "https://example.com/ada.png"},
    "created_at": "2025-12-31T23:59:00+00:00",
    "updated_at": "2026-01-01T00:00:00+00:00",
    "deleted_at": None,
    "encrypted_password": "",
    "confirmation_token": "",
    "recovery_token": "",
    "instance_id": "00000000-0000-0000-0000-000000000000",
}


def _preprocess(body: Any, headers: dict[str, str]) -> dict[str, Any]:
    """The event type, which Supabase sends in three parts."""
    return {"normalized_event": f"{body['schema']}.{body['table']}:{body['type']}"}


def _event(kind: str, record: Any, old_record: Any) -> tuple[Example, ...]:
    return (
        Example(
            body={
                "type": kind,
                "table": "users",
                "schema": "auth",
                "record": record,
                "old_record": old_record,
            }
        ),
    )


_IDENTIFY = {
    "id": "body.record.id",
    "name": "body.record.raw_user_meta_data.name",
    "email": "body.record.email",
    "phone_number": "body.record.phone",
    "avatar": "body.record.raw_user_meta_data.avatar_url",
    "properties": "body.record.raw_user_meta_data",
}


def _ordering_keys(body: Any, headers: dict[str, str]) -> list[Any]:
    """The row's id."""
    return [find_id(body.get("record")) or find_id(body.get("old_record"))]


provider = Provider(
    key="supabase",
    name="Supabase",
    description="Identify users and act on the rows that change in a Supabase database.",
    categories=("Infrastructure",),
    website_url="https://supabase.com",
    webhook_docs_url="https://supabase.com/docs/guides/database/webhooks",
    webhook_config_deep_link="https://supabase.com/dashboard/project/_/integrations/webhooks/overview",
    knock_tutorial_url="https://docs.knock.app/api/reverse_etl/sources/supabase",
    event_type_path="preprocess.normalized_event",
    idempotency_key_path=None,
    timestamp_path=None,
    ordering_key_path=ORDERING_KEYS_PATH,
    ordering_keys=_ordering_keys,
    scheme=SharedSecret(headers=(("x-webhook-secret", ""), ("authorization", "Bearer "))),
    secret=SecretField(
        label="Webhook secret",
        help="Any random text of your own. Add it to the webhook as the HTTP header X-Webhook-Secret.",
        issued_by="you",
    ),
    enforce_verification=False,
    default_mappings=(
        DefaultMapping("auth.users:INSERT", "users_identify", _IDENTIFY),
        DefaultMapping("auth.users:UPDATE", "users_identify", _IDENTIFY),
        DefaultMapping("auth.users:DELETE", "users_delete", {"id": "body.old_record.id"}),
    ),
    examples={
        "auth.users:INSERT": _event("INSERT", _USER, None),
        "auth.users:UPDATE": _event("UPDATE", _USER, {**_USER, "email": "old@example.com"}),
        "auth.users:DELETE": _event("DELETE", None, _USER),
    },
    preprocess=_preprocess,
    sensitive_paths=tuple(
        f"body.{record}.{column}" for record in ("record", "old_record") for column in _SECRET_COLUMNS
    ),
    setup=(
        here("Add a random secret of your own to this source and turn enforce_verification on."),
        there("In the Supabase Dashboard open Integrations, Database Webhooks, and enable them."),
        there(
            "Choose Create a new hook, then the table (auth.users for users) and the events Insert, Update, "
            "Delete."
        ),
        there("Choose HTTP Request, method POST, and paste this source's URL."),
        there("Add the HTTP header x-webhook-secret with the secret, and set the timeout to 5000 ms."),
    ),
    sending=Sending(
        timeout="What the hook says, 1 s unless changed: it is an argument of the database trigger.",
        retries="None as Supabase hosts it. The request runs after the transaction, and the database never "
        "sees our answer.",
        success="any answer",
    ),
    notes=(
        "The event type is `schema.table:TYPE`, for example `auth.users:INSERT` or `public.orders:UPDATE`.",
        "A DELETE has `record` null and the row in `old_record`; an INSERT the other way round.",
        "Rows of auth.users carry password hashes and tokens. Doorbell leaves them out of mappings and logs.",
        "There is no idempotency key. If your rows have a version, point idempotency_key_path at it.",
        "Supabase's Auth hooks are another thing, signed as Standard Webhooks: use a source of that kind.",
    ),
)
