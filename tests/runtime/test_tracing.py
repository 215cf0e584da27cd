"""Traces: one event is one connected trace, from the request to the call of the destination, and tells no
secret."""

import logging
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

import orjson
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.runtime import tracing
from app.runtime.log import JsonFormatter
from tests.bench import Bench
from tests.knock import KnockServer, error
from tests.servers import eventually, serve


@dataclass
class Collector:
    """A receiver of OTLP over HTTP, as an OpenTelemetry collector is one."""

    url: str = ""
    requests: list[ExportTraceServiceRequest] = field(default_factory=list)

    @property
    def app(self) -> Starlette:
        return Starlette(routes=[Route("/v1/traces", self._receive, methods=["POST"])])

    async def _receive(self, request: Request) -> Response:
        assert request.headers["content-type"] == "application/x-protobuf"
        self.requests.append(ExportTraceServiceRequest.FromString(await request.body()))
        answer = ExportTraceServiceResponse().SerializeToString()
        return Response(answer, media_type="application/x-protobuf")

    @property
    def spans(self) -> list[Span]:
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def trace_with(self, name: str) -> list[Span]:
        """All spans of the trace that has one of that name."""
        traces = {each.trace_id for each in self.spans if each.name == name}
        assert len(traces) <= 1, f"several traces have a span {name}"
        return [each for each in self.spans if each.trace_id in traces]


class Lines(logging.Handler):
    """The lines of the process log, as JSON."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter())
        self.lines: list[dict[str, object]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(orjson.loads(self.format(record)))


@pytest.fixture
def log() -> Iterator[Lines]:
    lines, logger = Lines(), logging.getLogger()
    level = logger.level
    logger.addHandler(lines)
    logger.setLevel(logging.INFO)
    yield lines
    logger.setLevel(level)
    logger.removeHandler(lines)


@pytest.fixture
async def collector(log: Lines, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Collector]:
    """A collector, and tracing towards it while the test runs."""
    found = Collector()
    async with serve(found.app) as url:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        with tracing.exporting("test"):
            yield found


def named(spans: list[Span], name: str) -> list[Span]:
    return [each for each in spans if each.name == name]


@pytest.mark.usefixtures("collector", "worker")
async def test_an_event_is_one_connected_trace(
    collector: Collector, bench: Bench, knock: KnockServer, log: Lines
) -> None:
    await bench.use_destination(knock.url, key="sk_test_very_secret")
    source = await bench.source("stripe")
    knock.answers.append(error(503, "unavailable", "no room for ada@example.com"))
    body = source.example("invoice.paid")
    answer = await source.post(body)
    event_id = answer.json()["id"]
    await bench.final(event_id)

    def whole() -> list[Span] | None:
        spans = collector.trace_with("CompleteWorkflow:ProcessEvent")
        return spans if spans else None

    spans = await eventually(whole)
    assert spans is not None
    by_id = {each.span_id: each for each in spans}

    def path(span: Span) -> list[str]:
        """Names from the root to a span."""
        above = path(by_id[span.parent_span_id]) if span.parent_span_id else []
        return [*above, span.name]

    received = "POST /integrations/receive/{token}"
    started = [received, "dispatch event", "StartWorkflow:ProcessEvent"]
    for name in ("RunWorkflow:ProcessEvent", "CompleteWorkflow:ProcessEvent"):
        assert [path(each) for each in named(spans, name)] == [[*started, name]]
    calls = named(spans, "call destination workflows_trigger")
    tried_in = ("try_event", "workflows_trigger")
    assert sorted(path(call) for call in calls) == [
        [
            *started,
            f"StartActivity:{activity}",
            f"RunActivity:{activity}",
            "call destination workflows_trigger",
        ]
        for activity in tried_in
    ]
    assert path(named(spans, "RunActivity:record_outcome")[0]) == [
        *started,
        "StartActivity:record_outcome",
        "RunActivity:record_outcome",
    ]
    # The first try and the one that worked, and the failure says its kind.
    kinds = [
        {each.key: each.value.string_value for each in call.attributes}.get("error.type") for call in calls
    ]
    assert sorted(kinds, key=str) == [None, "http_503"]
    assert [each.name for each in spans if not each.parent_span_id] == [received]
    # The destination is a stranger: it is told no trace.
    assert not any("traceparent" in each.headers for each in knock.calls)

    trace_id = spans[0].trace_id.hex()
    told = [each for each in log.lines if each["message"] == "event" and each["event_id"] == event_id]
    assert [each["trace_id"] for each in told] == [trace_id]

    customer = orjson.loads(body)["data"]["object"]["customer"]
    sent = "".join(str(each) for each in collector.requests)
    for secret in (source.token, source.secret, "sk_test_very_secret", "ada@example.com", customer):
        assert str(secret) not in sent


@pytest.mark.usefixtures("worker")
async def test_nothing_is_traced_unless_configured(bench: Bench) -> None:
    assert not tracing.is_on()
    assert tracing.of_temporal() == []
    event = await bench.final(await (await bench.source("stripe")).send("invoice.paid"))
    assert event["traceparent"] is None


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "otlp over grpc is not supported"),
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "zipkin over http/protobuf is not supported"),
        ({"OTEL_TRACES_EXPORTER": "none"}, None),
        ({"OTEL_SDK_DISABLED": "true"}, None),
    ],
)
def test_what_cannot_be_traced_is_said(
    variables: dict[str, str], reason: str | None, log: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with tracing.exporting("test"):
        assert not tracing.is_on()
    told = [str(each["reason"]) for each in log.lines if each["message"] == "tracing_is_off"]
    assert len(told) == (reason is not None)
    assert all(reason in each for each in told if reason)


def test_a_missing_package_is_said(log: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with tracing.exporting("test"):
        assert not tracing.is_on()
    assert "pip install 'doorbell[otel]'" in str(log.lines[-1]["reason"])
