"""Recipients are found by the beginning of their id, name or email address."""

from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    # By id too: the primary key serves prefixes in databases of the collation C only.
    op.execute("""
CREATE INDEX directory_recipients_by_id_prefix
  ON directory_recipients (environment, collection, id text_pattern_ops);
CREATE INDEX directory_recipients_by_name ON directory_recipients
    (environment, collection, lower(properties ->> 'name') text_pattern_ops)
      WHERE properties ->> 'name' IS NOT NULL;
CREATE INDEX directory_recipients_by_email ON directory_recipients
    (environment, collection, lower(properties ->> 'email') text_pattern_ops)
      WHERE properties ->> 'email' IS NOT NULL;
""")


def downgrade() -> None:
    op.execute("""
DROP INDEX directory_recipients_by_email;
DROP INDEX directory_recipients_by_name;
DROP INDEX directory_recipients_by_id_prefix;
""")
