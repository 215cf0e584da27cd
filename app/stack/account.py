"""Postgres refuses to run as root. When we are root, this finds a system user for it and lets it reach its
files."""

import logging
import os
import pwd
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

from app.core.errors import ConfigurationError

logger = logging.getLogger(__name__)

_EXISTING = "postgres"
_OWN = "doorbell-postgres"


@dataclass(frozen=True)
class Account:
    """A system user."""

    name: str
    uid: int
    gid: int

    @property
    def ids(self) -> tuple[int, int]:
        return self.uid, self.gid


def choose_account(cluster: Path) -> Account | None:
    """The user that runs Postgres: ourselves (None), unless we are root. An existing cluster keeps its
    owner."""
    if os.geteuid() != 0:
        return None
    owner = _by_uid(cluster.stat().st_uid) if cluster.exists() else None
    if owner and owner.uid != 0:
        return owner
    return _by_name(_EXISTING) or _by_name(_OWN) or _create()


def hand_over(account: Account | None, directory: Path) -> None:
    """Make a private directory, and give it and everything in it to the account."""
    directory.mkdir(mode=0o700, exist_ok=True)
    if account is None or directory.stat().st_uid == account.uid:
        return
    for path in (*directory.rglob("*"), directory):
        os.chown(path, *account.ids, follow_symlinks=False)


def let_reach(account: Account, *paths: Path) -> None:
    """Let the account pass through the parents of these paths. Says which ones it had to open for that."""
    for directory in dict.fromkeys(parent for path in paths for parent in reversed(path.parents)):
        mode = directory.stat().st_mode
        if not _may_pass(account, directory.stat()):
            directory.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)
            logger.warning("made %s passable (o+x) for user %s, who runs Postgres", directory, account.name)


def require_runnable(account: Account, binary: Path) -> None:
    """Check that the account can execute the binary.

    Raises:
        ConfigurationError: it cannot.
    """
    try:
        uid, gid = account.ids
        subprocess.run(
            [binary, "--version"],
            user=uid,
            group=gid,
            extra_groups=[],
            cwd="/",
            capture_output=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        raise ConfigurationError(
            f"Postgres does not run as root, and user {account.name} cannot execute {binary}. Run as a "
            "normal user, or make that file and its libraries readable for others (chmod -R o+rX "
            f"{binary.parent.parent})"
        ) from None


def _may_pass(account: Account, status: os.stat_result) -> bool:
    if status.st_uid == account.uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == account.gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def _by_name(name: str) -> Account | None:
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _by_uid(uid: int) -> Account | None:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _create() -> Account:
    """Make the system user, with what the system has for that: shadow's useradd, or BusyBox's adduser."""
    if shutil.which("useradd"):
        command = ["useradd", "--system", "--user-group", "--no-create-home", "--shell", "/bin/false", _OWN]
    else:
        command = ["adduser", "-S", "-D", "-H", "-s", "/bin/false", _OWN]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise ConfigurationError(
            f"Postgres does not run as root, and a system user for it could not be made ({error}). Run as a "
            f"normal user, or create the user yourself: {' '.join(command)}"
        ) from None
    logger.warning("created the system user %s, who runs Postgres", _OWN)
    account = _by_name(_OWN)
    if account is None:
        raise ConfigurationError(
            f"the system user {_OWN} was created, but cannot be found. Run as a normal user"
        )
    return account
