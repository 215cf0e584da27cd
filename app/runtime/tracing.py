"""Traces of events, by OpenTelemetry: from the request through the workflow to the call of the destination.

On when an exporter is configured by OpenTelemetry's own variables (`OTEL_EXPORTER_OTLP_ENDPOINT`) and the
packages of `doorbell[otel]` are installed; else its SDK is not imported and each function here returns at
once. Spans of requests come from FastAPI, those of workflows and activities from the Temporal SDK. From the
API to the worker a trace crosses in the event's row (`traceparent`). No payload, header, secret or path of a
request goes into a span.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from opentelemetry import context, trace
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from app.core.errors import Refused, Retryable

if TYPE_CHECKING:
    from fastapi.telemetry import TelemetryConfig
    from opentelemetry.sdk.trace import TracerProvider
    from temporalio.client import Interceptor

logger = logging.getLogger(__name__)

PROTOCOL = "http/protobuf"
PROBES = frozenset({"/livez", "/readyz"})
NOT_RECORDED = "not recorded"

_W3C = TraceContextTextMapPropagator()
_NOTHING: AbstractContextManager[None] = nullcontext()


@dataclass(frozen=True)
class _Tracing:
    """What a process that traces has. Nothing global to OpenTelemetry: libraries trace when they are told
    to."""

    provider: "TracerProvider"
    tracer: trace.Tracer


_tracing: _Tracing | None = None


def is_on() -> bool:
    """Whether this process traces."""
    return _tracing is not None


@contextmanager
def exporting(service: str) -> Iterator[None]:
    """Trace while the block runs, when that is configured; at its end what is left is sent.

    Telemetry that cannot be sent is said in the log and stops nobody.
    """
    global _tracing
    if not _is_configured():
        yield
        return
    try:
        provider = _open_provider(service)
    except ImportError:
        _say_off("the packages are missing: pip install 'doorbell[otel]'")
        yield
        return
    _tracing = _Tracing(provider, provider.get_tracer("doorbell", version("doorbell")))
    named = TraceIds()
    for handler in logging.getLogger().handlers:
        handler.addFilter(named)
    try:
        yield
    finally:
        _tracing = None
        for handler in logging.getLogger().handlers:
            handler.removeFilter(named)
        provider.shutdown()


def _is_configured() -> bool:
    """Whether OpenTelemetry's variables ask for traces over OTLP."""
    given = os.environ.get
    endpoint = given("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or given("OTEL_EXPORTER_OTLP_ENDPOINT")
    exporter = given("OTEL_TRACES_EXPORTER") or "otlp"
    if not endpoint or exporter == "none" or given("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    protocol = given("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or given("OTEL_EXPORTER_OTLP_PROTOCOL") or PROTOCOL
    if exporter != "otlp" or protocol != PROTOCOL:
        _say_off(f"{exporter} over {protocol} is not supported: use otlp over {PROTOCOL}")
        return False
    return True


def _say_off(reason: str) -> None:
    logger.warning("tracing_is_off", extra={"reason": reason})


def _open_provider(service: str) -> "TracerProvider":
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import Span, SpanProcessor, TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    class Discreet(SpanProcessor):
        """FastAPI notes the path of a request, whose parts may be an endpoint's token, or a user's id."""

        def on_start(self, span: Span, parent_context: context.Context | None = None) -> None:
            for name in {"url.path", "url.query"} & set(span.attributes or {}):
                span.set_attribute(name, NOT_RECORDED)

    given = OTELResourceDetector().detect().attributes
    resource = Resource.create({SERVICE_NAME: f"doorbell-{service}", **given})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(Discreet())
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


def of_requests() -> "TelemetryConfig":
    """How FastAPI traces the requests of an application."""
    from fastapi.telemetry import TelemetryConfig

    settings = TelemetryConfig(
        tracing=is_on(), metrics=False, logs=False, operation_spans=False, auto_configure=False
    )
    if _tracing is not None:
        settings["tracer_provider"] = _tracing.provider
        settings["exclude"] = lambda scope: scope.get("path") in PROBES
    return settings


def of_temporal() -> "list[Interceptor]":
    """What a client of Temporal needs, and the workers that use it, to carry on a trace."""
    if _tracing is None:
        return []
    from temporalio.contrib.opentelemetry import TracingInterceptor

    return [TracingInterceptor(_tracing.tracer)]


def traceparent() -> str | None:
    """The trace of now, as it is kept with an event."""
    if _tracing is None:
        return None
    carrier: dict[str, str] = {}
    _W3C.inject(carrier)
    return carrier.get("traceparent")


def dispatching(event_id: object, environment: str, parent: str | None) -> AbstractContextManager[None]:
    """The span in which a claimed event's workflow is started, in the trace of the request that brought
    it."""
    if _tracing is None:
        return _NOTHING
    attributes = {"doorbell.event_id": str(event_id), "doorbell.environment": environment}
    return _span(_tracing.tracer, "dispatch event", SpanKind.CONSUMER, attributes, parent)


def destination_call(environment: str, action_type: str) -> AbstractContextManager[None]:
    """The span of a call to the destination."""
    if _tracing is None:
        return _NOTHING
    attributes = {"doorbell.environment": environment, "doorbell.action_type": action_type}
    return _span(_tracing.tracer, f"call destination {action_type}", SpanKind.CLIENT, attributes)


@contextmanager
def _span(
    tracer: trace.Tracer, name: str, kind: SpanKind, attributes: dict[str, str], parent: str | None = None
) -> Iterator[None]:
    """A span of our own. Of an error it says the kind: its text may repeat what was sent."""
    found = _W3C.extract({"traceparent": parent}) if parent else None
    with tracer.start_as_current_span(
        name, found, kind, attributes, record_exception=False, set_status_on_exception=False
    ) as span:
        try:
            yield
        except Exception as error:
            span.set_attribute("error.type", _kind(error))
            span.set_status(StatusCode.ERROR)
            raise


def _kind(error: Exception) -> str:
    if isinstance(error, Retryable):
        return error.code
    return f"http_{error.status}" if isinstance(error, Refused) else type(error).__name__


class TraceIds(logging.Filter):
    """Names the trace in each log line that belongs to one."""

    def filter(self, record: logging.LogRecord) -> bool:
        current: Any = trace.get_current_span().get_span_context()
        if current.is_valid:
            record.trace_id = trace.format_trace_id(current.trace_id)
        return True
