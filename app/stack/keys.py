"""The keys that `doorbell dev` makes for itself once, and keeps in its data directory."""

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.fernet import Fernet

from app.core.settings import Settings


@dataclass(frozen=True, repr=False)
class Keys:
    """What `api` and `worker` refuse to start without."""

    secret_key: str
    admin_token: str

    @classmethod
    def keep(cls, data_dir: Path, settings: Settings) -> "Keys":
        """The keys that are set, else the ones kept in the directory, which are made when missing."""
        return cls(
            secret_key=settings.secret_key.get_secret_value()
            if settings.secret_key
            else _kept(secret_key_path(data_dir), lambda: Fernet.generate_key().decode()),
            admin_token=settings.admin_token.get_secret_value()
            if settings.admin_token
            else _kept(admin_token_path(data_dir), lambda: f"dbl_st_{secrets.token_urlsafe(32)}"),
        )


def secret_key_path(data_dir: Path) -> Path:
    """Where the keys that encrypt secrets are kept."""
    return data_dir / "secret-key"


def admin_token_path(data_dir: Path) -> Path:
    """Where people find the token that opens the Management API."""
    return data_dir / "admin-token"


def _kept(path: Path, make: Callable[[], str]) -> str:
    if not path.exists():
        _write(path, make())
    return path.read_text().strip()


def _write(path: Path, key: str) -> None:
    """Whole or not at all: what is encrypted with half a key is lost."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f"{key}\n")
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
