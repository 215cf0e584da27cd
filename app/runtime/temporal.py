"""The connection to Temporal: one client for each process, with the Pydantic data converter everywhere."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client, TLSConfig
from temporalio.common import SearchAttributeKey
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import RPCError, RPCStatusCode

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


async def prepare_when_there(client: Client, configuration: Configuration, stop: asyncio.Event) -> bool:
    """As `prepare_namespace`, as soon as the namespace can be used; False when asked to stop before."""
    while not stop.is_set():
        try:
            await prepare_namespace(client, configuration)
            return True
        except RPCError as error:
            logger.warning("waiting_for_namespace", extra={"error": namespace_refusal(client, error)})
        with suppress(TimeoutError):
            async with asyncio.timeout(RECONNECT_AFTER):
                await stop.wait()
    return False


async def prepare_namespace(client: Client, configuration: Configuration) -> None:
    """Register the search attributes, and check that closed runs are kept as long as idempotency looks back.

    Raises:
        ConfigurationError: the namespace does not fit; the message says what to do.
        RPCError: the namespace cannot be used.
    """
    await register_search_attributes(client)
    await _check_retention(client, configuration)


async def namespace_problem(client: Client) -> str | None:
    """Why events cannot be executed in the namespace now, with the command that mends it, or None."""
    try:
        await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=client.namespace))
    except RPCError as error:
        return namespace_refusal(client, error)
    try:
        missing = await _missing_search_attributes(client)
    except RPCError:
        # Temporal Cloud keeps its operator service to itself.
        return None
    if not missing:
        return None
    return (
        f"namespace {client.namespace} lacks search attributes: `{search_attribute_command(client, missing)}`"
    )


def namespace_refusal(client: Client, error: RPCError) -> str:
    """What an operator is told of a call about the namespace that Temporal refused."""
    if error.status is RPCStatusCode.NOT_FOUND:
        command = f"temporal operator namespace create --namespace {client.namespace}"
        return f"namespace {client.namespace} does not exist: `{command}`"
    if error.status in (RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNAUTHENTICATED):
        return (
            f"Temporal does not let this process use namespace {client.namespace} ({error.message}): check "
            "DOORBELL_TEMPORAL_API_KEY or the client certificate"
        )
    return f"{error.status.name.lower()}: {error.message}"


def search_attribute_command(client: Client, names: Sequence[str]) -> str:
    """The command that makes search attributes by hand."""
    given = " ".join(f"--name {name} --type Keyword" for name in names)
    return f"temporal operator search-attribute create --namespace {client.namespace} {given}"


async def _missing_search_attributes(client: Client) -> list[str]:
    known = await client.operator_service.list_search_attributes(
        ListSearchAttributesRequest(namespace=client.namespace)
    )
    return [key.name for key in SEARCH_ATTRIBUTES if key.name not in known.custom_attributes]


async def register_search_attributes(client: Client) -> None:
    """Make the search attributes that the namespace lacks; a log line says how when that is not allowed."""
    try:
        missing = await _missing_search_attributes(client)
        if missing:
            await client.operator_service.add_search_attributes(
                AddSearchAttributesRequest(
                    namespace=client.namespace,
                    search_attributes=dict.fromkeys(missing, IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD),
                )
            )
    except RPCError as error:
        # Temporal Cloud keeps its operator service to itself; there they are made by hand, once.
        command = search_attribute_command(client, [key.name for key in SEARCH_ATTRIBUTES])
        logger.warning("search_attributes_not_registered", extra={"error": error.message, "command": command})


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
