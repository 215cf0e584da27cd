"""One `doorbell dev` for each data directory."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.core.errors import ConfigurationError


@contextmanager
def lock(data_dir: Path) -> Iterator[None]:
    """Hold the directory's lock. The kernel gives up the lock of a killed process.

    Raises:
        ConfigurationError: another process holds it; names which.
    """
    # Closed at exec (PEP 446), so no child keeps the lock when we are gone.
    with (data_dir / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise ConfigurationError(
                f"`doorbell dev` already runs on {data_dir}, as process {file.read().strip() or 'unknown'}. "
                "Use that one or stop it, or set DOORBELL_DATA_DIR (and DOORBELL_PORT, "
                "DOORBELL_TEMPORAL_ADDRESS, DOORBELL_TEMPORAL_UI_URL) to run a second one"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
