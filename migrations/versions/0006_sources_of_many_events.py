"""How an event came in, keys of reverse ETL sources, and settings of customer data platforms."""

from alembic import op

revision = "0006"
down_revision = "0005"

# A constant default costs no rewrite of the partitions.
EVENTS = """
ALTER TABLE events ADD COLUMN received_through text NOT NULL DEFAULT 'webhook';
ALTER TABLE events ADD COLUMN batch_id uuid;
"""

SETTINGS = """
ALTER TABLE source_environments ADD COLUMN handle_identifies boolean;
ALTER TABLE source_environments ADD COLUMN strict_batches boolean NOT NULL DEFAULT false;
"""

SOURCE_KEYS = """
CREATE TABLE source_keys (
    id uuid PRIMARY KEY,
    source_environment_id uuid NOT NULL REFERENCES source_environments (id) ON DELETE CASCADE,
    name text NOT NULL,
    key_hash text NOT NULL UNIQUE,
    created_at timestamptz NOT NULL,
    revoked_at timestamptz
);
CREATE INDEX ix_source_keys_source_environment_id ON source_keys (source_environment_id);
CREATE TRIGGER source_keys_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON source_keys
    FOR EACH STATEMENT EXECUTE FUNCTION doorbell_notify_configuration();
"""


def upgrade() -> None:
    op.execute(EVENTS)
    op.execute(SETTINGS)
    op.execute(SOURCE_KEYS)


def downgrade() -> None:
    op.execute("DROP TABLE source_keys")
    op.execute("ALTER TABLE source_environments DROP COLUMN strict_batches, DROP COLUMN handle_identifies")
    op.execute("ALTER TABLE events DROP COLUMN batch_id, DROP COLUMN received_through")
