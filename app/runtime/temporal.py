"""The connection to Temporal: one client for each process, with the Pydantic data converter everywhere."""

import asyncio
import logging
from datetime import timedelta

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client, TLSConfig
from temporalio.common import SearchAttributeKey
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import RPCError

from app.core.errors import ConfigurationError
from app.core.settings import Settings
from app.runtime import sdk_metrics, tracing
from app.sources.live import Configuration

logger = logging.getLogger(__name__)

RECONNECT_AFTER = 2.0

ENVIRONMENT = SearchAttributeKey.for_keyword("DoorbellEnvironment")
SOURCE = SearchAttributeKey.for_keyword("DoorbellSource")
EVENT_TYPE = SearchAttributeKey.for_keyword("DoorbellEventType")
SEARCH_ATTRIBUTES = (ENVIRONMENT, SOURCE, EVENT_TYPE)


def task_queue(environment: str) -> str:
    """The task queue that an environment's workers serve."""
    return f"doorbell-{environment}"


async def connect(settings: Settings, *, lazy: bool = False) -> Client:
    """A client of the configured cluster; a lazy one connects at its first call.

    Raises:
        ConfigurationError: no address is set.
        RuntimeError: the server does not answer.
    """
    if settings.temporal_address is None:
        raise ConfigurationError("DOORBELL_TEMPORAL_ADDRESS is not set")
    api_key = settings.temporal_api_key.get_secret_value() if settings.temporal_api_key else None
    return await Client.connect(
        settings.temporal_address,
        namespace=settings.temporal_namespace,
        api_key=api_key,
        tls=_tls(settings),
        data_converter=pydantic_data_converter,
        lazy=lazy,
        interceptors=tracing.of_temporal(),
        runtime=None if settings.metrics_port is None else sdk_metrics.metered_runtime(),
    )


async def connect_when_up(settings: Settings, stop: asyncio.Event) -> Client | None:
    """A client, as soon as the server answers; None when asked to stop before."""
    while not stop.is_set():
        try:
            return await connect(settings)
        except RuntimeError as error:
            logger.warning(
                "waiting_for_temporal", extra={"address": settings.temporal_address, "error": str(error)}
            )
        try:
            async with asyncio.timeout(RECONNECT_AFTER):
                await stop.wait()
        except TimeoutError:
            continue
    return None


async def prepare_namespace(client: Client, configuration: Configuration) -> None:
    """Register the search attributes, and check that closed runs are kept as long as idempotency looks back.

    Raises:
        ConfigurationError: the namespace does not fit; the message says what to do.
    """
    await _register_search_attributes(client)
    await _check_retention(client, configuration)


async def _register_search_attributes(client: Client) -> None:
    try:
        known = await client.operator_service.list_search_attributes(
            ListSearchAttributesRequest(namespace=client.namespace)
        )
        missing = [key.name for key in SEARCH_ATTRIBUTES if key.name not in known.custom_attributes]
        if missing:
            await client.operator_service.add_search_attributes(
                AddSearchAttributesRequest(
                    namespace=client.namespace,
                    search_attributes=dict.fromkeys(missing, IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD),
                )
            )
    except RPCError as error:
        # Temporal Cloud keeps its operator service to itself; there they are made by hand, once.
        names = " ".join(f"--name {key.name} --type Keyword" for key in SEARCH_ATTRIBUTES)
        logger.warning(
            "search_attributes_not_registered",
            extra={"error": error.message, "command": f"temporal operator search-attribute create {names}"},
        )


async def _check_retention(client: Client, configuration: Configuration) -> None:
    answer = await client.workflow_service.describe_namespace(
        DescribeNamespaceRequest(namespace=client.namespace)
    )
    retention = timedelta(seconds=answer.config.workflow_execution_retention_ttl.ToSeconds())
    for endpoint in configuration.endpoints():
        if endpoint.enforce_idempotency and endpoint.idempotency_window > retention:
            raise ConfigurationError(
                f"source {endpoint.source_key} in {endpoint.environment} has an idempotency window of "
                f"{endpoint.idempotency_window}, but namespace {client.namespace} keeps closed workflows for "
                f"{retention} only. Lengthen it with `temporal operator namespace update --retention "
                f"{int(endpoint.idempotency_window.total_seconds() // 3600) + 1}h {client.namespace}`, "
                "or set a shorter idempotency_window_seconds"
            )


def _tls(settings: Settings) -> TLSConfig | bool:
    files = (
        settings.temporal_tls_server_ca,
        settings.temporal_tls_client_cert,
        settings.temporal_tls_client_key,
    )
    if not any(files):
        return settings.temporal_tls or settings.temporal_api_key is not None
    server_ca, cert, key = (path.read_bytes() if path else None for path in files)
    return TLSConfig(server_root_ca_cert=server_ca, client_cert=cert, client_private_key=key)
