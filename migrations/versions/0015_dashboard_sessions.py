"""Sessions of the dashboard, and the one-time links that open them."""

from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE dashboard_sessions (
            id uuid PRIMARY KEY,
            token_hash text NOT NULL,
            link_hash text UNIQUE,
            created_at timestamptz NOT NULL,
            expires_at timestamptz NOT NULL
        )
    """)


def downgrade() -> None:
    op.execute("DROP TABLE dashboard_sessions")
