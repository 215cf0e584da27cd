"""Events that wait for another's run are found by it; sources have a rate limit."""

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.execute(
        "CREATE INDEX events_waiting ON events (run_id) WHERE status = 'processing' AND run_id IS NOT NULL"
    )
    op.execute("ALTER TABLE source_environments ADD COLUMN rate_limit_per_second integer")


def downgrade() -> None:
    op.execute("ALTER TABLE source_environments DROP COLUMN rate_limit_per_second")
    op.execute("DROP INDEX events_waiting")
