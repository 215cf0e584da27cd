"""The Management API's own: replaced endpoint tokens, the audit log, replays of what was evaluated then, and
the indexes of the log's filters."""

from alembic import op

revision = "0005"
down_revision = "0004"

REPLACED_TOKENS = """
CREATE TABLE replaced_endpoint_tokens (
    token text PRIMARY KEY,
    source_environment_id uuid NOT NULL REFERENCES source_environments (id) ON DELETE CASCADE,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX ix_replaced_endpoint_tokens_source_environment_id
  ON replaced_endpoint_tokens (source_environment_id);
CREATE TRIGGER replaced_endpoint_tokens_changed
    AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON replaced_endpoint_tokens
    FOR EACH STATEMENT EXECUTE FUNCTION doorbell_notify_configuration();
"""

AUDIT_LOG = """
CREATE TABLE audit_log (
    id uuid PRIMARY KEY,
    actor_name text NOT NULL,
    actor_scope text NOT NULL,
    action text NOT NULL,
    environment text,
    resource_type text NOT NULL,
    resource_key text NOT NULL,
    before json,
    after json,
    inserted_at timestamptz NOT NULL
);
CREATE INDEX audit_log_by_resource ON audit_log (resource_type, resource_key, id);
"""

# Most events verify, and most have an idempotency key that nobody looks for: the first index holds the others
# only, the second is narrow.
EVENTS = """
ALTER TABLE events ADD COLUMN replay_mappings text;
CREATE INDEX events_unverified ON events (environment, source_key, verification_status, id)
    WHERE verification_status <> 'enforced:verified';
CREATE INDEX events_by_idempotency_key ON events (idempotency_key, id) WHERE idempotency_key IS NOT NULL;
"""


def upgrade() -> None:
    op.execute(REPLACED_TOKENS)
    op.execute(AUDIT_LOG)
    op.execute(EVENTS)


def downgrade() -> None:
    op.execute("DROP INDEX events_by_idempotency_key, events_unverified")
    op.execute("ALTER TABLE events DROP COLUMN replay_mappings")
    op.execute("DROP TABLE audit_log, replaced_endpoint_tokens")
