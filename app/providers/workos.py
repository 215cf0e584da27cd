"""WorkOS: https://workos.com/docs/events/data-syncing/webhooks"""

from datetime import timedelta
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
from app.providers.verification import PairsHmac, SignedTimestamp

GROUPS = "directory_groups"
CONNECTIONS = "sso_connections"

_DIRECTORY_USER: dict[str, Any] = {
    "object": "directory_user",
    "id": "directory_user_01E1JG7J09H96KYP8HM9B0G5SJ",
    "directory_id": "directory_01ECAZ4NV9QMV47GW873HDCX74",
    "organization_id": "org_01EZTR6WYX1A0DSE2CYMGXQ24Y",
    "idp_id": "2836",
    "state": "active",
    "email": "ada@example.com",
    "emails": [{"primary": True, "type": "work", "value": "ada@example.com"}],
    "username": "ada@example.com",
    "first_name": "Ada",
    "last_name": "Example",
    "name": "Ada Example",
    "groups": [],
    "custom_attributes": {"department": "Engineering"},
    "raw_attributes": {},
    "created_at": "2026-01-01T00:00:00.000Z",
    "updated_at": "2026-01-01T00:00:00.000Z",
}
_USER: dict[str, Any] = {
    "object": "user",
    "id": "user_01E4ZCR3C56J083X43JQXF3JK5",
    "email": "ada@example.com",
    "first_name": "Ada",
    "last_name": "Example",
    "email_verified": True,
    "profile_picture_url": None,
    "created_at": "2026-01-01T00:00:00.000Z",
    "updated_at": "2026-01-01T00:00:00.000Z",
}
_GROUP: dict[str, Any] = {
    "object": "directory_group",
    "id": "directory_group_01E1JJS84MFPPQ3G655FHTKX6Z",
    "directory_id": "directory_01ECAZ4NV9QMV47GW873HDCX74",
    "organization_id": "org_01EZTR6WYX1A0DSE2CYMGXQ24Y",
    "idp_id": "02grqrue4294w24",
    "name": "Developers",
    "created_at": "2026-01-01T00:00:00.000Z",
    "updated_at": "2026-01-01T00:00:00.000Z",
}
_ORGANIZATION: dict[str, Any] = {
    "object": "organization",
    "id": "org_01EZTR6WYX1A0DSE2CYMGXQ24Y",
    "name": "Example Inc",
    "domains": [],
    "created_at": "2026-01-01T00:00:00.000Z",
    "updated_at": "2026-01-01T00:00:00.000Z",
}

_CONNECTION: dict[str, Any] = {
    "object": "connection",
    "id": "conn_01EHWNC0FCBHZ3BJ7EGKYXK0E6",
    "organization_id": "org_01EZTR6WYX1A0DSE2CYMGXQ24Y",
    "connection_type": "OktaSAML",
    "name": "Example Inc's Connection",
    "state": "active",
    "domains": [],
    "created_at": "2026-01-01T00:00:00.000Z",
    "updated_at": "2026-01-01T00:00:00.000Z",
}


def _preprocess(body: Any, headers: dict[str, str]) -> dict[str, Any]:
    """A name and an address, whichever of their two forms the user has, who may be part of a membership."""
    data = body["data"].get("user") or body["data"]
    names = [data.get("first_name"), data.get("last_name")]
    found = {
        "name": data.get("name") or " ".join(name for name in names if name) or None,
        "email": data.get("email") or _primary(data.get("emails") or []),
    }
    # Null would clear what another source has set.
    return {name: value for name, value in found.items() if value is not None}


def _primary(emails: list[dict[str, Any]]) -> Any:
    return next((each.get("value") for each in emails if each.get("primary")), None)


def _event(event_type: str, data: dict[str, Any]) -> tuple[Example, ...]:
    body = {
        "object": "event",
        "id": f"event_01EXAMPLE{event_type.upper().replace('.', '').replace('_', '')}",
        "event": event_type,
        "created_at": "2026-01-01T00:00:00.000Z",
        "context": {},
        "data": data,
    }
    return (Example(body=body),)


_IDENTIFY = {"id": "body.data.id", "name": "preprocess.name", "email": "preprocess.email"}
_IDENTIFY_FROM_DIRECTORY = {**_IDENTIFY, "properties": "body.data.custom_attributes"}
_DELETE = {"id": "body.data.id"}
_TENANT = {"id": "body.data.id", "name": "body.data.name"}
_SET_GROUP = {"collection": GROUPS, "id": "body.data.id", "name": "body.data.name"}
_IDENTIFY_MEMBER = {
    **_IDENTIFY,
    "id": "body.data.user.id",
    "properties": "body.data.user.custom_attributes",
}
_SET_GROUP_OF_MEMBER = {
    "collection": GROUPS,
    "id": "body.data.group.id",
    "name": "body.data.group.name",
}
_DELETE_GROUP = {"collection": GROUPS, "id": "body.data.id"}
_SET_CONNECTION = {
    "collection": CONNECTIONS,
    "id": "body.data.id",
    "name": "body.data.name",
    "properties": {
        "state": "body.data.state",
        "connection_type": "body.data.connection_type",
        "organization_id": "body.data.organization_id",
    },
}
_DELETE_CONNECTION = {"collection": CONNECTIONS, "id": "body.data.id"}
_MEMBER = {"collection": GROUPS, "id": "body.data.group.id", "recipients": "body.data.user.id"}
_MEMBERSHIP: dict[str, Any] = {
    "directory_id": _GROUP["directory_id"],
    "user": _DIRECTORY_USER,
    "group": _GROUP,
}


def _ordering_keys(body: Any, headers: dict[str, str]) -> list[Any]:
    """The user, organization or group; of a membership both of its sides."""
    data, kind = body["data"], str(body["event"])
    if kind.startswith("dsync.group.user_"):
        return [find_id(data["user"]), find_id(data["group"])]
    if kind.startswith(("user.", "organization.", "dsync.user.", "dsync.group.")):
        return [data["id"]]
    user, organization = data.get("user_id"), data.get("organization_id")
    return [user, organization] if user or organization else [data.get("id")]


provider = Provider(
    key="workos",
    name="WorkOS",
    description="Keep users, organizations and directory groups in step with WorkOS.",
    categories=("Identity",),
    website_url="https://workos.com",
    webhook_docs_url="https://workos.com/docs/events/data-syncing/webhooks",
    webhook_config_deep_link="https://dashboard.workos.com/webhooks",
    knock_tutorial_url="https://docs.knock.app/api/reverse_etl/sources/workos",
    event_type_path="body.event",
    idempotency_key_path="body.id",
    timestamp_path="body.created_at",
    ordering_key_path=ORDERING_KEYS_PATH,
    ordering_keys=_ordering_keys,
    scheme=PairsHmac(
        header="workos-signature",
        timestamp=SignedTimestamp("milliseconds", past=timedelta(minutes=3), future=timedelta(minutes=3)),
        separator=", ",
    ),
    secret=SecretField(
        label="Webhook secret",
        help=(
            "WorkOS shows it on the endpoint's page under Signing secret: letters and digits without a "
            "prefix."
        ),
    ),
    default_mappings=(
        DefaultMapping("dsync.user.created", "users_identify", _IDENTIFY_FROM_DIRECTORY, skip_older=True),
        DefaultMapping("dsync.user.updated", "users_identify", _IDENTIFY_FROM_DIRECTORY, skip_older=True),
        DefaultMapping("dsync.user.deleted", "users_delete", _DELETE),
        DefaultMapping("user.created", "users_identify", _IDENTIFY, skip_older=True),
        DefaultMapping("user.updated", "users_identify", _IDENTIFY, skip_older=True),
        DefaultMapping("user.deleted", "users_delete", _DELETE),
        DefaultMapping("organization.created", "tenants_set", _TENANT, skip_older=True),
        DefaultMapping("organization.updated", "tenants_set", _TENANT, skip_older=True),
        DefaultMapping("organization.deleted", "tenants_delete", _DELETE),
        DefaultMapping("dsync.group.created", "objects_set", _SET_GROUP, skip_older=True),
        DefaultMapping("dsync.group.updated", "objects_set", _SET_GROUP, skip_older=True),
        DefaultMapping("dsync.group.deleted", "objects_delete", _DELETE_GROUP),
        # WorkOS promises no order: the membership may come before the group and the user, whom it carries.
        DefaultMapping("dsync.group.user_added", "users_identify", _IDENTIFY_MEMBER, skip_older=True),
        DefaultMapping("dsync.group.user_added", "objects_set", _SET_GROUP_OF_MEMBER, skip_older=True),
        DefaultMapping("dsync.group.user_added", "objects_subscribe", _MEMBER),
        DefaultMapping("dsync.group.user_removed", "objects_unsubscribe", _MEMBER),
        DefaultMapping("connection.activated", "objects_set", _SET_CONNECTION, skip_older=True),
        DefaultMapping("connection.deactivated", "objects_set", _SET_CONNECTION, skip_older=True),
        DefaultMapping("connection.deleted", "objects_delete", _DELETE_CONNECTION),
    ),
    examples={
        event_type: _event(event_type, data)
        for event_type, data in {
            "dsync.user.created": _DIRECTORY_USER,
            "dsync.user.updated": _DIRECTORY_USER,
            "dsync.user.deleted": _DIRECTORY_USER,
            "user.created": _USER,
            "user.updated": _USER,
            "user.deleted": _USER,
            "organization.created": _ORGANIZATION,
            "organization.updated": _ORGANIZATION,
            "organization.deleted": _ORGANIZATION,
            "dsync.group.created": _GROUP,
            "dsync.group.updated": _GROUP,
            "dsync.group.deleted": _GROUP,
            "dsync.group.user_added": _MEMBERSHIP,
            "dsync.group.user_removed": _MEMBERSHIP,
            "connection.activated": _CONNECTION,
            "connection.deactivated": {**_CONNECTION, "state": "inactive"},
            "connection.deleted": {**_CONNECTION, "state": "inactive"},
        }.items()
    },
    preprocess=_preprocess,
    setup=(
        there("In the WorkOS Dashboard open Webhooks and choose Create webhook."),
        there("Paste this source's URL as the endpoint."),
        there(
            "Select the events, for example dsync.user.created, dsync.user.updated and organization.created."
        ),
        there("Save, open the endpoint and copy its signing secret."),
        here("Add the signing secret to this source."),
        there("Send a test event from the endpoint's page."),
    ),
    sending=Sending(
        timeout="WorkOS does not publish it; answer within seconds.",
        retries="Up to 12 times over 3 days with growing pauses in production; for a few minutes in other "
        "environments.",
    ),
    notes=(
        "The signature's timestamp is in milliseconds, unlike Stripe's and Clerk's.",
        (
            "WorkOS signs with one secret at a time. When you change it, keep the old one here until its "
            "last events have come."
        ),
        "Events may come late and out of order.",
    ),
)
