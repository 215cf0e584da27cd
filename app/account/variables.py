"""Variables of the account: public ones are read back, secret ones never. Scripts read both as `vars`."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from sqlalchemy import text
from sqlmodel import col, delete, select
from sqlmodel.ext.asyncio.session import AsyncSession

from app.account.environments import list_environments, unknown_environment
from app.core.errors import FieldError, Permanent, RequestError
from app.core.secrets import SecretBox
from app.core.validation import invalid_fields
from app.database.pages import Page, PageRequest, fetch_page
from app.models.types import now
from app.models.variable import Variable, VariableValue

VariableType = Literal["public", "secret"]

KEY_PATTERN = r"[A-Za-z_][A-Za-z0-9_.-]{0,254}"
MAXIMUM_VALUE_LENGTH = 16 * 1024
# All of them go into every call of a script.
MAXIMUM_VARIABLES = 200

_LOCK = text("SELECT pg_advisory_xact_lock(hashtext('doorbell_variables'))")


@dataclass(frozen=True)
class Variables:
    """The variables as an environment's scripts see them. `secret` names those that are never shown."""

    values: dict[str, str] = field(default_factory=dict, repr=False)
    secret: frozenset[str] = frozenset()

    @cached_property
    def public(self) -> dict[str, str]:
        """Those that may be shown."""
        return {key: value for key, value in self.values.items() if key not in self.secret}

    @property
    def secret_values(self) -> tuple[str, ...]:
        return tuple(value for key, value in self.values.items() if key in self.secret)


@dataclass(frozen=True)
class VariableChange:
    """What a caller wants a variable to be. `given` names the fields that the caller set; the others stay.

    `environment_values` is the whole set of overrides, by environment slug; None removes one, as leaving it
    out does.
    """

    given: frozenset[str]
    type: VariableType = "public"
    description: str | None = None
    value: str | None = field(default=None, repr=False)
    environment_values: Mapping[str, str | None] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class FoundVariable:
    """A variable with its values in the clear: whoever shows it hides those of a secret one."""

    variable: Variable
    value: str | None = field(repr=False)
    environment_values: dict[str, str] = field(repr=False)


async def list_variables(
    session: AsyncSession, box: SecretBox, page: PageRequest, *, type: VariableType | None
) -> Page[FoundVariable]:
    """A page of the variables by key."""
    query = select(Variable.__table__)  # type: ignore[attr-defined]
    if type is not None:
        query = query.where(col(Variable.type) == type)
    connection = await session.connection()
    found = await fetch_page(
        connection,
        query,
        [col(Variable.key)],
        page,
        lambda row: Variable(**{name: row._mapping[name] for name in Variable.model_fields}),
    )
    shown = await _with_values(session, box, found.items)
    return Page(shown, found.size, found.after, found.before)


async def get_variable(session: AsyncSession, box: SecretBox, key: str) -> FoundVariable:
    """The variable with its overrides.

    Raises:
        RequestError: 404, there is none with this key.
    """
    return (await _with_values(session, box, [await _find(session, key)]))[0]


async def find_variable(session: AsyncSession, box: SecretBox, key: str) -> FoundVariable | None:
    """The variable with its overrides, if there is one."""
    variable = await session.get(Variable, key)
    return None if variable is None else (await _with_values(session, box, [variable]))[0]


async def save_variable(
    session: AsyncSession, box: SecretBox, key: str, change: VariableChange
) -> FoundVariable:
    """Create or change a variable.

    Raises:
        RequestError: 422, naming everything that is wrong; nothing was changed.
    """
    await (await session.connection()).execute(_LOCK)
    variable = await session.get(Variable, key)
    if errors := await _errors(session, variable, change):
        raise invalid_fields(errors)
    if variable is None:
        variable = Variable(key=key)
        session.add(variable)
    if "type" in change.given:
        variable.type = change.type
    if "description" in change.given:
        variable.description = change.description
    if "value" in change.given:
        variable.ciphertext = None if change.value is None else box.encrypt(change.value.encode())
    variable.updated_at = now()
    await session.flush()
    if "environment_values" in change.given:
        await session.exec(delete(VariableValue).where(col(VariableValue.variable_key) == key))
        session.add_all(
            VariableValue(variable_key=key, environment=slug, ciphertext=box.encrypt(value.encode()))
            for slug, value in change.environment_values.items()
            if value is not None
        )
        await session.flush()
    return await get_variable(session, box, key)


async def delete_variable(session: AsyncSession, key: str) -> None:
    """Remove a variable with its overrides: scripts read `undefined` from now on.

    Raises:
        RequestError: 404, there is none with this key.
    """
    await session.delete(await _find(session, key))
    await session.flush()


async def read_variables(session: AsyncSession, box: SecretBox) -> tuple[Variables, dict[str, Variables]]:
    """The variables with their default values, and those of each environment that overrides some."""
    variables = (await session.exec(select(Variable).order_by(col(Variable.key)))).all()
    secret = frozenset(each.key for each in variables if each.type == "secret")
    defaults = {
        each.key: value for each in variables if (value := _decrypted(box, each.ciphertext)) is not None
    }
    overrides: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for row in (await session.exec(select(VariableValue))).all():
        if (value := _decrypted(box, row.ciphertext)) is not None:
            overrides[row.environment][row.variable_key] = value
    by_environment = {slug: Variables({**defaults, **values}, secret) for slug, values in overrides.items()}
    return Variables(defaults, secret), by_environment


async def _find(session: AsyncSession, key: str) -> Variable:
    variable = await session.get(Variable, key)
    if variable is None:
        raise RequestError(404, "resource_missing", f"There is no variable {key!r}")
    return variable


async def _errors(
    session: AsyncSession, variable: Variable | None, change: VariableChange
) -> list[FieldError]:
    errors = []
    environments = await list_environments(session)
    for slug in change.environment_values:
        if slug not in {each.slug for each in environments}:
            field_name = f"variable.environment_values.{slug}"
            errors.append(FieldError(field_name, unknown_environment(slug, environments)))
    if (
        variable is not None
        and variable.type == "secret"
        and "type" in change.given
        and change.type == "public"
    ):
        message = "a secret cannot become public, which would show it: delete it and create it again"
        errors.append(FieldError("variable.type", message))
    if variable is None:
        count = len((await session.exec(select(Variable.key))).all())
        if count >= MAXIMUM_VARIABLES:
            errors.append(FieldError("key", f"there are {MAXIMUM_VARIABLES} variables already"))
    return errors


async def _with_values(
    session: AsyncSession, box: SecretBox, variables: Sequence[Variable]
) -> list[FoundVariable]:
    keys = [each.key for each in variables]
    values = await session.exec(
        select(VariableValue)
        .where(col(VariableValue.variable_key).in_(keys))
        .order_by(col(VariableValue.environment))
    )
    overrides: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for row in values.all():
        if (value := _decrypted(box, row.ciphertext)) is not None:
            overrides[row.variable_key][row.environment] = value
    return [FoundVariable(each, _decrypted(box, each.ciphertext), overrides[each.key]) for each in variables]


def _decrypted(box: SecretBox, ciphertext: bytes | None) -> str | None:
    """The value; None for one that no present key opens, so that one lost value does not stop all sources."""
    try:
        return None if ciphertext is None else box.decrypt(ciphertext).decode()
    except Permanent:
        return None
