"""The first tables: configuration, event log, action log, credentials, embedded directory."""

from alembic import op

revision = "0001"
down_revision = None
# Why `doorbell db downgrade` refuses to go back before this revision, without changing anything.
CANNOT_BE_UNDONE = "it made the first tables, with the whole event log; to remove them, drop the database"

CONFIGURATION = """
CREATE TABLE environments (
    slug text PRIMARY KEY,
    name text NOT NULL,
    "order" integer NOT NULL,
    owner text NOT NULL,
    label_color text,
    hide_pii_data boolean NOT NULL,
    is_production boolean NOT NULL,
    destination_url text,
    destination_key bytea,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    deleted_at timestamptz
);

CREATE TABLE sources (
    key text PRIMARY KEY,
    name text NOT NULL,
    description text,
    custom_image_url text,
    provider text NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);

CREATE TABLE source_environments (
    id uuid PRIMARY KEY,
    source_key text NOT NULL REFERENCES sources (key) ON DELETE CASCADE,
    environment text NOT NULL REFERENCES environments (slug),
    endpoint_token text NOT NULL UNIQUE,
    event_type_path text,
    idempotency_key_path text,
    timestamp_path text,
    enforce_verification boolean NOT NULL,
    enforce_idempotency boolean NOT NULL,
    idempotency_window interval NOT NULL,
    start_unmapped boolean NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    UNIQUE (source_key, environment)
);

CREATE TABLE signing_secrets (
    id uuid PRIMARY KEY,
    source_environment_id uuid NOT NULL REFERENCES source_environments (id) ON DELETE CASCADE,
    ciphertext bytea NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz
);
CREATE INDEX ix_signing_secrets_source_environment_id ON signing_secrets (source_environment_id);

CREATE TABLE mappings (
    id uuid PRIMARY KEY,
    source_environment_id uuid NOT NULL REFERENCES source_environments (id) ON DELETE CASCADE,
    event_type text NOT NULL,
    action_type text NOT NULL,
    action_parameters json NOT NULL,
    active boolean NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE INDEX ix_mappings_source_environment_id ON mappings (source_environment_id);

CREATE TABLE service_tokens (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    scope text NOT NULL,
    token_hash text NOT NULL UNIQUE,
    created_at timestamptz NOT NULL,
    last_used_at timestamptz,
    revoked_at timestamptz
);

CREATE TABLE environment_keys (
    id uuid PRIMARY KEY,
    environment text NOT NULL REFERENCES environments (slug),
    name text NOT NULL,
    key_hash text NOT NULL UNIQUE,
    created_at timestamptz NOT NULL,
    revoked_at timestamptz
);
"""

# Processes keep the configuration in memory: every change tells them, whoever made it.
CONFIGURATION_CHANGES = """
CREATE FUNCTION doorbell_notify_configuration() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NOTIFY doorbell_configuration;
    RETURN NULL;
END
$$;
"""
CONFIGURATION_TABLES = ("environments", "sources", "source_environments", "signing_secrets", "mappings")

LOGS = """
CREATE TABLE events (
    id uuid PRIMARY KEY,
    environment text NOT NULL,
    source_key text NOT NULL,
    event_type text,
    idempotency_key text,
    status text NOT NULL,
    verification_status text NOT NULL,
    verification_reason text,
    origin text,
    replay_of uuid,
    duplicate_of uuid,
    received_at timestamptz NOT NULL,
    occurred_at timestamptz,
    finished_at timestamptz,
    lease_expires_at timestamptz,
    workflow_id text,
    run_id text,
    error text
) PARTITION BY RANGE (id);
CREATE INDEX events_received ON events (environment, source_key, id) WHERE status = 'received';
CREATE INDEX events_processing ON events (environment, lease_expires_at) WHERE status = 'processing';
CREATE INDEX events_by_source ON events (environment, source_key, id);
CREATE INDEX events_by_type ON events (environment, source_key, event_type, id);
CREATE INDEX events_by_outcome ON events (environment, source_key, status, id)
    WHERE status NOT IN ('received', 'processing');
CREATE TABLE events_default PARTITION OF events DEFAULT;

CREATE TABLE event_payloads (
    id uuid PRIMARY KEY,
    body bytea NOT NULL,
    headers json NOT NULL,
    sensitive_headers bytea,
    preprocess_output json
) PARTITION BY RANGE (id);
CREATE TABLE event_payloads_default PARTITION OF event_payloads DEFAULT;

CREATE TABLE actions (
    id uuid PRIMARY KEY,
    event_id uuid NOT NULL,
    mapping_id uuid NOT NULL,
    action_type text NOT NULL,
    parameters json NOT NULL,
    payload json,
    idempotency_key text,
    status text NOT NULL,
    result json,
    error text,
    attempts integer NOT NULL,
    started_at timestamptz,
    finished_at timestamptz
) PARTITION BY RANGE (id);
CREATE TABLE actions_default PARTITION OF actions DEFAULT;
"""

DIRECTORY = """
CREATE TABLE directory_users (
    environment text NOT NULL,
    id text NOT NULL,
    properties json NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (environment, id)
);

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

CREATE TABLE idempotent_responses (
    environment text NOT NULL,
    key text NOT NULL,
    request_digest text NOT NULL,
    request_id text NOT NULL,
    response json NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (environment, key)
);
CREATE INDEX ix_idempotent_responses_created_at ON idempotent_responses (created_at);
"""

ENVIRONMENTS = """
INSERT INTO environments (slug, name, "order", owner, hide_pii_data, is_production, created_at, updated_at)
VALUES ('development', 'Development', 0, 'system', false, false, now(), now()),
       ('production', 'Production', 1, 'system', false, true, now(), now());
"""


def upgrade() -> None:
    op.execute(CONFIGURATION)
    op.execute(CONFIGURATION_CHANGES)
    for table in CONFIGURATION_TABLES:
        op.execute(
            f"CREATE TRIGGER {table}_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION doorbell_notify_configuration()"
        )
    op.execute(LOGS)
    op.execute(DIRECTORY)
    op.execute(ENVIRONMENTS)


def downgrade() -> None:
    raise NotImplementedError(CANNOT_BE_UNDONE)
