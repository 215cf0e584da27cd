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


# Values in a file, with aliases written out.
MAXIMUM_NODES = 100_000


class _Dumper(yaml.SafeDumper):
    """Lists indented under their key, and texts of several lines as such."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


class _Loader(yaml.SafeLoader):
    """YAML of JSON's types: no dates, and no key twice, of which YAML would keep the last in silence. Aliases
    are bounded in what they stand for: ten of ten of ten are a thousand."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        node = super().compose_node(parent, index)
        if node is not None and self._size(node) > MAXIMUM_NODES:
            raise _wrong(f"aliases make more than {MAXIMUM_NODES} values of it", node)
        return node

    def _size(self, node: yaml.Node) -> int:
        """How many values a node stands for, aliases written out."""
        if id(node) not in self._sizes or isinstance(node.value, list):
            parts = node.value if isinstance(node.value, list) else []
            nodes = [each for part in parts for each in (part if isinstance(part, tuple) else (part,))]
            self._sizes[id(node)] = 1 + sum(self._sizes.get(id(each), 1) for each in nodes)
        return self._sizes[id(node)]

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
