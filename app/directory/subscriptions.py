"""Subscriptions of recipients to objects in the database: added, removed, listed."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, bindparam, delete, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import aliased
from sqlmodel import col

from app.core.errors import RequestError
from app.database.engine import to_json
from app.database.pages import Page, PageRequest, fetch_page
from app.directory.recipients import Json, Profile, Recipient, Reference, set_recipients
from app.models.directory import DirectoryRecipient, DirectorySubscription

# What is given on a subscription that is there is merged with what it has, as on recipients.
_ADD = text("""
INSERT INTO directory_subscriptions AS stored
    (environment, collection, object_id, recipient_collection, recipient_id, properties, inserted_at,
      updated_at)
SELECT :environment, :collection, :object_id, recipient_collection, recipient_id, CAST(:properties AS jsonb),
  now(), now()
FROM unnest(CAST(:collections AS text[]), CAST(:ids AS text[])) AS given (recipient_collection, recipient_id)
ON CONFLICT (environment, collection, object_id, recipient_collection, recipient_id) DO UPDATE SET
    properties = doorbell_deep_merge(stored.properties, excluded.properties), updated_at = excluded.updated_at
""")

# Keeps the object from being deleted until the subscriptions are in.
_HOLD_OBJECT = text("""
SELECT 1 FROM directory_recipients
WHERE environment = :environment AND collection = :collection AND id = :id FOR KEY SHARE
""")

_stored = DirectorySubscription
_object = aliased(DirectoryRecipient, name="object")
_recipient = aliased(DirectoryRecipient, name="recipient")
_RECIPIENT = tuple_(col(_stored.recipient_collection), col(_stored.recipient_id))
_OBJECT = tuple_(col(_stored.collection), col(_stored.object_id))


@dataclass(frozen=True)
class Subscription:
    """A recipient's subscription to an object."""

    object: Recipient
    recipient: Recipient
    properties: Json
    inserted_at: datetime
    updated_at: datetime


@dataclass(frozen=True)
class Subscribers:
    """Who is to be subscribed to an object. Those given with properties of their own are identified first."""

    object: Reference
    profiles: Sequence[Profile]
    properties: Json = field(default_factory=dict)


async def add_subscriptions(
    connection: AsyncConnection, environment: str, subscribers: Subscribers
) -> list[Subscription]:
    """Subscribe recipients, or update their subscriptions. In one transaction.

    Raises:
        RequestError: 404, there is no such object.
    """
    await set_recipients(connection, environment, subscribers.profiles)
    subscribed_to = subscribers.object
    held = await connection.execute(_HOLD_OBJECT, {"environment": environment, **subscribed_to._asdict()})
    if held.first() is None:
        raise RequestError(
            404,
            "resource_missing",
            f"There is no object {subscribed_to.id!r} in collection {subscribed_to.collection!r}",
        )
    recipients = sorted({profile.reference for profile in subscribers.profiles})
    await connection.execute(
        _ADD,
        {
            "environment": environment,
            "collection": subscribed_to.collection,
            "object_id": subscribed_to.id,
            "collections": [each.collection for each in recipients],
            "ids": [each.id for each in recipients],
            "properties": to_json(subscribers.properties),
        },
    )
    return await _find(connection, environment, subscribed_to, recipients)


async def remove_subscriptions(
    connection: AsyncConnection, environment: str, subscribed_to: Reference, recipients: Sequence[Reference]
) -> list[Subscription]:
    """Remove what there is of these recipients' subscriptions, and return it. In one transaction."""
    found = await _find(connection, environment, subscribed_to, recipients)
    if found:
        await connection.execute(
            delete(_stored).where(*_of(environment, subscribed_to), _RECIPIENT.in_(recipients))
        )
    return found


async def list_subscribers(
    connection: AsyncConnection,
    environment: str,
    subscribed_to: Reference,
    page: PageRequest,
    *,
    recipients: Sequence[Reference] = (),
) -> Page[Subscription]:
    """The subscriptions to an object, the newest first; all, or those of these recipients."""
    query = _subscriptions().where(*_of(environment, subscribed_to))
    if recipients:
        query = query.where(_RECIPIENT.in_(recipients))
    return await fetch_page(
        connection,
        query,
        [col(_stored.inserted_at), col(_stored.recipient_collection), col(_stored.recipient_id)],
        page,
        _subscription_of,
        descending=True,
        parse=(datetime.fromisoformat, str, str),
    )


async def list_subscriptions(
    connection: AsyncConnection,
    environment: str,
    recipient: Reference,
    page: PageRequest,
    *,
    objects: Sequence[Reference] = (),
) -> Page[Subscription]:
    """The subscriptions that a recipient has, the newest first; all, or those to these objects."""
    query = _subscriptions().where(
        col(_stored.environment) == environment,
        col(_stored.recipient_collection) == recipient.collection,
        col(_stored.recipient_id) == recipient.id,
    )
    if objects:
        query = query.where(_OBJECT.in_(objects))
    return await fetch_page(
        connection,
        query,
        [col(_stored.inserted_at), col(_stored.collection), col(_stored.object_id)],
        page,
        _subscription_of,
        descending=True,
        parse=(datetime.fromisoformat, str, str),
    )


def _of(environment: str, subscribed_to: Reference) -> list[ColumnElement[bool]]:
    return [
        col(_stored.environment) == environment,
        col(_stored.collection) == subscribed_to.collection,
        col(_stored.object_id) == subscribed_to.id,
    ]


async def _find(
    connection: AsyncConnection, environment: str, subscribed_to: Reference, recipients: Sequence[Reference]
) -> list[Subscription]:
    """Those recipients' subscriptions to an object, in the order of the recipients."""
    query = _subscriptions().where(
        *_of(environment, subscribed_to), _RECIPIENT.in_(bindparam("recipients", expanding=True))
    )
    rows = await connection.execute(query, {"recipients": list(recipients)})
    found = {each.recipient.reference: each for each in map(_subscription_of, rows)}
    return [found[each] for each in dict.fromkeys(recipients) if each in found]


def _subscriptions() -> Select[Any]:
    columns: list[ColumnElement[Any]] = [
        col(_stored.properties).label("subscription_properties"),
        col(_stored.inserted_at).label("subscription_inserted_at"),
        col(_stored.updated_at).label("subscription_updated_at"),
    ]
    for table, prefix in ((_object, "object"), (_recipient, "recipient")):
        for name in ("collection", "id", "properties", "preferences", "updated_at"):
            columns.append(col(getattr(table, name)).label(f"{prefix}_{name}"))
    return (
        select(*columns)
        .select_from(_stored)
        .join(
            _object,
            (col(_object.environment) == col(_stored.environment))
            & (col(_object.collection) == col(_stored.collection))
            & (col(_object.id) == col(_stored.object_id)),
        )
        .join(
            _recipient,
            (col(_recipient.environment) == col(_stored.environment))
            & (col(_recipient.collection) == col(_stored.recipient_collection))
            & (col(_recipient.id) == col(_stored.recipient_id)),
        )
    )


def _subscription_of(row: Row[Any]) -> Subscription:
    return Subscription(
        object=_recipient_of(row, "object"),
        recipient=_recipient_of(row, "recipient"),
        properties=row.subscription_properties,
        inserted_at=row.subscription_inserted_at,
        updated_at=row.subscription_updated_at,
    )


def _recipient_of(row: Row[Any], prefix: str) -> Recipient:
    values = row._mapping
    return Recipient(
        Reference(values[f"{prefix}_collection"], values[f"{prefix}_id"]),
        values[f"{prefix}_properties"],
        values[f"{prefix}_preferences"],
        values[f"{prefix}_updated_at"],
    )
