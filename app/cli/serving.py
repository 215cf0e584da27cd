"""The two processes that serve: `doorbell api` and `doorbell worker`. Each imports what it needs when it
starts."""

import sys
from collections.abc import Sequence
from contextlib import suppress

from app.core.settings import Settings
from app.runtime.log import setup_logging
from app.runtime.process import WORKFLOWS, collect_seldom

# As uvicorn leaves.
STARTUP_FAILURE = 3


def api() -> None:
    """Serve the REST APIs and the dashboard, and receive events, until a signal asks to stop.

    Raises:
        ConfigurationError: a setting is missing.
    """
    import uvicorn

    from app.api.app import create_app
    from app.api.protocol import BoundedHttp
    from app.api.server import Server
    from app.runtime.tracing import exporting

    settings = _production_settings()
    setup_logging(settings)
    with exporting("api"):
        application = create_app(settings)
        collect_seldom()
        config = uvicorn.Config(
            application,
            host=settings.host,
            port=settings.port,
            http=BoundedHttp,
            forwarded_allow_ips=settings.trusted_hosts,
            server_header=False,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=int(settings.graceful_shutdown.total_seconds()),
        )
        server = Server(config, application, settings.shutdown_notice)
        with suppress(KeyboardInterrupt):
            server.run()
    if not server.started:
        sys.exit(STARTUP_FAILURE)


def worker(environments: Sequence[str]) -> None:
    """Work for these environments until a signal asks to stop.

    Raises:
        ConfigurationError: a setting is missing, or Temporal's namespace does not fit.
    """
    import uvloop

    from app.runtime.tracing import exporting
    from app.worker.main import serve

    settings = _production_settings()
    setup_logging(settings)
    collect_seldom(WORKFLOWS)
    with exporting("worker"):
        uvloop.run(serve(settings, environments))


def _production_settings() -> Settings:
    settings = Settings()
    settings.require_production()
    return settings
