"""The JavaScript that tests run: the interpreter, and packages that are what the lock file says."""

import json
from pathlib import Path

from tests.node import PROJECT, Node


async def test_packages_are_installed_as_locked(node: Node) -> None:
    wanted = json.loads((PROJECT / "package.json").read_text())["dependencies"]
    locked = json.loads((PROJECT / "package-lock.json").read_text())["packages"]
    assert wanted == {
        name: json.loads((PROJECT / "node_modules" / name / "package.json").read_text())["version"]
        for name in wanted
    }
    packages = {name: each for name, each in locked.items() if name}
    assert all(each["integrity"].startswith("sha512-") for each in packages.values())
    assert not any("resolved" in each for each in packages.values()), "the lock file names a registry"


async def test_scripts_run(node: Node) -> None:
    found = await node.run_json(Path("versions.js"))
    assert set(found.values()) == {"function"}
