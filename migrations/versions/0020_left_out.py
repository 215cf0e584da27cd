"""What an action left out of its call, and why."""

from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    op.execute("ALTER TABLE actions ADD COLUMN left_out jsonb")


def downgrade() -> None:
    op.execute("ALTER TABLE actions DROP COLUMN left_out")
