"""Secret values of workflow steps, encrypted, apart from the definitions and messages that need them; of
keys that a service token was exchanged for, which token.

The API of this version writes definitions whose secrets only workers of this version find: workers first.
"""

from alembic import op

revision = "0024"
down_revision = "0023"


def upgrade() -> None:
    op.execute("ALTER TABLE workflow_versions ADD COLUMN sealed bytea")
    op.execute("ALTER TABLE messages ADD COLUMN sealed bytea")
    op.execute("ALTER TABLE environment_keys ADD COLUMN exchanged_from text")


def downgrade() -> None:
    op.execute("ALTER TABLE environment_keys DROP COLUMN exchanged_from")
    op.execute("ALTER TABLE messages DROP COLUMN sealed")
    op.execute("ALTER TABLE workflow_versions DROP COLUMN sealed")
