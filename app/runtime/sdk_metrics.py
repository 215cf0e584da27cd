"""The metrics that the core of Temporal's SDK keeps, and serves on a port of loopback."""

import logging
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from temporalio.runtime import Runtime

logger = logging.getLogger(__name__)

# The runtime of all clients of this process, and the URL of its metrics: made once, it has threads of its
# own.
_metered: "tuple[Runtime, str] | None" = None


def url() -> str | None:
    """Where the SDK's core of this process serves its metrics; None as long as there is no client, or none
    are kept."""
    return _metered[1] if _metered else None


def metered_runtime() -> "Runtime":
    """The runtime of clients whose calls are counted."""
    from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig

    global _metered
    while _metered is None:
        with socket.create_server(("127.0.0.1", 0)) as found:
            address = f"127.0.0.1:{found.getsockname()[1]}"
        exporter = PrometheusConfig(
            bind_address=address, counters_total_suffix=True, unit_suffix=True, durations_as_seconds=True
        )
        try:
            _metered = Runtime(telemetry=TelemetryConfig(metrics=exporter)), f"http://{address}/metrics"
        except ValueError as error:
            # Somebody took the port in between.
            logger.info("sdk_metrics_port_taken", extra={"error": str(error)})
    return _metered[0]
