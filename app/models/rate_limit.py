"""How far the calls to a destination's endpoint are given out, for all worker processes together."""

from datetime import datetime

from sqlmodel import SQLModel

from app.models.types import text_field, time_field


class RateLimit(SQLModel, table=True):
    """The clock of one endpoint of one account.

    `next_slot` is when the next call may go that nobody has yet, `next_turn` when the next one to be sent
    away should come back. Unlogged: after a crash of Postgres the clocks begin anew, which costs a 429 at
    most.
    """

    __tablename__ = "rate_limits"
    __table_args__ = ({"prefixes": ["UNLOGGED"]},)

    key: str = text_field(primary_key=True)
    next_slot: datetime = time_field()
    next_turn: datetime = time_field()
