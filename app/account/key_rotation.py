"""The rotation of DOORBELL_SECRET_KEY: everything encrypted in the database, written anew under the first
key.

`ENCRYPTED` declares every encrypted column. Whoever adds one declares it here, else its values are lost when
the old key is taken away; tests/account/test_key_rotation.py fails until then.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Row, Select, Table, and_, bindparam, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel import SQLModel

from app.core.errors import Permanent
from app.core.secrets import SecretBox
from app.models.alert import AlertSecret
from app.models.environment import Environment
from app.models.erasure import Erasure
from app.models.event import EventPayload
from app.models.source import SigningSecret
from app.models.variable import Variable, VariableValue
from app.models.workflow import Message, WorkflowDefinition, WorkflowVersion

BATCH = 500

ENCRYPTED: tuple[tuple[type[SQLModel], str], ...] = (
    (Environment, "destination_key"),
    (SigningSecret, "ciphertext"),
    (Variable, "ciphertext"),
    (VariableValue, "ciphertext"),
    (WorkflowDefinition, "signing_secret"),
    (WorkflowVersion, "sealed"),
    (Message, "sealed"),
    (EventPayload, "sensitive_headers"),
    (Erasure, "search"),
    (AlertSecret, "ciphertext"),
)


@dataclass
class Tally:
    """The values of one column: under the first key already, under an older one, under none that is set.

    `rewritten` of those under an older one are under the first key now. The others changed while they were
    looked at: whoever wrote them used a key of its own.
    """

    column: str
    current: int = 0
    outdated: int = 0
    rewritten: int = 0
    unreadable: int = 0

    @property
    def is_done(self) -> bool:
        """Whether the first key alone opens every value."""
        return self.outdated == self.rewritten and not self.unreadable


async def rotate_keys(engine: AsyncEngine, box: SecretBox, *, dry_run: bool = False) -> AsyncIterator[Tally]:
    """Write every value that is not under the first key anew, or only count them: a tally for each column, as
    it ends.

    Each batch is a transaction of its own, so that a rotation that was broken off goes on where it was: what
    is under the first key is left alone. A value that changes meanwhile is not overwritten.
    """
    for model, name in ENCRYPTED:
        table: Table = model.__table__  # type: ignore[attr-defined]
        tally = Tally(f"{table.name}.{name}")
        async for rows in _batches(engine, table, table.c[name]):
            outdated = _outdated(rows, box, tally)
            if outdated and not dry_run:
                tally.rewritten += await _rewrite(engine, table, table.c[name], outdated)
        yield tally


def _outdated(rows: Iterable[Row[Any]], box: SecretBox, tally: Tally) -> list[tuple[Row[Any], bytes]]:
    """The rows that are not under the first key, each with what it holds under it."""
    found = []
    for row in rows:
        if box.is_current(row.ciphertext):
            tally.current += 1
            continue
        try:
            found.append((row, box.encrypt(box.decrypt(row.ciphertext))))
        except Permanent:
            tally.unreadable += 1
    tally.outdated += len(found)
    return found


async def _batches(
    engine: AsyncEngine, table: Table, column: Column[Any]
) -> AsyncIterator[Sequence[Row[Any]]]:
    """All rows that have a value, in the order of the primary key."""
    key = tuple(table.primary_key)
    columns: list[Any] = [*key, column.label("ciphertext")]
    query: Select[Any] = select(*columns).where(column.is_not(None)).order_by(*key).limit(BATCH)
    page = query
    while True:
        async with engine.connect() as connection:
            rows: Sequence[Row[Any]] = (await connection.execute(page)).all()
        if rows:
            yield rows
        if len(rows) < BATCH:
            return
        page = query.where(tuple_(*key) > tuple_(*rows[-1][: len(key)]))


async def _rewrite(
    engine: AsyncEngine, table: Table, column: Column[Any], rows: Sequence[tuple[Row[Any], bytes]]
) -> int:
    """Replace values, each only if it is still what was read; how many were."""
    key = tuple(table.primary_key)
    unchanged = and_(*(each == bindparam(f"key_{each.name}") for each in key), column == bindparam("before"))
    change = update(table).where(unchanged).values({column: bindparam("after")})
    replaced = 0
    async with engine.begin() as connection:
        for row, ciphertext in rows:
            values = {f"key_{each.name}": row._mapping[each] for each in key}
            done = await connection.execute(change, {**values, "before": row.ciphertext, "after": ciphertext})
            replaced += done.rowcount
    return replaced
