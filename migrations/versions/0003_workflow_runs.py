"""Workflow runs that are real: definitions and their versions, the runs' steps, and the messages they
made."""

from alembic import op

revision = "0003"
down_revision = "0002"

# A version never changes: a run follows the one that it was triggered with, however long it waits.
DEFINITIONS = """
CREATE TABLE workflow_versions (
    id uuid PRIMARY KEY,
    environment text NOT NULL,
    key text NOT NULL,
    definition json NOT NULL,
    sha text NOT NULL,
    created_at timestamptz NOT NULL
);
CREATE TABLE workflow_definitions (
    environment text NOT NULL,
    key text NOT NULL,
    version_id uuid NOT NULL REFERENCES workflow_versions (id),
    signing_secret bytea,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (environment, key)
);
"""

RUNS = """
ALTER TABLE workflow_runs ADD version_id uuid REFERENCES workflow_versions (id);
ALTER TABLE workflow_recipient_runs
    ADD data json,
    ADD error text,
    ADD lease_expires_at timestamptz,
    ADD temporal_run_id text,
    ADD stop_requested boolean NOT NULL DEFAULT false,
    ADD started_at timestamptz,
    ADD finished_at timestamptz;
CREATE INDEX workflow_recipient_runs_queued ON workflow_recipient_runs (environment, id)
  WHERE status = 'queued';
CREATE INDEX workflow_recipient_runs_followed ON workflow_recipient_runs (environment, lease_expires_at)
    WHERE status IN ('processing', 'paused');
CREATE INDEX workflow_recipient_runs_to_stop ON workflow_recipient_runs (environment, id)
  WHERE stop_requested;

CREATE TABLE workflow_run_steps (
    run_id uuid NOT NULL REFERENCES workflow_recipient_runs (id) ON DELETE CASCADE,
    position integer NOT NULL,
    ref text NOT NULL,
    type text NOT NULL,
    channel_type text,
    status text NOT NULL,
    attempts integer NOT NULL,
    error text,
    wait_until timestamptz,
    message_id uuid,
    lease_expires_at timestamptz,
    started_at timestamptz NOT NULL,
    finished_at timestamptz,
    PRIMARY KEY (run_id, position)
);
"""

MESSAGES = """
CREATE TABLE messages (
    id uuid PRIMARY KEY,
    environment text NOT NULL,
    run_id uuid NOT NULL REFERENCES workflow_recipient_runs (id) ON DELETE CASCADE,
    workflow_run_id uuid NOT NULL,
    version_id uuid NOT NULL,
    workflow text NOT NULL,
    categories json NOT NULL,
    step_ref text NOT NULL,
    channel_key text NOT NULL,
    channel_type text NOT NULL,
    recipient_collection text NOT NULL,
    recipient_id text NOT NULL,
    actor_collection text,
    actor_id text,
    tenant text,
    status text NOT NULL,
    error text,
    content json NOT NULL,
    data json,
    inserted_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    seen_at timestamptz,
    read_at timestamptz,
    interacted_at timestamptz,
    archived_at timestamptz
);
CREATE INDEX messages_by_environment ON messages (environment, id);
CREATE INDEX messages_by_workflow ON messages (environment, workflow, id);
CREATE INDEX messages_by_recipient ON messages (environment, recipient_collection, recipient_id, id);
CREATE INDEX messages_by_run ON messages (run_id);
CREATE INDEX messages_by_trigger ON messages (workflow_run_id);
"""


def upgrade() -> None:
    op.execute(DEFINITIONS)
    op.execute(RUNS)
    op.execute(MESSAGES)


def downgrade() -> None:
    op.execute("DROP TABLE messages, workflow_run_steps")
    op.execute("DROP INDEX workflow_recipient_runs_to_stop, workflow_recipient_runs_followed")
    op.execute("DROP INDEX workflow_recipient_runs_queued")
    op.execute("""
        ALTER TABLE workflow_recipient_runs DROP COLUMN data, DROP COLUMN error,
            DROP COLUMN lease_expires_at, DROP COLUMN temporal_run_id, DROP COLUMN stop_requested,
            DROP COLUMN started_at, DROP COLUMN finished_at
    """)
    op.execute("ALTER TABLE workflow_runs DROP COLUMN version_id")
    op.execute("DROP TABLE workflow_definitions, workflow_versions")
