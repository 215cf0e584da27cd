"""Default mappings of reverse ETL tools map the structured fields of a profile.

Custom properties no longer reach them: a tenant's `settings`, `channel_data` and `preferences` that a tool
sends would be left out by mappings that were made before.
"""

from alembic import op

revision = "0023"
down_revision = "0022"

_ADDED = {
    ("users_identify", "user"): ("channel_data", "preferences"),
    ("objects_set", "object"): ("channel_data", "preferences"),
    ("tenants_set", "tenant"): ("settings", "channel_data"),
}


def upgrade() -> None:
    for (action_type, what), fields in _ADDED.items():
        added = ", ".join(f"'{field}', 'body.{what}.{field}'" for field in fields)
        op.execute(f"""
            UPDATE mappings
            SET action_parameters = (jsonb_build_object({added}) || action_parameters::jsonb)::json
            FROM source_environments AS configured JOIN sources ON sources.key = configured.source_key
            WHERE configured.id = mappings.source_environment_id
              AND sources.provider IN ('hightouch', 'census', 'polytomic')
              AND mappings.action_type = '{action_type}'
              AND mappings.action_parameters->>'properties' = 'body.{what}'
        """)


def downgrade() -> None:
    """The previous version reads these parameters as well, and sends the same."""
