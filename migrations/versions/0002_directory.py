"""The embedded directory in full: users, objects and tenants as recipients, subscriptions, audiences,
workflow runs, bulk operations."""

from alembic import op

revision = "0002"
down_revision = "0001"

# Properties are merged as deep as they go, in the database, so that concurrent requests lose nothing.
MERGING = """
CREATE FUNCTION doorbell_deep_merge(stored jsonb, given jsonb) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    IF given = '{}' THEN
        RETURN stored;
    END IF;
    RETURN stored || given || coalesce(
        (SELECT jsonb_object_agg(key, doorbell_deep_merge(stored -> key, value)) FROM jsonb_each(given)
         WHERE jsonb_typeof(value) = 'object' AND jsonb_typeof(stored -> key) = 'object'),
        '{}'
    );
END
$$;

CREATE FUNCTION doorbell_merge_preferences(stored jsonb, given jsonb) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    IF given = '{}' THEN
        RETURN stored;
    END IF;
    RETURN stored || (
        SELECT jsonb_object_agg(
            key,
            CASE
                WHEN value ->> '__persistence_strategy__' = 'replace' OR stored -> key IS NULL THEN value
                ELSE doorbell_deep_merge(stored -> key, value)
            END
        )
        FROM jsonb_each(given)
    );
END
$$;
"""

# Knock keeps tenants as objects of the collection $tenants; here users are objects of $users as well.
RECIPIENTS = """
CREATE TABLE directory_recipients (
    environment text NOT NULL,
    collection text NOT NULL,
    id text NOT NULL,
    properties jsonb NOT NULL,
    channel_data jsonb NOT NULL,
    preferences jsonb NOT NULL,
    inserted_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (environment, collection, id)
);
INSERT INTO directory_recipients
SELECT environment, '$users', id, properties::jsonb, '{}', '{}', created_at, updated_at FROM directory_users;
DROP TABLE directory_users;

CREATE TABLE directory_subscriptions (
    environment text NOT NULL,
    collection text NOT NULL,
    object_id text NOT NULL,
    recipient_collection text NOT NULL,
    recipient_id text NOT NULL,
    properties jsonb NOT NULL,
    inserted_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (environment, collection, object_id, recipient_collection, recipient_id),
    FOREIGN KEY (environment, collection, object_id)
        REFERENCES directory_recipients (environment, collection, id) ON DELETE CASCADE,
    FOREIGN KEY (environment, recipient_collection, recipient_id)
        REFERENCES directory_recipients (environment, collection, id) ON DELETE CASCADE
);
CREATE INDEX directory_subscriptions_by_recipient
    ON directory_subscriptions (environment, recipient_collection, recipient_id, collection, object_id);

CREATE TABLE directory_audiences (
    environment text NOT NULL,
    key text NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (environment, key)
);

CREATE TABLE directory_audience_members (
    environment text NOT NULL,
    key text NOT NULL,
    user_collection text NOT NULL DEFAULT '$users' CHECK (user_collection = '$users'),
    user_id text NOT NULL,
    tenant text NOT NULL,
    added_at timestamptz NOT NULL,
    PRIMARY KEY (environment, key, user_id, tenant),
    FOREIGN KEY (environment, key) REFERENCES directory_audiences (environment, key) ON DELETE CASCADE,
    FOREIGN KEY (environment, user_collection, user_id)
        REFERENCES directory_recipients (environment, collection, id) ON DELETE CASCADE
);
CREATE INDEX directory_audience_members_by_user ON directory_audience_members (environment, user_id);
"""

# What all recipients of a trigger share is kept once.
WORKFLOW_RUNS = """
CREATE TABLE workflow_runs (
    id uuid PRIMARY KEY,
    environment text NOT NULL,
    workflow text NOT NULL,
    actor_collection text,
    actor_id text,
    tenant text,
    cancellation_key text,
    data json,
    settings json,
    inserted_at timestamptz NOT NULL
);

DROP TABLE workflow_recipient_runs;
CREATE TABLE workflow_recipient_runs (
    id uuid PRIMARY KEY,
    environment text NOT NULL,
    workflow_run_id uuid NOT NULL REFERENCES workflow_runs (id) ON DELETE CASCADE,
    workflow text NOT NULL,
    recipient_collection text NOT NULL,
    recipient_id text NOT NULL,
    tenant text,
    cancellation_key text,
    status text NOT NULL,
    error_count integer NOT NULL,
    inserted_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE INDEX workflow_recipient_runs_by_environment ON workflow_recipient_runs (environment, id);
CREATE INDEX workflow_recipient_runs_by_workflow ON workflow_recipient_runs (environment, workflow, id);
CREATE INDEX workflow_recipient_runs_by_recipient
    ON workflow_recipient_runs (environment, recipient_collection, recipient_id, id);
CREATE INDEX workflow_recipient_runs_by_trigger ON workflow_recipient_runs (workflow_run_id);
CREATE INDEX workflow_recipient_runs_cancellation
    ON workflow_recipient_runs (environment, workflow, cancellation_key) WHERE cancellation_key IS NOT NULL;
"""

# `items` are worked off in order; `processed_rows` says how far, in the same transaction as the work.
BULK_OPERATIONS = """
CREATE TABLE bulk_operations (
    id uuid PRIMARY KEY,
    environment text NOT NULL,
    name text NOT NULL,
    collection text,
    status text NOT NULL,
    items json,
    estimated_total_rows integer NOT NULL,
    processed_rows integer NOT NULL,
    success_count integer NOT NULL,
    error_count integer NOT NULL,
    error_items json NOT NULL,
    inserted_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    started_at timestamptz,
    completed_at timestamptz,
    failed_at timestamptz
);
CREATE INDEX bulk_operations_unfinished ON bulk_operations (environment, id)
  WHERE status IN ('queued', 'processing');
"""

# As 0001 makes them.
EARLIER_USERS = """
CREATE TABLE directory_users (
    environment text NOT NULL,
    id text NOT NULL,
    properties json NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (environment, id)
);
INSERT INTO directory_users
SELECT environment, id, properties::json, inserted_at, updated_at FROM directory_recipients
WHERE collection = '$users';
"""
EARLIER_RUNS = """
CREATE TABLE workflow_recipient_runs (
    id uuid PRIMARY KEY,
    environment text NOT NULL,
    workflow_run_id uuid NOT NULL,
    workflow text NOT NULL,
    status text NOT NULL,
    recipient json NOT NULL,
    actor json,
    tenant text,
    cancellation_key text,
    data json,
    inserted_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE INDEX workflow_recipient_runs_by_environment ON workflow_recipient_runs (environment, id);
CREATE INDEX workflow_recipient_runs_cancellation
    ON workflow_recipient_runs (environment, workflow, cancellation_key);
"""


def upgrade() -> None:
    op.execute(MERGING)
    op.execute(RECIPIENTS)
    op.execute(WORKFLOW_RUNS)
    op.execute(BULK_OPERATIONS)


def downgrade() -> None:
    """Users stay with their properties. The previous version has no other recipients, and other runs."""
    op.execute("DROP TABLE bulk_operations")
    op.execute("DROP TABLE workflow_recipient_runs")
    op.execute("DROP TABLE workflow_runs")
    op.execute(EARLIER_RUNS)
    op.execute("DROP TABLE directory_audience_members, directory_audiences, directory_subscriptions")
    op.execute(EARLIER_USERS)
    op.execute("DROP TABLE directory_recipients")
    op.execute("DROP FUNCTION doorbell_merge_preferences(jsonb, jsonb)")
    op.execute("DROP FUNCTION doorbell_deep_merge(jsonb, jsonb)")
