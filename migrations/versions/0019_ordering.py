"""Ordering keys: events of one key are executed one after the other, in the order of receipt.

The previous version may run meanwhile: it finds and claims events as before, and writes them without keys, so
that they are not ordered. `events_ready` is the index of its `events_received` without those that wait for an
earlier event; its expression is one that no other index fits.
"""

from alembic import op

revision = "0019"
down_revision = "0018"

SETTINGS = """
ALTER TABLE source_environments ADD COLUMN ordering_key_path text, ADD COLUMN ordering_hold integer;
UPDATE source_environments SET ordering_key_path = known.path
FROM sources JOIN (VALUES
    ('amplitude', 'preprocess.ordering_keys'),
    ('census', 'preprocess.ordering_keys'),
    ('clay', 'body.email'),
    ('clerk', 'preprocess.ordering_keys'),
    ('freshpaint', 'preprocess.ordering_keys'),
    ('github', 'preprocess.ordering_keys'),
    ('hightouch', 'preprocess.ordering_keys'),
    ('http', 'preprocess.ordering_keys'),
    ('jitsu', 'preprocess.ordering_keys'),
    ('polytomic', 'preprocess.ordering_keys'),
    ('posthog', 'body.userId'),
    ('rudderstack', 'preprocess.ordering_keys'),
    ('segment', 'preprocess.ordering_keys'),
    ('shopify', 'preprocess.ordering_keys'),
    ('stripe', 'preprocess.ordering_keys'),
    ('supabase', 'preprocess.ordering_keys'),
    ('workos', 'preprocess.ordering_keys')
) AS known (provider, path) ON known.provider = sources.provider
WHERE source_environments.source_key = sources.key;
"""

# The default comes after the column: together they would write every row anew.
EVENTS = """
CREATE SEQUENCE events_received_order;
ALTER TABLE events ADD COLUMN ordering_keys text[], ADD COLUMN received_order bigint,
    ADD COLUMN waiting_for uuid;
ALTER TABLE events ALTER COLUMN received_order SET DEFAULT nextval('events_received_order');
CREATE INDEX events_ready ON events (environment, source_key, id)
WHERE (CASE WHEN waiting_for IS NULL THEN status END) = 'received';
CREATE INDEX events_waiting_for ON events (waiting_for, environment) WHERE waiting_for IS NOT NULL;
"""

# Rows come and go with the events in flight: vacuumed by their number, not by a share of the table.
TURNS = """
CREATE TABLE ordering_turns (
    environment text NOT NULL,
    source_key text NOT NULL,
    ordering_key text NOT NULL,
    received_order bigint NOT NULL,
    event_id uuid NOT NULL,
    taken_at timestamptz,
    PRIMARY KEY (environment, source_key, ordering_key, received_order)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
CREATE INDEX ordering_turns_taken ON ordering_turns (environment, source_key, ordering_key)
WHERE taken_at IS NOT NULL;
"""


def upgrade() -> None:
    op.execute(SETTINGS)
    op.execute(EVENTS)
    op.execute(TURNS)


def downgrade() -> None:
    op.execute("DROP TABLE ordering_turns")
    op.execute("DROP INDEX events_waiting_for")
    op.execute("DROP INDEX events_ready")
    op.execute(
        "ALTER TABLE events DROP COLUMN ordering_keys, DROP COLUMN received_order, DROP COLUMN waiting_for"
    )
    op.execute("DROP SEQUENCE events_received_order")
    op.execute("ALTER TABLE source_environments DROP COLUMN ordering_key_path, DROP COLUMN ordering_hold")
