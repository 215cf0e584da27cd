"""Builds the dashboard's scripts and styles: `python web/build.py`. `make dashboard` runs it when something
changed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from web.node import NodeError, find_npm, install_packages, npm

PROJECT = Path(__file__).parent

if __name__ == "__main__":
    try:
        command = find_npm()
        install_packages(PROJECT, command, *sys.argv[1:])
        npm(PROJECT, command, "run", "build")
    except NodeError as error:
        sys.exit(str(error))
