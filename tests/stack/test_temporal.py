"""The embedded Temporal server, with real servers: odd paths, ports, crashes, and what killed runs leave
behind."""

import os
import signal
import socket
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.client import Client

from app.core.errors import ConfigurationError
from app.stack.temporal import SEARCH_ATTRIBUTES, EmbeddedTemporal
from tests.stack.parents import ends, forget_parent, parent_of


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedTemporal]:
    server = EmbeddedTemporal(tmp_path / "spaces, ünd #?%", port=0, ui_port=0)
    server.start()
    yield server
    server.stop(patience=0)


def pid_of(server: EmbeddedTemporal) -> int:
    assert server.pid is not None
    return server.pid


async def test_it_serves_its_namespace_with_our_search_attributes(server: EmbeddedTemporal) -> None:
    client = await Client.connect(server.address)
    answer = await client.operator_service.list_search_attributes(
        ListSearchAttributesRequest(namespace="default")
    )
    assert set(SEARCH_ATTRIBUTES) <= set(answer.custom_attributes)


def test_every_port_is_on_loopback(server: EmbeddedTemporal) -> None:
    listening = [
        each.laddr
        for each in psutil.Process(pid_of(server)).net_connections("inet")
        if each.status == psutil.CONN_LISTEN
    ]
    assert {server.port, server.ui_port} <= {address.port for address in listening}
    assert {address.ip for address in listening} == {"127.0.0.1"}


def test_the_ui_answers(server: EmbeddedTemporal) -> None:
    with urllib.request.urlopen(f"{server.ui_url}/healthz", timeout=60) as answer:
        assert answer.status == 200


async def test_a_killed_server_loses_nothing(server: EmbeddedTemporal) -> None:
    client = await Client.connect(server.address)
    await client.start_workflow("Nobody", id="kept", task_queue="nobody")
    os.kill(pid_of(server), signal.SIGKILL)
    server.start()
    description = await (await Client.connect(server.address)).get_workflow_handle("kept").describe()
    assert description.workflow_type == "Nobody"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has death signals")
def test_the_server_ends_with_its_parent(tmp_path: Path) -> None:
    with parent_of("temporal", tmp_path) as (parent, orphan):
        parent.kill()
        assert ends(orphan)


def test_a_leftover_is_stopped_first(server: EmbeddedTemporal) -> None:
    forget_parent(server.data_dir / "process.json")
    next_one = EmbeddedTemporal(server.data_dir, port=server.port, ui_port=server.ui_port)
    next_one.start()
    next_one.stop(patience=0)
    assert server.poll() is not None


def test_a_server_whose_parent_lives_is_left_alone(tmp_path: Path) -> None:
    with parent_of("temporal", tmp_path) as (parent, orphan):
        with pytest.raises(ConfigurationError, match=f"in use by process {parent.pid}"):
            EmbeddedTemporal(tmp_path, port=0).start()
        assert orphan.is_running()


@pytest.mark.parametrize(
    ("which", "remedy"),
    [("port", "DOORBELL_TEMPORAL_ADDRESS"), ("ui_port", "DOORBELL_TEMPORAL_UI_URL")],
)
def test_a_taken_port_is_named_with_its_remedy(tmp_path: Path, which: str, remedy: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = EmbeddedTemporal(tmp_path, **{"port": 0, "ui_port": 0, which: port})
        with pytest.raises(ConfigurationError, match=rf"{port} is taken by process {os.getpid()}.*{remedy}"):
            server.start()


def test_a_server_that_ends_says_what_it_said(tmp_path: Path) -> None:
    (tmp_path / "temporal.db").write_text("this is no database, and long enough to tell" * 100)
    with pytest.raises(ConfigurationError, match="not a database"):
        EmbeddedTemporal(tmp_path, port=0, headless=True).start()


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="DOORBELL_DATA_DIR"):
        EmbeddedTemporal(tmp_path / "file" / "data", port=0).start()
