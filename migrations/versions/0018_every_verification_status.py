"""Events are found by any verification status, also by the one that most have where it is rare."""

from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    op.execute("""
        CREATE INDEX events_by_verification ON events (environment, source_key, verification_status, id)
    """)
    op.execute("DROP INDEX events_unverified")


def downgrade() -> None:
    op.execute("""
        CREATE INDEX events_unverified ON events (environment, source_key, verification_status, id)
        WHERE verification_status <> 'enforced:verified'
    """)
    op.execute("DROP INDEX events_by_verification")
