"""Service tokens may be limited to environments; which signing secret matched is noted."""

from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.execute("ALTER TABLE service_tokens ADD COLUMN environments json")
    op.execute("ALTER TABLE events ADD COLUMN signing_secret_id uuid")
    # Apart from the secrets themselves, whose every change lets all processes read their configuration again.
    op.execute("""
        CREATE TABLE signing_secret_uses (
            secret_id uuid PRIMARY KEY REFERENCES signing_secrets ON DELETE CASCADE,
            last_matched_at timestamptz NOT NULL
        )
    """)


def downgrade() -> None:
    op.execute("DROP TABLE signing_secret_uses")
    op.execute("ALTER TABLE events DROP COLUMN signing_secret_id")
    op.execute("ALTER TABLE service_tokens DROP COLUMN environments")
