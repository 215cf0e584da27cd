"""Which Doorbell a command is about: the one that the settings name, else the `doorbell dev` here."""

from pathlib import Path

from pydantic import SecretStr

from app.core.errors import ConfigurationError
from app.core.settings import Settings
from app.stack.keys import secret_key_path
from app.stack.postgres import DATABASE, EmbeddedPostgres


def find_installation(settings: Settings) -> Settings:
    """The settings when they name a database, else with what `doorbell dev` keeps in the data directory.

    Raises:
        ConfigurationError: neither is there.
    """
    if settings.database_url is not None:
        if settings.secret_key is None:
            raise ConfigurationError("DOORBELL_DATABASE_URL is set, DOORBELL_SECRET_KEY is not: set both")
        return settings
    data_dir = settings.data_dir.resolve()
    secret_key = settings.secret_key or _kept_secret_key(data_dir)
    if secret_key is None or not (data_dir / "postgres").is_dir():
        raise ConfigurationError(
            f"no Doorbell found: `doorbell dev` was never run on {data_dir} (DOORBELL_DATA_DIR), and "
            "DOORBELL_DATABASE_URL and DOORBELL_SECRET_KEY are not set"
        )
    return settings.model_copy(update={"database_url": _embedded_url(data_dir), "secret_key": secret_key})


def _kept_secret_key(data_dir: Path) -> SecretStr | None:
    path = secret_key_path(data_dir)
    return SecretStr(path.read_text().strip()) if path.exists() else None


def _embedded_url(data_dir: Path) -> str:
    url = EmbeddedPostgres(data_dir / "postgres").url(DATABASE)
    return url.replace("postgresql://", "postgresql+psycopg://", 1)
