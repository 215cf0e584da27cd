"""Processes end when they are asked to, whatever is away."""

import asyncio
import os
import signal
import sys
from pathlib import Path

from cryptography.fernet import Fernet

from app.stack.temporal import EmbeddedTemporal
from tests.faults.cluster import ROOT


async def test_a_worker_that_waits_for_postgres_stops_on_sigterm(
    temporal_server: EmbeddedTemporal, tmp_path: Path
) -> None:
    worker = await asyncio.create_subprocess_exec(
        *(sys.executable, "worker.py", "--environment", "development"),
        cwd=ROOT,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("DOORBELL_")},
            "DOORBELL_DATABASE_URL": f"postgresql://postgres@/none?host={tmp_path}",
            "DOORBELL_TEMPORAL_ADDRESS": temporal_server.address,
            "DOORBELL_SECRET_KEY": Fernet.generate_key().decode(),
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        assert worker.stdout is not None
        async with asyncio.timeout(60):
            # Said when it begins to wait, and once a minute from then on.
            while b"configuration_unreadable" not in await worker.stdout.readline():
                continue
            worker.send_signal(signal.SIGTERM)
            await worker.stdout.read()
            assert await worker.wait() == 0
    finally:
        if worker.returncode is None:
            worker.kill()
