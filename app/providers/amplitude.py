"""Amplitude: streamed events and users, and cohorts: https://amplitude.com/docs/data/destination-catalog/webhooks"""

from typing import Any

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

_EVENT = {
    "user_id": "user_42",
    "device_id": "d1a2b3",
    "uuid": "bf0b9b2a-304d-11f0-9c0c-0242ac120002",
    "event_type": "Order Completed",
    "event_time": "2026-01-01T00:00:00.000Z",
    "event_properties": {"total": 42.5},
    "user_properties": {"name": "Ada Example", "email": "ada@example.com"},
    "groups": {"workspace": "w1"},
    "group_properties": {},
}
_USER = {
    "user_id": "user_42",
    "device_id": "d1a2b3",
    "event_time": "2026-01-01T00:00:00.000Z",
    "user_properties": {"name": "Ada Example", "email": "ada@example.com", "plan": "pro"},
}


def _cohort(entered: bool) -> dict[str, Any]:
    return {
        "cohort_name": "VIP",
        "cohort_id": "c1",
        "in_cohort": entered,
        "computed_time": "1767225600",
        "message_id": "m1" if entered else "m2",
        "users": [{"user_id": "user_42"}, {"user_id": "user_43"}],
    }


def _preprocess(body: Any, headers: dict[str, str]) -> dict[str, Any]:
    """The event type and the key, which depend on which of Amplitude's three senders it is."""
    if "in_cohort" in body:
        return {
            "event_type": "cohort.entered" if body["in_cohort"] else "cohort.exited",
            "idempotency_key": body.get("message_id"),
            "audience_key": f"amplitude-{body['cohort_id']}",
            "members": [each["user_id"] for each in body["users"] if each.get("user_id")],
        }
    user = body.get("user_id") or body.get("device_id")
    return {
        "event_type": body.get("event_type") or "$identify",
        "idempotency_key": body.get("uuid") or body.get("message_id") or _key(user, body.get("event_time")),
        "user_id": user,
    }


def _key(user: Any, event_time: Any) -> str | None:
    return f"{user}:{event_time}" if user and event_time else None


_MEMBERS = {"key": "preprocess.audience_key", "members": "preprocess.members"}


def _ordering_keys(body: Any, headers: dict[str, str]) -> list[Any]:
    """The user or the device; of a cohort the cohort."""
    return [body.get("cohort_id") or body.get("user_id") or body.get("device_id")]


provider = Provider(
    key="amplitude",
    name="Amplitude",
    description="Identify users, act on events and keep audiences in step with Amplitude's cohorts.",
    categories=("Analytics",),
    website_url="https://amplitude.com",
    webhook_docs_url="https://amplitude.com/docs/data/destination-catalog/webhooks",
    knock_tutorial_url="https://docs.knock.app/api/reverse_etl/sources/amplitude",
    event_type_path="preprocess.event_type",
    idempotency_key_path="preprocess.idempotency_key",
    timestamp_path="body.event_time",
    optional_paths=("preprocess.idempotency_key", "body.event_time"),
    ordering_key_path=ORDERING_KEYS_PATH,
    ordering_keys=_ordering_keys,
    scheme=SharedSecret(headers=(("authorization", "Bearer "),)),
    secret=SecretField(
        label="Webhook secret",
        help="Any random text of your own. Amplitude sends it in the header Authorization, after `Bearer `.",
        issued_by="you",
    ),
    default_mappings=(
        DefaultMapping(
            "$identify",
            "users_identify",
            {
                "id": "preprocess.user_id",
                "name": "body.user_properties.name",
                "email": "body.user_properties.email",
                "properties": "body.user_properties",
            },
        ),
        DefaultMapping("cohort.entered", "audiences_add_member", _MEMBERS),
        DefaultMapping("cohort.exited", "audiences_remove_member", _MEMBERS),
    ),
    examples={
        "Order Completed": (Example(body=_EVENT),),
        "$identify": (Example(body=_USER),),
        "cohort.entered": (Example(body=_cohort(True)),),
        "cohort.exited": (Example(body=_cohort(False)),),
    },
    preprocess=_preprocess,
    setup=(
        here("Add a random secret of your own to this source."),
        there("In Amplitude open Data, Catalog, Destinations, and add Webhook for events and users."),
        there("Paste this source's URL and add the header Authorization with the value `Bearer <secret>`."),
        there("Choose what to send: events, users, or both, keep the default payload, and enable the sync."),
        there("For cohorts add the destination Cohort Webhooks with the same URL and header."),
        there("Open a cohort, choose Sync, and select that destination."),
    ),
    sending=Sending(
        timeout="Cohorts want a 200 within 1 to 2 s; for streamed events it is not published.",
        retries="Streamed events up to 9 times within 4 hours, and within each attempt on 429 and 5xx. A "
        "slow answer to a cohort brings it again.",
    ),
    notes=(
        "A cohort's event is about many users at once: one action adds or removes them all.",
        "The audience's key is `amplitude-` and the cohort's id; it is created when it is not there.",
        "Users without a user id are known by their device id.",
    ),
)
