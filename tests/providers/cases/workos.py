"""WorkOS, with the `workos` library as the oracle."""

from workos.webhooks._verification import verify_header

from app.providers.verification import Headers
from app.providers.workos import provider
from tests.providers.case import Case, Outcome, Vector, joined

_BODY = (
    b'{"id":"event_01VECTOR","event":"dsync.user.created","data":{"id":"directory_user_01VECTOR",'
    b'"object":"directory_user","email":"ada@example.com"},"created_at":"2026-01-01T00:00:00.000Z"}'
)
_SIGNATURE = "v1=023ae0cab95f62d3f5dd4f481230082490f7f715d19e22507e8b3e560a03b95c"
_SECRET = "spec-vector-workos-secret"

_DIRECTORY_USER = "directory_user_01E1JG7J09H96KYP8HM9B0G5SJ"
_USER = "user_01E4ZCR3C56J083X43JQXF3JK5"
_GROUP = "directory_group_01E1JJS84MFPPQ3G655FHTKX6Z"
_ORGANIZATION = "org_01EZTR6WYX1A0DSE2CYMGXQ24Y"
_PERSON = {"name": "Ada Example", "email": "ada@example.com"}
_CONNECTION = "conn_01EHWNC0FCBHZ3BJ7EGKYXK0E6"


def _connected(state: str) -> tuple[str, dict[str, object]]:
    return (
        "objects_set",
        {
            "collection": "sso_connections",
            "id": _CONNECTION,
            "name": "Example Inc's Connection",
            "properties": {
                "state": state,
                "connection_type": "OktaSAML",
                "organization_id": _ORGANIZATION,
            },
        },
    )


_ACTIONS: dict[str, tuple[str, dict[str, object]]] = {
    "connection.activated": _connected("active"),
    "connection.deactivated": _connected("inactive"),
    "connection.deleted": ("objects_delete", {"collection": "sso_connections", "id": _CONNECTION}),
    "dsync.user.created": (
        "users_identify",
        {"id": _DIRECTORY_USER, **_PERSON, "properties": {"department": "Engineering"}},
    ),
    "dsync.user.updated": (
        "users_identify",
        {"id": _DIRECTORY_USER, **_PERSON, "properties": {"department": "Engineering"}},
    ),
    "dsync.user.deleted": ("users_delete", {"id": _DIRECTORY_USER}),
    "user.created": ("users_identify", {"id": _USER, **_PERSON}),
    "user.updated": ("users_identify", {"id": _USER, **_PERSON}),
    "user.deleted": ("users_delete", {"id": _USER}),
    "organization.created": ("tenants_set", {"id": _ORGANIZATION, "name": "Example Inc"}),
    "organization.updated": ("tenants_set", {"id": _ORGANIZATION, "name": "Example Inc"}),
    "organization.deleted": ("tenants_delete", {"id": _ORGANIZATION}),
    "dsync.group.created": (
        "objects_set",
        {"collection": "directory_groups", "id": _GROUP, "name": "Developers"},
    ),
    "dsync.group.updated": (
        "objects_set",
        {"collection": "directory_groups", "id": _GROUP, "name": "Developers"},
    ),
    "dsync.group.deleted": ("objects_delete", {"collection": "directory_groups", "id": _GROUP}),
    "dsync.group.user_added": (
        "objects_subscribe",
        {"collection": "directory_groups", "id": _GROUP, "recipients": [_DIRECTORY_USER]},
    ),
    "dsync.group.user_removed": (
        "objects_unsubscribe",
        {"collection": "directory_groups", "id": _GROUP, "recipients": [_DIRECTORY_USER]},
    ),
}


# A membership carries its user and its group, which are set first: it may come before them.
_SET_FIRST = {
    "dsync.group.user_added": (_ACTIONS["dsync.user.created"], _ACTIONS["dsync.group.created"]),
}


def _verifies(body: bytes, headers: Headers, secret: str) -> object:
    return verify_header(event_body=body, event_signature=headers["workos-signature"], secret=secret)


case = Case(
    secrets=(_SECRET, "n5kpSRPDFFZPqZTT4lkS3fVLj"),
    several=joined("workos-signature", ", "),
    outcomes={
        event_type: Outcome(
            idempotency_key=provider.examples[event_type][0].body["id"],
            actions=(*_SET_FIRST.get(event_type, ()), _ACTIONS[event_type]),
        )
        for event_type in _ACTIONS
    },
    vectors=(
        Vector(_SECRET, _BODY, {"workos-signature": f"t=1767225600000, {_SIGNATURE}"}),
        # Without the space that the vendor's library insists on.
        Vector(_SECRET, _BODY, {"workos-signature": f"t=1767225600000,{_SIGNATURE}"}),
    ),
    vendor_verifies=_verifies,
    bad_bodies={
        "no data": {"event": "user.created"},
        "emails are text": {"event": "user.created", "data": {"emails": "ada@example.com"}},
    },
)
