"""Which namespace of Temporal was used last, so that another one is noticed; and of a replay, whether it
stands for its original under its idempotency key."""

from alembic import op

revision = "0026"
down_revision = "0025"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE temporal_namespaces (
            name text PRIMARY KEY,
            namespace_id text NOT NULL,
            changed_at timestamptz
        )
    """)
    op.execute("ALTER TABLE events ADD COLUMN takes_key boolean NOT NULL DEFAULT false")


def downgrade() -> None:
    op.execute("ALTER TABLE events DROP COLUMN takes_key")
    op.execute("DROP TABLE temporal_namespaces")
