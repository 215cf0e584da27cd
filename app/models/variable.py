"""Variables: values of the account that scripts read as `vars`, with overrides for environments."""

from datetime import datetime

from sqlmodel import SQLModel

from app.models.types import bytes_field, now, text_field, time_field


class Variable(SQLModel, table=True):
    """A variable and its default value, encrypted whatever its type. `type` is `public` or `secret`."""

    __tablename__ = "variables"

    key: str = text_field(primary_key=True)
    type: str = text_field(default="public")
    description: str | None = text_field(default=None)
    ciphertext: bytes | None = bytes_field(nullable=True, default=None)
    created_at: datetime = time_field(default_factory=now)
    updated_at: datetime = time_field(default_factory=now)


class VariableValue(SQLModel, table=True):
    """The value of a variable in one environment, in place of the default."""

    __tablename__ = "variable_values"

    variable_key: str = text_field(primary_key=True, foreign_key="variables.key", ondelete="CASCADE")
    environment: str = text_field(primary_key=True, foreign_key="environments.slug")
    ciphertext: bytes = bytes_field()
