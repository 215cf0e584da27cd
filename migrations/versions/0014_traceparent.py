"""Events keep the trace of the request that brought them, for the worker to carry on."""

from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    op.execute("ALTER TABLE events ADD COLUMN traceparent text")


def downgrade() -> None:
    op.execute("ALTER TABLE events DROP COLUMN traceparent")
