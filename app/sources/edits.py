"""Sources edited by people and tools, each change with its entry in the audit log: a source as a whole, under
its lock and only as the editor saw it; its endpoint, signing secrets and promotion.

The caller commits.
"""

from datetime import datetime, timedelta
from uuid import UUID

from sqlmodel.ext.asyncio.session import AsyncSession

from app.account.audit import Snapshot, note_change, note_source_change, snapshot
from app.account.tokens import Access
from app.alerts.secrets import get_alert_secret, set_alert_secret
from app.core.secrets import SecretBox
from app.models.alert import AlertSecret
from app.models.source import SigningSecret, Source, SourceEnvironment
from app.scripting.pool import Scripts
from app.sources.changes import given_secrets, script_errors
from app.sources.endpoints import end_overlap, rotate_endpoint
from app.sources.promotion import Promotion, promote
from app.sources.signing_secrets import add_secret, delete_secret, list_secrets
from app.sources.store import ConfiguredSource, get_source, lock_source, shown_alert, upsert_source
from app.sources.versions import check_match, source_version


async def edit_source(
    session: AsyncSession,
    access: Access,
    key: str,
    environment: str,
    body: object,
    if_match: str | None,
    *,
    scripts: Scripts,
    box: SecretBox,
) -> ConfiguredSource:
    """Create or change a source as a request's body says. `scripts` tries whether its scripts can run, `box`
    keeps its secrets.

    Raises:
        RequestError: 403, it changes more than the caller may; 412, it is not as `if_match` says; 422, naming
            everything that is wrong.
    """
    # Before the lock: a script may take its time.
    unusable = await script_errors(scripts, body)
    await lock_source(session, key)
    found = await get_source(session, key) if await session.get(Source, key) else None
    check_match(if_match, None if found is None else source_version(found), f"Source {key!r}")
    before = source_snapshot(found)
    source = await upsert_source(session, key, environment, body, unusable_scripts=unusable)
    after = source_snapshot(source)
    _check_limits(access, before, after)
    action = "source.created" if before is None else "source.updated"
    note_change(session, access, action, ("source", key), before=before, after=after)
    for slug, value in given_secrets(body).items():
        await _add_given_secret(session, access, box, source.environments[slug].settings, value)
    return source


async def remove_source(session: AsyncSession, access: Access, key: str, if_match: str | None) -> None:
    """Delete a source with its settings, mappings, secrets and keys in all environments. Its log stays.

    Raises:
        RequestError: 403, the caller is limited to some environments; 404, there is none; 412, it is not as
            `if_match` says.
    """
    if access.environments is not None:
        raise access.refused("deleting a source concerns all environments")
    await lock_source(session, key)
    found = await get_source(session, key)
    check_match(if_match, source_version(found), f"Source {key!r}")
    note_change(session, access, "source.deleted", ("source", key), before=source_snapshot(found))
    await session.delete(found.source)
    await session.flush()


async def _add_given_secret(
    session: AsyncSession, access: Access, box: SecretBox, configured: SourceEnvironment, value: str
) -> None:
    """Add a signing secret that came with the settings, unless the source has it."""
    access.require(configured.environment)
    present = await list_secrets(session, configured)
    if all(box.decrypt(each.ciphertext).decode() != value for each in present):
        await add_signing_secret(
            session, access, box, configured, value, expires_at=None, expire_others_in_seconds=None
        )


async def rotate(session: AsyncSession, access: Access, configured: SourceEnvironment, seconds: int) -> None:
    """Give the endpoint a new URL; the present one goes on for so many seconds."""
    await rotate_endpoint(session, configured, timedelta(seconds=seconds))
    note_source_change(session, access, "endpoint.rotated", configured, after={"overlap_seconds": seconds})


async def end_rotation(session: AsyncSession, access: Access, configured: SourceEnvironment) -> None:
    """Let URLs from before a rotation receive nothing from now on."""
    await end_overlap(session, configured)
    note_source_change(session, access, "endpoint.overlap_ended", configured)


async def add_signing_secret(
    session: AsyncSession,
    access: Access,
    box: SecretBox,
    configured: SourceEnvironment,
    value: str,
    *,
    expires_at: datetime | None,
    expire_others_in_seconds: int | None,
) -> SigningSecret:
    """Add a signing secret. Raises as `add_secret` does."""
    overlap = None if expire_others_in_seconds is None else timedelta(seconds=expire_others_in_seconds)
    secret = await add_secret(
        session, box, configured, value, expires_at=expires_at, expire_others_in=overlap
    )
    note_source_change(session, access, "signing_secret.added", configured, after=snapshot(secret))
    return secret


async def remove_signing_secret(
    session: AsyncSession, access: Access, configured: SourceEnvironment, identifier: UUID
) -> None:
    """Remove a signing secret. Raises as `delete_secret` does."""
    await delete_secret(session, configured, identifier)
    note_source_change(session, access, "signing_secret.deleted", configured, before={"id": str(identifier)})


async def save_alert_secret(
    session: AsyncSession, access: Access, box: SecretBox, configured: SourceEnvironment, value: str
) -> AlertSecret:
    """Sign the source's alerts with a secret. Raises as `set_alert_secret` does."""
    secret = await set_alert_secret(session, box, configured, value)
    note_source_change(session, access, "alert_secret.set", configured, after=snapshot(secret))
    return secret


async def remove_alert_secret(session: AsyncSession, access: Access, configured: SourceEnvironment) -> None:
    """Sign the source's alerts no longer. Raises as `get_alert_secret` does."""
    secret = await get_alert_secret(session, configured)
    await session.delete(secret)
    note_source_change(session, access, "alert_secret.deleted", configured, before=snapshot(secret))


async def promote_source(
    session: AsyncSession,
    access: Access,
    key: str,
    origin: str,
    target: str,
    *,
    dry_run: bool,
    if_match: str | None,
) -> Promotion:
    """Promote a source from one environment to another. Raises as `promote` does, and 403 for other
    environments."""
    access.require(origin, target)
    done = await promote(session, key, origin, target, dry_run=dry_run, if_match=if_match)
    if not dry_run and done.differences:
        differences = [vars(each) for each in done.differences]
        after = {"from": origin, "to": target, "applied": True, "differences": differences}
        note_change(session, access, "source.promoted", ("source", key), environment=target, after=after)
    return done


def _check_limits(access: Access, before: Snapshot | None, after: Snapshot | None) -> None:
    """Refuse a change of what is not of the environments that the caller's token is limited to.

    A new source is configured in every environment.
    """
    if access.environments is None:
        return
    if before is None or after is None or _without(before) != _without(after):
        raise access.refused("a new source, its name and its description concern all environments")
    earlier, later = before["environment_settings"], after["environment_settings"]
    access.require(*(slug for slug in later if earlier.get(slug) != later[slug]))


def _without(source: Snapshot) -> Snapshot:
    """What a source is in all environments."""
    return {name: value for name, value in source.items() if name != "environment_settings"}


def source_snapshot(found: ConfiguredSource | None) -> Snapshot | None:
    """A source with its settings and mappings by environment."""
    if found is None:
        return None
    environments = {
        slug: {
            "settings": {
                **{
                    name: value
                    for name, value in snapshot(each.settings).items()
                    if name not in ("id", "source_key", "environment")
                },
                "failure_alert": shown_alert(each.settings.failure_alert),
            },
            "mappings": [snapshot(mapping) for mapping in each.mappings],
        }
        for slug, each in found.environments.items()
    }
    return {**snapshot(found.source), "environment_settings": environments}
