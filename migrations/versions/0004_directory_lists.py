"""Subscriptions are listed the newest first, from either end; users are merged, with the runs that they acted
in."""

from alembic import op

revision = "0004"
down_revision = "0003"

INDEXES = """
DROP INDEX directory_subscriptions_by_recipient;
CREATE INDEX directory_subscriptions_by_recipient ON directory_subscriptions
    (environment, recipient_collection, recipient_id, inserted_at, collection, object_id);
CREATE INDEX directory_subscriptions_by_object ON directory_subscriptions
    (environment, collection, object_id, inserted_at, recipient_collection, recipient_id);
CREATE INDEX workflow_runs_by_actor ON workflow_runs (environment, actor_collection, actor_id)
    WHERE actor_id IS NOT NULL;
"""


def upgrade() -> None:
    op.execute(INDEXES)


def downgrade() -> None:
    op.execute("DROP INDEX workflow_runs_by_actor, directory_subscriptions_by_object")
    op.execute("DROP INDEX directory_subscriptions_by_recipient")
    op.execute("""
        CREATE INDEX directory_subscriptions_by_recipient ON directory_subscriptions
            (environment, recipient_collection, recipient_id, collection, object_id)
    """)
