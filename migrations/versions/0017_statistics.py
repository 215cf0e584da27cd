"""Statistics: how many events and actions there were in each minute, quarter of an hour, hour and day."""

from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE statistics (
            resolution integer NOT NULL,
            starts_at timestamptz NOT NULL,
            environment text NOT NULL,
            subject text NOT NULL,
            source_key text NOT NULL,
            name text NOT NULL,
            status text NOT NULL,
            count bigint NOT NULL,
            PRIMARY KEY (resolution, starts_at, environment, subject, source_key, name, status)
        )
    """)
    op.execute("""
        CREATE INDEX statistics_unfinished ON statistics (resolution, starts_at)
        WHERE subject = 'event' AND status IN ('received', 'processing')
    """)
    op.execute("""
        CREATE TABLE statistics_progress (
            only_row boolean PRIMARY KEY CHECK (only_row),
            next_id uuid NOT NULL,
            updated_at timestamptz NOT NULL
        )
    """)


def downgrade() -> None:
    op.execute("DROP TABLE statistics_progress")
    op.execute("DROP TABLE statistics")
