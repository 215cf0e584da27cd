"""Replays of many events, and alerts about failures."""

from alembic import op

revision = "0013"
down_revision = "0012"

REPLAYS = """
CREATE TABLE replays (
    id uuid PRIMARY KEY,
    environment text NOT NULL,
    source_key text NOT NULL,
    status text NOT NULL,
    filter json NOT NULL,
    mappings text NOT NULL,
    rate_limit_per_second integer NOT NULL,
    started_by text NOT NULL,
    total integer NOT NULL,
    replayed integer NOT NULL,
    failed integer NOT NULL,
    payloads_missing integer NOT NULL,
    failures json NOT NULL,
    position uuid NOT NULL,
    error text,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    started_at timestamptz,
    finished_at timestamptz
);
CREATE INDEX replays_by_source ON replays (source_key, environment, id);
CREATE INDEX replays_by_status ON replays (environment, status, id);
ALTER TABLE events ADD COLUMN replay_id uuid;
CREATE INDEX events_by_replay ON events (replay_id, id) WHERE replay_id IS NOT NULL;
"""

# Failed events are few: the index costs nothing as long as all goes well.
ALERTS = """
CREATE INDEX events_failed ON events (environment, source_key, finished_at) WHERE status = 'failed';
ALTER TABLE source_environments ADD COLUMN failure_alert json;
CREATE TABLE alert_windows (
    source_environment_id uuid PRIMARY KEY REFERENCES source_environments (id) ON DELETE CASCADE,
    ends_at timestamptz NOT NULL
);
CREATE TABLE alert_secrets (
    source_environment_id uuid PRIMARY KEY REFERENCES source_environments (id) ON DELETE CASCADE,
    ciphertext bytea NOT NULL,
    created_at timestamptz NOT NULL
);
CREATE TABLE alerts (
    id uuid PRIMARY KEY,
    source_environment_id uuid NOT NULL REFERENCES source_environments (id) ON DELETE CASCADE,
    environment text NOT NULL,
    status text NOT NULL,
    report json NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE INDEX alerts_by_source ON alerts (source_environment_id, id);
CREATE INDEX alerts_by_status ON alerts (environment, status, id);
CREATE TABLE alert_deliveries (
    alert_id uuid NOT NULL REFERENCES alerts (id) ON DELETE CASCADE,
    channel text NOT NULL,
    receiver text NOT NULL,
    status text NOT NULL,
    attempts integer NOT NULL,
    error text,
    finished_at timestamptz,
    PRIMARY KEY (alert_id, channel)
);
"""


def upgrade() -> None:
    op.execute(REPLAYS)
    op.execute(ALERTS)


def downgrade() -> None:
    op.execute("DROP TABLE alert_deliveries, alerts, alert_secrets, alert_windows, replays")
    op.execute("ALTER TABLE source_environments DROP COLUMN failure_alert")
    op.execute("DROP INDEX events_failed, events_by_replay")
    op.execute("ALTER TABLE events DROP COLUMN replay_id")
