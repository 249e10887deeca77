"""YAML of config files and overrides, read within limits.

PyYAML's safe loader, with the floats of YAML 1.2 (plain `1e-3` is a number) and without its traps. It refuses a key
that is written twice, aliases that expand without end, nesting that exhausts the stack, and numbers of thousands of
digits.
"""

import re
from collections.abc import Hashable
from typing import Any

import yaml

MAX_NODES = 100_000
"""Values in one text, with every alias counted as often as it is used."""
MAX_DEPTH = 50
"""Nested lists and mappings."""
MAX_CHARACTERS = 4_000_000
_MAX_DIGITS = 400
"""Digits of a number: more than the largest float has."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with limits."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise yaml.YAMLError(f"nested more than {MAX_DEPTH} deep")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def compose_document(self) -> yaml.Node | None:
        node = super().compose_document()
        if node is not None and _expanded_size(node, {}) > MAX_NODES:
            raise yaml.YAMLError(f"its aliases expand to more than {MAX_NODES:,} values")
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.YAMLError(f"line {key_node.start_mark.line + 1}: a key is a list or a mapping")
            if key in seen:
                raise yaml.YAMLError(f"line {key_node.start_mark.line + 1}: the key {key!r} is written twice")
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        if len(node.value) > _MAX_DIGITS:
            raise yaml.YAMLError(f"line {node.start_mark.line + 1}: a number of {len(node.value):,} digits")
        return super().construct_yaml_int(node)


class _Dumper(yaml.SafeDumper):
    """The counterpart of `_Loader`: it quotes the text `1e-3`, and escapes the line breaks that only Unicode knows."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        style = '"' if _UNICODE_LINE_BREAK.search(text) else None
        return self.represent_scalar("tag:yaml.org,2002:str", text, style)


_UNICODE_LINE_BREAK = re.compile("[\x85\u2028\u2029]")
"""Written as it is, each is read back as a space."""
_Dumper.add_representer(str, _Dumper.represent_text)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
for _class in (_Loader, _Dumper):
    _class.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
        list("-+.0123456789"),
    )


def _expanded_size(node: yaml.Node, sizes: dict[int, int]) -> int:
    """The number of values below a node, aliases included; more than `MAX_NODES` for a node that contains itself."""
    if id(node) in sizes:
        return sizes[id(node)]
    sizes[id(node)] = MAX_NODES + 1  # replaced below, unless the node is reached again from within
    children: list[yaml.Node] = []
    if isinstance(node, yaml.SequenceNode):
        children = node.value
    elif isinstance(node, yaml.MappingNode):
        children = [child for pair in node.value for child in pair]
    size = 1 + sum(_expanded_size(child, sizes) for child in children)
    sizes[id(node)] = size
    return size


def parse_yaml(text: str) -> Any:
    """The value of a YAML text.

    Raises:
        ValueError: the text is not YAML, or beyond the limits. The message is one line.
    """
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"more than {MAX_CHARACTERS:,} characters")
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def dump_yaml(content: Any) -> str:
    """YAML that `parse_yaml` reads back to an equal value."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
