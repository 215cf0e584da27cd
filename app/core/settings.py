"""Every setting of every process, read from `DOORBELL_*` environment variables and `.env`.

`doorbell dev` needs none of them. `doorbell api` and `worker.py` refuse to start without the ones that
`require_production` lists, and say which is missing.
"""

from datetime import timedelta
from functools import cached_property
from ipaddress import ip_network
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.core.errors import ConfigurationError

MINIMUM_TOKEN_LENGTH = 16


class Settings(BaseSettings):
    """The settings of one process. Field names are the environment variables without `DOORBELL_`."""

    model_config = SettingsConfigDict(env_prefix="DOORBELL_", env_file=".env", extra="ignore")

    database_url: str | None = Field(None, description="postgresql://user:password@host:5432/database")
    database_pool_size: int = Field(20, ge=2, description="Postgres connections a process keeps at most")

    temporal_address: str | None = Field(None, description="host:port of the Temporal frontend")
    temporal_namespace: str = "default"
    temporal_ui_url: str | None = Field(None, description="where people open Temporal's UI")
    temporal_api_key: SecretStr | None = Field(None, description="API key for Temporal Cloud")
    temporal_tls: bool = Field(False, description="TLS towards Temporal; implied by an API key")
    temporal_tls_server_ca: Path | None = Field(None, description="PEM file of the server's CA")
    temporal_tls_client_cert: Path | None = Field(None, description="PEM file for mutual TLS")
    temporal_tls_client_key: Path | None = Field(None, description="PEM file for mutual TLS")

    secret_key: SecretStr | None = Field(
        None, description="encrypts secrets at rest; several, comma-separated, newest first, to rotate"
    )
    admin_token: SecretStr | None = Field(None, description="bootstrap service token with scope admin")

    data_dir: Path = Field(Path(".doorbell"), description="data of `doorbell dev`")
    host: str = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65535)
    public_url: str | None = Field(None, description="where senders reach the API; default http://host:port")

    trusted_proxies: str = Field(
        "",
        description="addresses and networks, comma-separated, whose X-Forwarded-For and -Proto are believed",
    )

    worker_health_port: int | None = Field(
        None, description="port of a worker's /livez and /readyz; none if unset"
    )

    metrics_port: int | None = Field(
        None, ge=1, le=65535, description="port of /metrics for Prometheus; no metrics are kept if unset"
    )
    metrics_host: str = Field("127.0.0.1", description="address of /metrics; whoever reaches it reads it")
    metrics_max_sources: int = Field(
        100, ge=1, description="sources that metrics name; what comes later is counted as `other`"
    )

    max_body_bytes: int = Field(1024 * 1024, ge=1024, description="largest event body, after decompression")
    max_queued_events: int = Field(5_000, ge=1, description="events waiting for their commit before 503")
    script_processes: int = Field(
        2,
        ge=1,
        le=64,
        description=(
            "processes that run scripts, 50 MB each, and as many that render what is not small in workflow "
            "steps, 30 MB each; each starts when it is first needed"
        ),
    )
    knock_rate_factor: float = Field(
        0.9, ge=0, description="times Knock's documented rate limits that actions use at most; 0 is no limit"
    )
    max_queued_bytes: int = Field(
        64 * 1024 * 1024, ge=1024, description="their bodies together, in bytes, before 503"
    )
    # Half of them keep two cores busy; many more are only waited for by what comes next
    # (docs/performance.md).
    max_events_in_flight: int = Field(
        80,
        ge=1,
        description="workflows a dispatcher keeps running at once, half of them for one source at most",
    )
    claim_lease: timedelta = Field(
        timedelta(seconds=60), description="an event that a worker claimed and did not start is claimed again"
    )
    run_lease: timedelta = Field(
        timedelta(minutes=15), description="an event whose workflow runs this long is looked after again"
    )
    sweep_interval: timedelta = Field(
        timedelta(seconds=10), description="how often a worker looks for leases that ran out"
    )
    alert_interval: timedelta = Field(
        timedelta(seconds=15),
        gt=timedelta(0),
        description="how often a worker looks whether failures have to be told of",
    )
    config_max_age: timedelta = Field(
        timedelta(seconds=30), description="configuration is read again at least this often"
    )
    # What holds until something else is set through the API (app/retention/periods.py).
    retention_days: int = Field(30, ge=1, description="days that event and action logs are kept")
    payload_retention_days: int | None = Field(
        None, ge=1, description="days that bodies and headers are kept; as long as the logs if unset"
    )
    directory_retention_days: int = Field(
        90, ge=1, description="days that workflow runs, messages and bulk operations are kept"
    )

    smtp_host: str | None = Field(None, description="SMTP server for the email steps of workflows")
    smtp_port: int = Field(587, ge=1, le=65535)
    smtp_security: Literal["starttls", "tls", "none"] = "starttls"
    smtp_username: str | None = None
    smtp_password: SecretStr | None = None
    smtp_from: str | None = Field(
        None, description="address that emails come from unless a step names another"
    )
    allow_private_addresses: bool = Field(
        False,
        description=(
            "let workflow steps and alerts send requests to private, loopback and link-local addresses"
        ),
    )

    workflow_sandbox: bool = Field(
        False, description="run workflows in Temporal's sandbox: costs 10 ms of CPU an event"
    )
    shutdown_notice: timedelta = Field(
        timedelta(seconds=5),
        ge=timedelta(0),
        description="how long an API process that got SIGTERM accepts events while /readyz answers 503",
    )
    graceful_shutdown: timedelta = Field(
        timedelta(seconds=30), description="how long a stopping process waits for what is in flight"
    )
    log_format: Literal["json", "console"] = "json"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @field_validator("database_url")
    @classmethod
    def _use_psycopg(cls, url: str | None) -> str | None:
        """People paste `postgresql://` or `postgres://`; SQLAlchemy wants the driver named."""
        if url is None:
            return None
        scheme, separator, rest = url.partition("://")
        if not separator or scheme not in {"postgresql", "postgres", "postgresql+psycopg"}:
            raise ValueError("must start with postgresql://, for example postgresql://user@host/doorbell")
        return f"postgresql+psycopg://{rest}"

    @field_validator("trusted_proxies")
    @classmethod
    def _names_networks(cls, given: str) -> str:
        for each in filter(None, map(str.strip, given.split(","))):
            ip_network(each, strict=False)
        return given

    @field_validator("admin_token")
    @classmethod
    def _is_hard_to_guess(cls, token: SecretStr | None) -> SecretStr | None:
        if token is not None and len(token.get_secret_value()) < MINIMUM_TOKEN_LENGTH:
            raise ValueError(
                f"needs at least {MINIMUM_TOKEN_LENGTH} characters; make one with `openssl rand -base64 32`"
            )
        return token

    @property
    def trusted_hosts(self) -> list[str]:
        """Those that may say whom a request comes from."""
        return [each for each in map(str.strip, self.trusted_proxies.split(",")) if each]

    @cached_property
    def base_url(self) -> str:
        """The address that senders use, without a trailing slash."""
        return (self.public_url or f"http://{self.host}:{self.port}").rstrip("/")

    def require_production(self) -> None:
        """Refuse to start without the settings that have no safe default.

        Raises:
            ConfigurationError: names every variable that is missing.
        """
        needed = {
            "DOORBELL_DATABASE_URL": self.database_url,
            "DOORBELL_TEMPORAL_ADDRESS": self.temporal_address,
            "DOORBELL_SECRET_KEY": self.secret_key,
        }
        missing = [name for name, value in needed.items() if not value]
        if missing:
            raise ConfigurationError(
                f"not set: {', '.join(missing)}. Set them (see README, Settings), "
                "or use `doorbell dev`, which brings its own Postgres, Temporal and keys"
            )
