"""Parents that get killed: what they start must not stay behind."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil

from app.stack.processes import Record, has_ended, wait_until

_SCRIPT = """
import sys, time
from pathlib import Path
from app.stack.postgres import EmbeddedPostgres
from app.stack.temporal import EmbeddedTemporal

make = {"postgres": EmbeddedPostgres, "temporal": lambda path: EmbeddedTemporal(path, port=0, headless=True)}
server = make[sys.argv[1]](Path(sys.argv[2]))
server.start()
print(server.pid, flush=True)
time.sleep(600)
"""


@contextmanager
def parent_of(kind: str, data_dir: Path) -> Iterator[tuple["subprocess.Popen[str]", psutil.Process]]:
    """Another process that started a server on the directory, and the server."""
    with subprocess.Popen(
        [sys.executable, "-c", _SCRIPT, kind, str(data_dir)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        try:
            yield parent, psutil.Process(int(parent.stdout.readline()))
        finally:
            parent.kill()


def ends(process: psutil.Process) -> bool:
    """Whether a process ends."""
    return wait_until(lambda: has_ended(process), seconds=60)


def forget_parent(path: Path) -> None:
    """Make a record say that the child's parent is dead, as it is where the kernel has no death signal."""
    record = Record.read(path)
    assert record is not None
    replace(record, parent_started=0.0).write(path)
