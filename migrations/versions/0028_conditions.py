"""Conditions on mappings; stored objects that the expressions of this version would read otherwise keep their
meaning.

A worker of the previous version runs a mapping whatever its conditions: workers first.
"""

import json
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"

_KEYS = frozenset({"$first_of", "$literal", "$object", "$template"})
_SUSPECTS = "SELECT id, action_parameters FROM mappings WHERE action_parameters::text LIKE '%\"$%'"


def upgrade() -> None:
    op.execute("ALTER TABLE mappings ADD COLUMN conditions json")
    _rewrite(_as_object)


def downgrade() -> None:
    _rewrite(_as_plain)
    op.execute("ALTER TABLE mappings DROP COLUMN conditions")


def _rewrite(change: Callable[[Any], Any]) -> None:
    connection = op.get_bind()
    for identifier, parameters in connection.execute(sa.text(_SUSPECTS)).all():
        changed = {name: _everywhere(change, template) for name, template in parameters.items()}
        if changed != parameters:
            connection.execute(
                sa.text("UPDATE mappings SET action_parameters = CAST(:parameters AS json) WHERE id = :id"),
                {"parameters": json.dumps(changed), "id": identifier},
            )


def _everywhere(change: Callable[[Any], Any], template: Any) -> Any:
    """The template, each of its objects changed. What a constant holds is not read."""
    if isinstance(template, list):
        return [_everywhere(change, each) for each in template]
    if not isinstance(template, dict) or template.keys() == {"value"}:
        return template
    return change({name: _everywhere(change, each) for name, each in template.items()})


def _as_object(template: dict[str, Any]) -> dict[str, Any]:
    return {"$object": template} if not _KEYS.isdisjoint(template) else template


def _as_plain(template: dict[str, Any]) -> dict[str, Any]:
    return template["$object"] if template.keys() == {"$object"} else template
