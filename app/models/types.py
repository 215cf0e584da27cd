"""Ids, clock and column types that all tables share."""

import hashlib
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import uuid_utils.compat
from pydantic import AfterValidator
from sqlalchemy import JSON, Column, DateTime, LargeBinary, Text
from sqlmodel import Field

# Ids begin with the one. Beyond the other, the same time may have no date in another zone, and none that can
# be read back from Postgres.
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(9999, 1, 1, tzinfo=UTC)


def now() -> datetime:
    """The present time, aware, in UTC."""
    return datetime.now(UTC)


def in_utc(moment: datetime) -> datetime:
    """A time in UTC, which one without an offset is already; `EARLIEST` or `LATEST` when it lies beyond."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return min(max(aware, EARLIEST), LATEST).astimezone(UTC)


# A time that somebody gives.
Moment = Annotated[datetime, AfterValidator(in_utc)]


def new_id() -> UUID:
    """A UUID version 7: sorted by time, so that an id alone finds its partition (RFC 9562)."""
    return uuid_utils.compat.uuid7()


def first_id_at(moment: datetime) -> UUID:
    """The smallest UUID of that millisecond: a bound for partitions and time ranges. Ids begin with 1970."""
    return UUID(int=max(0, int(moment.timestamp() * 1000)) << 80)


def time_of(identifier: UUID) -> datetime:
    """The time in a UUID version 7, to the millisecond; `LATEST` when one that a caller made up is beyond."""
    return datetime.fromtimestamp(min((identifier.int >> 80) / 1000, LATEST.timestamp()), UTC)


def id_time_range(identifier: UUID) -> tuple[UUID, UUID]:
    """The smallest UUID of an id's millisecond and of the next one."""
    milliseconds = identifier.int >> 80
    return UUID(int=milliseconds << 80), UUID(int=(milliseconds + 1) << 80)


def derived_id(parent: UUID, *parts: str) -> UUID:
    """A UUID version 7 with the time of `parent` and bits that follow from `parts`.

    The same parts give the same id, so that work done again finds its row; the shared millisecond puts a
    row into its parent's partition and beside its siblings in the primary key.
    """
    digest = int.from_bytes(digest_of(str(parent), *parts)[:10])
    random_bits = digest & ~(0xF << 76) & ~(0x3 << 62)
    return UUID(int=(parent.int >> 80 << 80) | random_bits | (0x7 << 76) | (0x2 << 62))


def digest_of(*parts: str) -> bytes:
    """SHA-256 over length-prefixed parts, so that no two lists of parts share a digest by joining."""
    digest = hashlib.sha256()
    for part in parts:
        encoded = part.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8))
        digest.update(encoded)
    return digest.digest()


def text_field(**options: Any) -> Any:
    """A text column, required unless the annotation and default say otherwise."""
    return Field(sa_type=Text, **options)


def time_field(**options: Any) -> Any:
    """A timestamp column with time zone."""
    return Field(sa_type=DateTime(timezone=True), **options)


def json_field(**options: Any) -> Any:
    """A JSON column, kept as the text that came: order of keys, long numbers and \\u0000 survive."""
    return Field(sa_type=JSON(none_as_null=True), **options)


def bytes_field(*, nullable: bool = False, **options: Any) -> Any:
    """A column of raw bytes."""
    return Field(sa_column=Column(LargeBinary, nullable=nullable), **options)
