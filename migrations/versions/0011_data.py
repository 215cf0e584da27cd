"""Retention as settings; erasures."""

from alembic import op

revision = "0011"
down_revision = "0010"

RETENTION = """
CREATE TABLE retention (
    kind text PRIMARY KEY,
    days integer NOT NULL,
    updated_at timestamptz NOT NULL
);
"""

ERASURES = """
CREATE TABLE erasures (
    id uuid PRIMARY KEY,
    environment text NOT NULL,
    user_id text NOT NULL,
    dry_run boolean NOT NULL,
    search bytea,
    starting_at timestamptz,
    ending_at timestamptz,
    status text NOT NULL,
    phase text NOT NULL,
    cursor uuid NOT NULL,
    begins_at uuid NOT NULL,
    ends_at uuid NOT NULL,
    late json NOT NULL,
    counts json NOT NULL,
    requested_by text NOT NULL,
    inserted_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    finished_at timestamptz
);
CREATE INDEX erasures_unfinished ON erasures (environment, id) WHERE status IN ('queued', 'processing');

CREATE TABLE erasure_events (
    erasure_id uuid NOT NULL REFERENCES erasures (id) ON DELETE CASCADE,
    event_id uuid NOT NULL,
    PRIMARY KEY (erasure_id, event_id)
);

ALTER TABLE events ADD COLUMN erased_at timestamptz;
CREATE INDEX events_by_original ON events (replay_of, id) WHERE replay_of IS NOT NULL;
CREATE INDEX events_by_repeated ON events (duplicate_of) WHERE duplicate_of IS NOT NULL;
"""

# The log is filtered by what its actions were: from the action's side, in the order of events. A skipped
# action has no idempotency key, and neither that nor anything else in these indexes changes when an attempt
# is recorded.
FILTERS = """
ALTER TABLE actions ADD COLUMN environment text, ADD COLUMN source_key text;
UPDATE actions SET environment = events.environment, source_key = events.source_key
FROM events WHERE events.id = actions.event_id;
CREATE INDEX actions_by_type ON actions (environment, source_key, action_type, event_id);
CREATE INDEX actions_not_sent ON actions (environment, source_key, event_id) WHERE idempotency_key IS NULL;
"""


def upgrade() -> None:
    op.execute(RETENTION)
    op.execute(ERASURES)
    op.execute(FILTERS)


def downgrade() -> None:
    op.execute("DROP INDEX actions_not_sent, actions_by_type")
    op.execute("ALTER TABLE actions DROP COLUMN source_key, DROP COLUMN environment")
    op.execute("DROP INDEX events_by_repeated, events_by_original")
    op.execute("ALTER TABLE events DROP COLUMN erased_at")
    op.execute("DROP TABLE erasure_events, erasures, retention")
