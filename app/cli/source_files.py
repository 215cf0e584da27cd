"""Sources as files: a YAML file for each source, its environments inside, scripts as .js files beside it.

    sources/stripe.yaml
    sources/stripe.production.js     the script of `stripe` in `production`

What a file holds is what a person may change. Ids, times and endpoint URLs are the server's; secrets are in
no file. Files read the same whatever the order of their mappings.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from app.core import exact_json
from app.core.errors import CommandError

FOLDER = "sources"
# The fields of a source that are settings of the account, in the order in which a file shows them.
_FIELDS = ("name", "description", "custom_image_url", "provider")
_OF_THE_SERVER = frozenset({"endpoint"})
_SCRIPT = "preprocess_script"


@dataclass(frozen=True)
class SourceFile:
    """A source as a file has it: plain data. Scripts stand in their settings as text."""

    key: str
    content: dict[str, Any]

    def text(self) -> str:
        """The YAML, with scripts named by their files."""
        from app.cli.strict_yaml import write_yaml

        content = self._in_order()
        for environment, configured in content["environments"].items():
            settings = configured["settings"]
            if settings.get(_SCRIPT) is not None:
                named = {**settings, _SCRIPT: _script_name(self.key, environment)}
                content["environments"][environment] = {**configured, "settings": named}
        return write_yaml(content)

    def scripts(self) -> dict[str, str]:
        """The scripts by file name."""
        return {
            _script_name(self.key, environment): configured["settings"][_SCRIPT]
            for environment, configured in self.content["environments"].items()
            if configured["settings"].get(_SCRIPT) is not None
        }

    def limited_to(self, other: "SourceFile") -> "SourceFile":
        """The same with the environments and settings only that the other has too: files may leave out
        both."""
        kept = {}
        for slug, configured in self.content["environments"].items():
            if named := other.content["environments"].get(slug):
                settings = {
                    name: value for name, value in configured["settings"].items() if name in named["settings"]
                }
                kept[slug] = {**configured, "settings": settings}
        return SourceFile(self.key, {**self.content, "environments": kept})

    def within(self, environments: Collection[str]) -> "SourceFile":
        """The same with these environments only."""
        kept = {slug: each for slug, each in self.content["environments"].items() if slug in environments}
        return SourceFile(self.key, {**self.content, "environments": kept})

    def beside(self, other: "SourceFile", environments: Collection[str]) -> "SourceFile":
        """The same with what the other says of environments that are none of these."""
        added = {
            slug: each for slug, each in other.content["environments"].items() if slug not in environments
        }
        return SourceFile(
            self.key, {**self.content, "environments": {**self.content["environments"], **added}}
        )

    def says_the_same_as(self, other: "SourceFile") -> bool:
        """Whether both are the same as JSON: `1` and `true` are not."""
        return _canonical(self._in_order()) == _canonical(other._in_order())

    def _in_order(self) -> dict[str, Any]:
        """The content with its mappings in the one order. A request keeps the file's: refusals count by
        it."""
        environments = {
            slug: {**configured, "mappings": sorted(configured["mappings"], key=_canonical)}
            for slug, configured in self.content["environments"].items()
        }
        return {**self.content, "environments": environments}

    def request(self) -> dict[str, Any]:
        """The body with which the Management API makes the source so."""
        content = dict(self.content)
        return {
            "source": {
                "preconfigured_provider": content.pop("provider"),
                "environment_settings": {
                    slug: _request_environment(each) for slug, each in content.pop("environments").items()
                },
                **content,
            }
        }


def from_answer(source: dict[str, Any]) -> SourceFile:
    """The file of a source as the Management API answers it."""
    environments = {
        slug: {
            "settings": {
                name: value["source"] if name == _SCRIPT and value is not None else value
                for name, value in configured["settings"].items()
                if name not in _OF_THE_SERVER
            },
            "mappings": [_mapping(each) for each in configured["mappings"]],
        }
        for slug, configured in source["environment_settings"].items()
    }
    return SourceFile(
        source["key"], {**{name: source[name] for name in _FIELDS}, "environments": environments}
    )


def read_files(directory: Path) -> dict[str, SourceFile]:
    """The sources of a directory by key.

    Raises:
        CommandError: it has none, or a file is not written as one; the message names the file and the place.
    """
    paths = sorted((directory / FOLDER).glob("*.yaml"))
    if misnamed := sorted((directory / FOLDER).glob("*.yml")):
        raise CommandError(f"{misnamed[0]}: is not read: name it {misnamed[0].stem}.yaml")
    if not paths:
        raise CommandError(f"there is no {directory / FOLDER}/*.yaml: begin with `doorbell pull {directory}`")
    return {path.stem: _read(path) for path in paths}


def plan_files(directory: Path, files: list[SourceFile]) -> dict[Path, bytes | None]:
    """What is to be written where files differ; None for those of sources and scripts that are gone."""
    folder = directory / FOLDER
    wanted = {folder / f"{each.key}.yaml": each.text() for each in files}
    for each in files:
        wanted |= {folder / name: text for name, text in each.scripts().items()}
    # As bytes: a script may end its lines as Windows does.
    plan: dict[Path, bytes | None] = {
        path: text.encode()
        for path, text in wanted.items()
        if not path.exists() or path.read_bytes() != text.encode()
    }
    there = sorted([*folder.glob("*.yaml"), *folder.glob("*.js")])
    return plan | {path: None for path in there if path not in wanted}


def write_files(directory: Path, plan: dict[Path, bytes | None]) -> None:
    """Do what was planned."""
    (directory / FOLDER).mkdir(parents=True, exist_ok=True)
    for path, content in plan.items():
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)


def _script_name(key: str, environment: str) -> str:
    return f"{key}.{environment}.js"


def _mapping(answer: dict[str, Any]) -> dict[str, Any]:
    """A mapping as a file has it: what is as it would be without saying so is left out."""
    mapping = {
        "event_type": answer["event_type"],
        "action_type": answer["action_type"],
        "action_parameters": answer.get("action_parameters") or {},
    }
    if not answer.get("active", True):
        mapping["active"] = False
    if answer.get("skip_older"):
        mapping["skip_older"] = True
    if answer.get("conditions") is not None:
        mapping["conditions"] = answer["conditions"]
    return mapping


def _canonical(value: Any) -> bytes:
    return exact_json.dumps(value, option=orjson.OPT_SORT_KEYS)


def _request_environment(configured: dict[str, Any]) -> dict[str, Any]:
    settings = dict(configured["settings"])
    if settings.get(_SCRIPT) is not None:
        settings[_SCRIPT] = {"language": "javascript", "source": settings[_SCRIPT]}
    # What a file does not say is not so; the API would leave it as it is.
    mappings = [{"skip_older": False, "conditions": None, **each} for each in configured["mappings"]]
    return {"settings": settings, "mappings": mappings}


def _read(path: Path) -> SourceFile:
    from app.cli.strict_yaml import YAMLError, read_yaml

    try:
        with path.open(encoding="utf-8") as file:
            content = read_yaml(file)
        # What YAML knows and JSON does not: sets, bytes, keys that are no text, numbers of any length.
        _canonical(content)
    except (OSError, YAMLError, UnicodeDecodeError, orjson.JSONEncodeError) as error:
        raise CommandError(f"{path}: {error}") from None
    content = _object(content, f"{path}")
    for name in ("name", "provider"):
        if not isinstance(content.get(name), str):
            raise CommandError(f"{path}: {name} is required, as text")
    if unknown := content.keys() - {*_FIELDS, "environments"}:
        raise CommandError(f"{path}: {', '.join(sorted(unknown))}: no such field; check the spelling")
    environments = _object(content.get("environments", {}), f"{path}: environments")
    read = {slug: _read_environment(path, slug, each) for slug, each in environments.items()}
    return SourceFile(path.stem, {**{name: content.get(name) for name in _FIELDS}, "environments": read})


def _read_environment(path: Path, slug: str, content: Any) -> dict[str, Any]:
    where = f"{path}: environments.{slug}"
    content = _object(content, where)
    if unknown := content.keys() - {"settings", "mappings"}:
        raise CommandError(f"{where}: {', '.join(sorted(unknown))}: no such field; check the spelling")
    settings = _object(content.get("settings", {}), f"{where}.settings")
    if isinstance(script := settings.get(_SCRIPT), str):
        settings = {**settings, _SCRIPT: _read_script(path, script, f"{where}.settings.{_SCRIPT}")}
    mappings = content.get("mappings", [])
    if not isinstance(mappings, list):
        raise CommandError(f"{where}.mappings: is not a list")
    listed = [_object(each, f"{where}.mappings.{number}") for number, each in enumerate(mappings)]
    for number, each in enumerate(listed):
        if missing := {"event_type", "action_type"} - each.keys():
            raise CommandError(f"{where}.mappings.{number}: {', '.join(sorted(missing))} is required")
        if unknown := each.keys() - {
            "event_type",
            "action_type",
            "action_parameters",
            "active",
            "skip_older",
            "conditions",
        }:
            raise CommandError(f"{where}.mappings.{number}: {', '.join(sorted(unknown))}: no such field")
    return {"settings": settings, "mappings": [_mapping(each) for each in listed]}


def _read_script(path: Path, name: str, where: str) -> str:
    script = path.parent / name
    if Path(name).name != name or not script.exists():
        raise CommandError(f"{where}: there is no file {name} beside {path.name}")
    return script.read_bytes().decode("utf-8")


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise CommandError(f"{where}: is not an object with text as keys")
    return value
