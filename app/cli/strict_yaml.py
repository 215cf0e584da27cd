"""YAML of JSON's types, laid out for people. The one module of the command line that loads PyYAML."""

import math
from collections.abc import Hashable
from typing import Any, TextIO

import yaml
from yaml import YAMLError

__all__ = ["YAMLError", "read_yaml", "write_yaml"]


def write_yaml(content: dict[str, Any]) -> str:
    """The content as YAML, its keys in their order."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def read_yaml(file: TextIO) -> Any:
    """What a file says.

    Raises:
        YAMLError: it is not YAML, or not of JSON's types; names the line.
    """
    return yaml.load(file, Loader=_Loader)


class _Dumper(yaml.SafeDumper):
    """Lists indented under their key, and texts of several lines as such."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


class _Loader(yaml.SafeLoader):
    """YAML of JSON's types: no dates, and no key twice, of which YAML would keep the last in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if (name := str(key.value)) in seen:
                raise _wrong(f"the key {name} stands here twice", key)
            seen.add(name)
        return super().construct_mapping(node, deep)


def _wrong(message: str, node: yaml.Node) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, message, node.start_mark)


def _float(loader: _Loader, node: yaml.ScalarNode) -> float:
    if not math.isfinite(number := loader.construct_yaml_float(node)):
        raise _wrong(f"{node.value} is no number of JSON: write it in quotes, if it is a text", node)
    return number


_Loader.add_constructor("tag:yaml.org,2002:float", _float)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
