"""`doorbell dev` as people run it: everything comes up, works, stops, and keeps its data."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

from app.stack import ports
from tests.stack.parents import ends

ROOT = Path(__file__).parents[2]


@contextmanager
def doorbell_dev(data_dir: Path, port: int) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """A running `doorbell dev`, and what it said until it was up."""
    temporal, ui = ports.find_free("127.0.0.1", 2)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("DOORBELL_")},
        "DOORBELL_DATA_DIR": str(data_dir),
        "DOORBELL_PORT": str(port),
        "DOORBELL_TEMPORAL_ADDRESS": f"127.0.0.1:{temporal}",
        "DOORBELL_TEMPORAL_UI_URL": f"http://127.0.0.1:{ui}",
        "COLUMNS": "200",
    }
    with subprocess.Popen(
        [sys.executable, "-m", "app.cli", "dev"],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        said = ""
        try:
            while "Ctrl-C stops everything" not in said:
                line = process.stdout.readline()
                assert line, f"it ended:\n{said}"
                said += line
            yield process, said
        finally:
            process.kill()


def doorbell_send(data_dir: Path, port: int) -> str:
    """What `doorbell send` prints in another terminal, with nothing set but where the data is."""
    return subprocess.run(
        [sys.executable, "-m", "app.cli", "send", "stripe", "invoice.paid", "--json"],
        cwd=ROOT,
        env={**os.environ, "DOORBELL_DATA_DIR": str(data_dir), "DOORBELL_PORT": str(port)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout


def stop(process: "subprocess.Popen[str]") -> None:
    """Press Ctrl-C: all is over, and nothing is left."""
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert said.splitlines()[-1] == "stopped"
    assert [child for child in children if not ends(child)] == []


def test_everything(tmp_path: Path) -> None:
    port = ports.find_free("127.0.0.1", 1)[0]
    data_dir = tmp_path / "data dir"
    with doorbell_dev(data_dir, port) as (process, said):
        for words in ("customer.created", "invoice.paid", "users_identify", "workflows_trigger", "Try: curl"):
            assert words in said
        assert not re.search("did not work|failed(?!=0)", said), said
        client = httpx.Client(
            base_url=f"http://127.0.0.1:{port}",
            headers={"authorization": f"Bearer {(data_dir / 'admin-token').read_text().strip()}"},
            timeout=60,
        )
        with client:
            assert client.get("/readyz").status_code == 200
            logs = client.get(
                "/v1/sources/stripe/logs", params={"environment": "development", "include": "actions"}
            )
            assert {entry["status"] for entry in logs.json()["entries"]} == {"succeeded"}
            link = re.search(r"\S+/login/dbl_link_\S+", said)
            assert link, said
            entered = client.post(link[0], headers={"sec-fetch-site": "same-origin"})
            assert entered.status_code == 303, entered.text
            assert "doorbell_session=" in entered.headers["set-cookie"]
        sent = json.loads(doorbell_send(data_dir, port))
        assert (sent["status"], sent["event"]["status"], sent["event"]["event_type"]) == (
            200,
            "succeeded",
            "invoice.paid",
        )
        listening = [
            each.laddr.ip
            for child in psutil.Process(process.pid).children(recursive=True)
            for each in child.net_connections("inet")
            if each.status == psutil.CONN_LISTEN
        ]
        assert set(listening) == {"127.0.0.1"}
        stop(process)

    # Again: the data is kept, and no second sample is made.
    with doorbell_dev(data_dir, port) as (process, said):
        assert "customer.created" not in said
        assert "Doorbell is up" in said
        stop(process)
