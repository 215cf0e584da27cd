"""When the last round of maintenance succeeded.

The previous version may run meanwhile: it does not note its rounds.
"""

from alembic import op

revision = "0025"
down_revision = "0024"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE maintenance (
            only_row boolean PRIMARY KEY CHECK (only_row),
            succeeded_at timestamptz NOT NULL
        )
    """)
    # A database whose maintenance never runs is noticed too.
    op.execute("INSERT INTO maintenance VALUES (true, now())")


def downgrade() -> None:
    op.execute("DROP TABLE maintenance")
