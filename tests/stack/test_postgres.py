"""The embedded Postgres, with real servers: odd paths, crashes, and what killed runs leave behind."""

import os
import signal
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from app.core.errors import ConfigurationError
from app.stack.account import Account, let_reach
from app.stack.postgres import EmbeddedPostgres
from tests.stack.parents import ends, forget_parent, parent_of


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(tmp_path / "data")
    server.start()
    yield server
    server.stop()


def pid_of(server: EmbeddedPostgres) -> int:
    assert server.pid is not None
    return server.pid


def write_row(server: EmbeddedPostgres) -> None:
    with psycopg.connect(server.url("postgres")) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 'here' AS what")


def read_row(server: EmbeddedPostgres) -> str:
    with psycopg.connect(server.url("postgres")) as connection:
        row = connection.execute("SELECT what FROM kept").fetchone()
    assert row is not None
    return str(row[0])


def test_odd_paths_restarts_and_no_network(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "späces and 'quotes' 100%", durable=False)
    server.start()
    try:
        write_row(server)
        assert psutil.Process(pid_of(server)).net_connections("inet") == []
        server.stop()
        assert not psutil.pid_exists(pid_of(server))
        server.start()
        assert read_row(server) == "here"
    finally:
        server.stop()


def test_creating_a_database_twice_is_fine(server: EmbeddedPostgres) -> None:
    for _ in range(2):
        server.create_database('odd "name"/ü')
    with psycopg.connect(server.url('odd "name"/ü')) as connection:
        assert connection.info.dbname == 'odd "name"/ü'


def test_nobody_else_gets_at_the_socket(server: EmbeddedPostgres) -> None:
    assert stat.S_IMODE(server.socket_dir.stat().st_mode) == 0o700
    assert stat.S_IMODE(server.cluster.stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["x" * 120, "a,b"])
def test_a_path_that_cannot_hold_a_socket(tmp_path: Path, name: str) -> None:
    server = EmbeddedPostgres(tmp_path / name, durable=False)
    server.start()
    try:
        assert not server.socket_dir.is_relative_to(tmp_path)
        assert stat.S_IMODE(server.socket_dir.stat().st_mode) == 0o700
        write_row(server)
    finally:
        server.stop()
    assert not server.socket_dir.exists()


def test_a_killed_server_loses_nothing(server: EmbeddedPostgres) -> None:
    write_row(server)
    os.kill(pid_of(server), signal.SIGKILL)
    server.start()
    assert read_row(server) == "here"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has death signals")
def test_the_server_ends_with_its_parent(tmp_path: Path) -> None:
    with parent_of("postgres", tmp_path) as (parent, orphan):
        parent.kill()
        assert ends(orphan)


def test_a_leftover_is_stopped_first(server: EmbeddedPostgres) -> None:
    write_row(server)
    forget_parent(server.data_dir / "process.json")
    next_one = EmbeddedPostgres(server.data_dir)
    next_one.start()
    try:
        assert server.poll() == 0, "the leftover was not shut down cleanly"
        assert read_row(next_one) == "here"
    finally:
        next_one.stop()


def test_a_leftover_without_a_record_is_stopped_first(server: EmbeddedPostgres) -> None:
    (server.data_dir / "process.json").unlink()
    next_one = EmbeddedPostgres(server.data_dir)
    next_one.start()
    next_one.stop()
    assert server.poll() == 0


def test_a_server_whose_parent_lives_is_left_alone(tmp_path: Path) -> None:
    with parent_of("postgres", tmp_path) as (parent, orphan):
        with pytest.raises(ConfigurationError, match=f"in use by process {parent.pid}"):
            EmbeddedPostgres(tmp_path).start()
        assert orphan.is_running()


def test_a_stale_pid_file_that_names_a_living_process(server: EmbeddedPostgres) -> None:
    server.stop()
    (server.cluster / "postmaster.pid").write_text(f"{os.getpid()}\n{server.cluster}\n")
    server.start()
    assert server.poll() is None


def test_an_interrupted_first_start_leaves_no_half_cluster(tmp_path: Path) -> None:
    class GiveUp(Exception):
        pass

    def give_up() -> None:
        raise GiveUp

    server = EmbeddedPostgres(tmp_path / "data", durable=False)
    with pytest.raises(GiveUp):
        server.start(give_up)
    assert not server.cluster.exists()
    server.start()
    server.stop()


def test_a_server_that_cannot_start_says_why(server: EmbeddedPostgres) -> None:
    server.stop()
    with (server.cluster / "postgresql.conf").open("a") as file:
        file.write("no_such_setting = on\n")
    with pytest.raises(ConfigurationError, match="no_such_setting"):
        server.start()


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="DOORBELL_DATA_DIR"):
        EmbeddedPostgres(tmp_path / "file" / "data").start()


def test_only_closed_parents_are_opened(tmp_path: Path) -> None:
    closed, passable = tmp_path / "closed", tmp_path / "closed" / "passable"
    passable.mkdir(parents=True)
    passable.chmod(0o711)
    closed.chmod(0o700)
    let_reach(Account("somebody", 54321, 54321), passable / "cluster")
    assert stat.S_IMODE(closed.stat().st_mode) == 0o701
    assert stat.S_IMODE(passable.stat().st_mode) == 0o711
