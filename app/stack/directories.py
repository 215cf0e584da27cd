"""Directories that the stack keeps its data in."""

import tempfile
from pathlib import Path

from app.core.errors import ConfigurationError


def make_directory(path: Path, mode: int = 0o700) -> None:
    """Make a directory and its parents, and check that we can write to it.

    Raises:
        ConfigurationError: we cannot; the message says what to do.
    """
    try:
        if not path.is_dir():
            path.mkdir(parents=True, exist_ok=True)
            path.chmod(mode)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise ConfigurationError(
            f"cannot write to the directory {path}: {error.strerror or error}. Make it writable for this "
            "user, or set DOORBELL_DATA_DIR to a directory that is"
        ) from None
