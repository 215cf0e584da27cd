"""Rate limits of destinations, kept by all worker processes together, and how far an action of several calls
is."""

from alembic import op

revision = "0008"
down_revision = "0007"

# All times are in seconds from the moment that the row is held: callers and Postgres need not agree on the
# clock.
TAKE_SLOTS = """
CREATE FUNCTION doorbell_take_slots(
    wanted text, due integer, fresh integer, spare integer, spacing double precision,
      horizon double precision,
    OUT due_granted integer, OUT fresh_granted integer, OUT spare_granted integer,
    OUT first_slot double precision, OUT first_turn double precision
)
LANGUAGE plpgsql AS $$
DECLARE
    held rate_limits;
    moment timestamptz;
    room integer;
    granted integer;
    refused integer;
BEGIN
    SELECT * INTO held FROM rate_limits WHERE key = wanted FOR UPDATE;
    IF NOT FOUND THEN
        INSERT INTO rate_limits (key, next_slot, next_turn) VALUES (wanted, now(), now())
        ON CONFLICT (key) DO NOTHING;
        SELECT * INTO held FROM rate_limits WHERE key = wanted FOR UPDATE;
    END IF;
    moment := clock_timestamp();
    first_slot := greatest(0, extract(epoch FROM held.next_slot - moment));
    first_turn := greatest(0, extract(epoch FROM held.next_turn - moment));
    room := CASE WHEN first_slot > horizon THEN 0
      ELSE floor((horizon - first_slot) / spacing)::integer + 1 END;
    due_granted := least(due, room);
    -- Those whose turn comes within the horizon go before those who come for the first time.
    room := greatest(0, room - due_granted - ceil(least(first_turn, horizon) / spacing)::integer);
    fresh_granted := least(fresh, room);
    spare_granted := least(spare, room - fresh_granted);
    granted := due_granted + fresh_granted + spare_granted;
    refused := due + fresh - due_granted - fresh_granted;
    first_turn := greatest(first_turn, first_slot + granted * spacing);
    UPDATE rate_limits SET
        next_slot = CASE WHEN granted = 0 THEN held.next_slot
            ELSE moment + (first_slot + granted * spacing) * interval '1 second' END,
        next_turn = CASE WHEN refused = 0 THEN held.next_turn
            ELSE moment + (first_turn + refused * spacing) * interval '1 second' END
    WHERE key = wanted;
END
$$
"""


def upgrade() -> None:
    op.execute("""
        CREATE UNLOGGED TABLE rate_limits (
            key text PRIMARY KEY,
            next_slot timestamptz NOT NULL,
            next_turn timestamptz NOT NULL
        )
    """)
    op.execute(TAKE_SLOTS)
    op.execute("ALTER TABLE actions ADD COLUMN calls integer NOT NULL DEFAULT 0")


def downgrade() -> None:
    op.execute("ALTER TABLE actions DROP COLUMN calls")
    op.execute("DROP FUNCTION doorbell_take_slots")
    op.execute("DROP TABLE rate_limits")
