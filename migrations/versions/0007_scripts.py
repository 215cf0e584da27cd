"""Scripts of sources, and the variables that they read."""

from alembic import op

revision = "0007"
down_revision = "0006"

VARIABLES = """
ALTER TABLE source_environments ADD COLUMN preprocess_script text;

CREATE TABLE variables (
    key text PRIMARY KEY,
    type text NOT NULL,
    description text,
    ciphertext bytea,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);

CREATE TABLE variable_values (
    variable_key text NOT NULL REFERENCES variables (key) ON DELETE CASCADE,
    environment text NOT NULL REFERENCES environments (slug),
    ciphertext bytea NOT NULL,
    PRIMARY KEY (variable_key, environment)
);
"""


def upgrade() -> None:
    op.execute(VARIABLES)
    for table in ("variables", "variable_values"):
        op.execute(
            f"CREATE TRIGGER {table}_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION doorbell_notify_configuration()"
        )


def downgrade() -> None:
    op.execute("DROP TABLE variable_values, variables")
    op.execute("ALTER TABLE source_environments DROP COLUMN preprocess_script")
