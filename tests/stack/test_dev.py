"""`doorbell dev`: what it keeps in its directory, and how it refuses to start."""

import os
import socket
import stat
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr

from app.core.errors import ConfigurationError
from app.core.settings import Settings
from app.stack.dev import run
from app.stack.keys import Keys, admin_token_path
from app.stack.lock import lock


def settings(data_dir: Path, **others: object) -> Settings:
    return Settings(_env_file=None, data_dir=data_dir, **others)  # type: ignore[arg-type]


def test_keys_are_made_once_and_only_the_owner_reads_them(tmp_path: Path) -> None:
    keys = Keys.keep(tmp_path, settings(tmp_path))
    assert Keys.keep(tmp_path, settings(tmp_path)) == keys
    Fernet(keys.secret_key)
    assert keys.admin_token.startswith("dbl_st_")
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}
    assert admin_token_path(tmp_path).read_text().strip() == keys.admin_token


def test_keys_that_are_set_win(tmp_path: Path) -> None:
    keys = Keys.keep(
        tmp_path,
        settings(tmp_path, secret_key=SecretStr("secret"), admin_token=SecretStr("a-token-to-start")),
    )
    assert (keys.secret_key, keys.admin_token) == ("secret", "a-token-to-start")
    assert list(tmp_path.iterdir()) == []


def test_keys_do_not_show(tmp_path: Path) -> None:
    keys = Keys.keep(tmp_path, settings(tmp_path))
    assert keys.secret_key not in repr(keys)
    assert keys.admin_token not in repr(keys)


def test_one_run_for_a_directory(tmp_path: Path) -> None:
    with (
        lock(tmp_path),
        pytest.raises(ConfigurationError, match=f"as process {os.getpid()}"),
        lock(tmp_path),
    ):
        pass
    with lock(tmp_path):
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_a_second_run_says_who_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with lock(tmp_path):
        assert run(settings(tmp_path)) == 1
    assert f"as process {os.getpid()}" in capsys.readouterr().out


def test_a_taken_port_is_said_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as other:
        port, temporal = taken.getsockname()[1], other.getsockname()[1]
        wanted = settings(tmp_path, port=port, temporal_address=f"127.0.0.1:{temporal}")
        assert run(wanted) == 1
    assert f"port {port} is taken by process {os.getpid()}" in (said := capsys.readouterr().out)
    assert f"port {temporal} is taken by process {os.getpid()}" in said, "all of them at once"
    assert "DOORBELL_PORT" in said
    assert "DOORBELL_TEMPORAL_ADDRESS" in said
    assert not (tmp_path / "postgres").exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("database_url", "postgresql://elsewhere/doorbell"),
        ("temporal_address", "temporal.example.com:7233"),
        ("temporal_tls", True),
    ],
)
def test_settings_for_other_servers_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], field: str, value: object
) -> None:
    assert run(settings(tmp_path / "data", **{field: value})) == 1
    assert f"Unset DOORBELL_{field.upper()}" in capsys.readouterr().out
    assert not (tmp_path / "data").exists()


def test_a_directory_that_cannot_be_written_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert run(settings(tmp_path / "file" / "data")) == 1
    assert "DOORBELL_DATA_DIR" in capsys.readouterr().out
