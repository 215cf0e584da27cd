"""Clerk, which sends through Svix: https://clerk.com/docs/guides/development/webhooks/overview"""

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
from app.providers.verification import StandardWebhook

_USER = {
    "object": "user",
    "id": "user_29w83sxmDNGwOuEthce5gg56FcC",
    "external_id": None,
    "first_name": "Ada",
    "last_name": "Example",
    "username": None,
    "primary_email_address_id": "idn_29w83yL7CwVlJXylYLxcslromF1",
    "email_addresses": [
        {
            "id": "idn_29w83yL7CwVlJXylYLxcslromF1",
            "object": "email_address",
            "email_address": "ada@example.com",
            "verification": {"status": "verified", "strategy": "email_code"},
        }
    ],
    "primary_phone_number_id": None,
    "phone_numbers": [],
    "image_url": "https://img.clerk.com/example",
    "public_metadata": {"plan": "pro"},
    "created_at": 1767225590000,
    "updated_at": 1767225600000,
}
_ORGANIZATION = {
    "object": "organization",
    "id": "org_29w9IfBrPmcpi0IeBVaKtA7R94W",
    "name": "Example Inc",
    "slug": "example-inc",
    "image_url": "https://img.clerk.com/example-inc",
    "public_metadata": {},
    "created_at": 1767225590000,
    "updated_at": 1767225600000,
}


def _preprocess(body: Any, headers: dict[str, str]) -> dict[str, Any]:
    """The full name, and the primary entries of the lists of addresses and numbers."""
    data = body["data"]
    names = [data.get("first_name"), data.get("last_name")]
    found = {
        "name": " ".join(name for name in names if name) or None,
        "email": _primary(data, "email_address"),
        "phone_number": _primary(data, "phone_number"),
    }
    # Null would clear what another source has set.
    return {name: value for name, value in found.items() if value is not None}


def _primary(data: dict[str, Any], kind: str) -> str | None:
    plural = {"email_address": "email_addresses", "phone_number": "phone_numbers"}[kind]
    for entry in data.get(plural) or []:
        if entry.get("id") == data.get(f"primary_{kind}_id"):
            value = entry.get(kind)
            return value if isinstance(value, str) else None
    return None


def _event(event_type: str, data: dict[str, Any]) -> tuple[Example, ...]:
    body = {
        "type": event_type,
        "object": "event",
        "instance_id": "ins_29w83example",
        "timestamp": 1767225600000,
        "data": data,
    }
    return (Example(body=body),)


_IDENTIFY = {
    "id": "body.data.id",
    "name": "preprocess.name",
    "email": "preprocess.email",
    "phone_number": "preprocess.phone_number",
    "avatar": "body.data.image_url",
    "properties": "body.data.public_metadata",
}
_TENANT = {"id": "body.data.id", "name": "body.data.name", "properties": "body.data.public_metadata"}


def _ordering_keys(body: Any, headers: dict[str, str]) -> list[Any]:
    """The users and organizations that the event is about, or else the thing itself."""
    data, kind = body["data"], str(body["type"]).partition(".")[0]
    if kind in ("user", "organization"):
        return [data["id"]]
    user = data.get("user_id") or (data.get("public_user_data") or {}).get("user_id")
    organization = data.get("organization_id") or find_id(data.get("organization"))
    return [user, organization] if user or organization else [data.get("id")]


provider = Provider(
    key="clerk",
    name="Clerk",
    description="Keep users and organizations in step with Clerk.",
    categories=("Identity",),
    website_url="https://clerk.com",
    webhook_docs_url="https://clerk.com/docs/guides/development/webhooks/overview",
    webhook_config_deep_link="https://dashboard.clerk.com/last-active?path=webhooks",
    event_type_path="body.type",
    idempotency_key_path="headers.svix-id",
    timestamp_path="body.timestamp",
    ordering_key_path=ORDERING_KEYS_PATH,
    ordering_keys=_ordering_keys,
    scheme=StandardWebhook(prefixes=("svix", "webhook")),
    secret=SecretField(
        label="Signing secret",
        help="Clerk shows it on the endpoint's page, on the right under Signing Secret.",
        placeholder="whsec_...",
    ),
    default_mappings=(
        DefaultMapping("user.created", "users_identify", _IDENTIFY, skip_older=True),
        DefaultMapping("user.updated", "users_identify", _IDENTIFY, skip_older=True),
        DefaultMapping("organization.created", "tenants_set", _TENANT, skip_older=True),
        DefaultMapping("organization.updated", "tenants_set", _TENANT, skip_older=True),
        DefaultMapping("organization.deleted", "tenants_delete", {"id": "body.data.id"}),
    ),
    examples={
        "user.created": _event("user.created", _USER),
        "user.updated": _event("user.updated", _USER),
        "user.deleted": _event("user.deleted", {"object": "user", "id": _USER["id"], "deleted": True}),
        "organization.created": _event("organization.created", _ORGANIZATION),
        "organization.updated": _event("organization.updated", _ORGANIZATION),
        "organization.deleted": _event(
            "organization.deleted", {"object": "organization", "id": _ORGANIZATION["id"], "deleted": True}
        ),
    },
    preprocess=_preprocess,
    setup=(
        there("In the Clerk Dashboard open Configure, Webhooks, and choose Add Endpoint."),
        there("Paste this source's URL and select the events, for example user.created and user.updated."),
        there("Open the new endpoint and copy its Signing Secret (whsec_...)."),
        here("Add the signing secret to this source."),
        there("Open the endpoint's Testing tab, choose an event and send the example."),
    ),
    sending=Sending(
        timeout="15 s",
        retries="At once, then after 5 s, 5 min, 30 min, 2 h, 5 h, 10 h and 10 h. An endpoint that fails "
        "for 5 days is disabled.",
        success="any 2xx; a redirect counts as a failure",
    ),
    knock_tutorial_url="https://docs.knock.app/api/reverse_etl/sources/clerk",
    notes=(
        (
            "Addresses and numbers come as lists; `preprocess.email` and `preprocess.phone_number` are the "
            "primary ones."
        ),
        "Deleted things carry their id and little else.",
        "user.deleted is not mapped at first: add users_delete with id `body.data.id` if users are to go.",
    ),
)
