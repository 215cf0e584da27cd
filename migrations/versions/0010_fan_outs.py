"""A trigger for an object reaches its subscribers: how far each fan-out is, and what a run's subscription
says."""

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.execute("ALTER TABLE workflow_runs ADD COLUMN fan_out_due_at timestamptz")
    op.execute(
        "CREATE INDEX workflow_runs_fanning_out ON workflow_runs (environment, fan_out_due_at) "
        "WHERE fan_out_due_at IS NOT NULL"
    )
    op.execute("""
CREATE TABLE workflow_fan_outs (
    workflow_run_id uuid NOT NULL REFERENCES workflow_runs (id) ON DELETE CASCADE,
    depth integer NOT NULL,
    collection text NOT NULL,
    object_id text NOT NULL,
    after_collection text NOT NULL,
    after_id text NOT NULL,
    PRIMARY KEY (workflow_run_id, depth, collection, object_id)
)
""")
    op.execute("ALTER TABLE workflow_recipient_runs ADD COLUMN subscription json")
    # The recipient too: whether a trigger has a run for someone is asked for each subscriber.
    op.execute("DROP INDEX workflow_recipient_runs_by_trigger")
    op.execute(
        "CREATE INDEX workflow_recipient_runs_by_trigger "
        "ON workflow_recipient_runs (workflow_run_id, recipient_collection, recipient_id)"
    )


def downgrade() -> None:
    op.execute("DROP INDEX workflow_recipient_runs_by_trigger")
    op.execute("CREATE INDEX workflow_recipient_runs_by_trigger ON workflow_recipient_runs (workflow_run_id)")
    op.execute("ALTER TABLE workflow_recipient_runs DROP COLUMN subscription")
    op.execute("DROP TABLE workflow_fan_outs")
    op.execute("DROP INDEX workflow_runs_fanning_out")
    op.execute("ALTER TABLE workflow_runs DROP COLUMN fan_out_due_at")
