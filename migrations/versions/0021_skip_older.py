"""What was last applied to which user, object or tenant, so that older events change it no more."""

from alembic import op

revision = "0021"
down_revision = "0020"

# A mark says which event set something: `e` its id, `t` its own time in milliseconds, `c` that it says that
# it creates the thing. Times are compared where both have one; at equal times what creates is the older.
FUNCTIONS = """
CREATE FUNCTION doorbell_is_later(one jsonb, other jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE
        WHEN one IS NULL THEN false
        WHEN other IS NULL THEN true
        WHEN (one ->> 't')::bigint <> (other ->> 't')::bigint
            THEN (one ->> 't')::bigint > (other ->> 't')::bigint
        WHEN (one ->> 't') = (other ->> 't') AND (one ? 'c') <> (other ? 'c') THEN other ? 'c'
        ELSE (one ->> 'e') COLLATE "C" > (other ->> 'e') COLLATE "C"
    END
$$;
"""

APPLIED = """
CREATE TABLE applied_changes (
    environment text NOT NULL,
    collection text NOT NULL,
    id text NOT NULL,
    target text NOT NULL,
    destination text NOT NULL,
    properties jsonb NOT NULL,
    deleted jsonb,
    version bigint NOT NULL,
    last_event text NOT NULL,
    last_on date NOT NULL,
    PRIMARY KEY (environment, collection, id, target, destination)
) WITH (fillfactor = 80);
CREATE INDEX applied_changes_by_day ON applied_changes (last_on);
"""


def upgrade() -> None:
    op.execute("ALTER TABLE mappings ADD COLUMN skip_older boolean NOT NULL DEFAULT false")
    op.execute("""
        ALTER TABLE actions ADD COLUMN position json, ADD COLUMN parent_missing_since timestamptz,
            ADD COLUMN contested boolean NOT NULL DEFAULT false
    """)
    op.execute(FUNCTIONS)
    op.execute(APPLIED)


def downgrade() -> None:
    op.execute("DROP TABLE applied_changes")
    op.execute("DROP FUNCTION doorbell_is_later")
    op.execute("""
        ALTER TABLE actions DROP COLUMN position, DROP COLUMN parent_missing_since, DROP COLUMN contested
    """)
    op.execute("ALTER TABLE mappings DROP COLUMN skip_older")
