"""Actions of events that have ended are ended too, and an action says when it is tried again.

Those of events that were cancelled, terminated or found to repeat another one stayed pending, and nothing
looks after the actions of an event that has ended.
"""

from alembic import op

revision = "0027"
down_revision = "0026"


def upgrade() -> None:
    op.execute("ALTER TABLE actions ADD COLUMN next_attempt_at timestamptz")
    end_actions()


def end_actions() -> None:
    # What repeats another event and sent nothing has no actions.
    op.execute("""
        DELETE FROM actions USING events
        WHERE actions.status = 'pending' AND events.id = actions.event_id
          AND events.status = 'idempotent' AND actions.attempts = 0
    """)
    op.execute("""
        UPDATE actions SET finished_at = coalesce(events.finished_at, now()),
            status = CASE events.status WHEN 'succeeded' THEN 'succeeded' ELSE 'failed' END,
            error = CASE WHEN events.status <> 'succeeded' THEN concat_ws('; last attempt: ',
                CASE events.status WHEN 'idempotent' THEN 'not run any more: the event repeats another one'
                ELSE 'not run any more: ' || coalesce(events.error, 'the event ended') END, actions.error) END
        FROM events
        WHERE actions.status = 'pending' AND events.id = actions.event_id
          AND events.status NOT IN ('received', 'processing')
    """)


def downgrade() -> None:
    # The previous version reads ended actions as they are.
    op.execute("ALTER TABLE actions DROP COLUMN next_attempt_at")
