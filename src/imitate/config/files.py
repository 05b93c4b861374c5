"""YAML and JSON files, read within bounds."""

import json
from pathlib import Path
from typing import Any

import yaml

from imitate.errors import UserError

BYTES = 2**18  # of a file; the largest of ours has 10,000
VALUES = 2**16  # with every alias written out


def read_yaml(path: Path, *, holds: str) -> dict[Any, Any]:
    """The mapping in a file, {} of an empty one. UserError where it is none; ``holds`` says what it should be."""
    values = parse_yaml(_text(path, "YAML", holds), where=str(path))
    return {} if values is None else _mapping(path, values, holds)


def read_json(path: Path, *, holds: str) -> dict[str, Any]:
    """The object in a file. UserError where it is none, or damaged; ``holds`` says what it should be."""
    try:
        values = json.loads(_text(path, "JSON", holds))
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else error
        raise UserError(f"{path} is not valid JSON: {reason}") from error
    return _mapping(path, values, holds)


def _text(path: Path, kind: str, holds: str) -> str:
    try:
        if path.stat().st_size > BYTES:
            raise UserError(f"{path} has {path.stat().st_size} bytes, more than {BYTES}: it must hold {holds}")
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not valid {kind}: {error}") from error


def _mapping(path: Path, values: Any, holds: str) -> dict[Any, Any]:
    if not isinstance(values, dict):
        raise UserError(f"{path} must hold {holds}, not {type(values).__name__}")
    return values


def parse_yaml(text: str, *, where: str) -> Any:
    """UserError names ``where`` the text is from."""
    try:
        return yaml.load(text, _Bounded)
    except Exception as error:  # over a date such as 2024-13-01 its constructors raise whatever they like
        reason = "nested too deep" if isinstance(error, RecursionError) else error
        raise UserError(f"{where} is not valid YAML: {reason}") from error


def line_of(path: Path, location: tuple[int | str, ...]) -> str:
    """Where in a YAML file a key stands, or the last of the keys above it; "" where the file has none of them."""
    node: yaml.Node | None = yaml.compose(path.read_text(encoding="utf-8-sig"), _Bounded)
    line = ""
    for part in location:
        pairs = node.value if isinstance(node, yaml.MappingNode) else ()
        key, node = next((pair for pair in pairs if pair[0].value == str(part)), (None, None))
        if key is None:
            break
        line = f", line {key.start_mark.line + 1}"
    return line


class _Bounded(yaml.SafeLoader):
    """Safe, not recursive, no key twice, and with its aliases written out no larger than ``VALUES``.

    Ten lines can name gigabytes; of a key that stands twice, YAML would keep the last value only.
    """

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._weights: dict[yaml.Node, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        is_alias = self.check_event(yaml.AliasEvent)
        node: yaml.Node | None = super().compose_node(parent, index)
        assert node is not None
        if not is_alias:
            parts = node.value if isinstance(node.value, list) else []
            flat = [each for part in parts for each in (part if isinstance(part, tuple) else (part,))]
            self._weights[node] = 1 + sum(self._weights[each] for each in flat)
        if node not in self._weights:
            raise yaml.YAMLError("an alias within what it stands for")
        if self._weights[node] > VALUES:
            raise yaml.YAMLError(f"more than {VALUES} values")
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in lines:
                raise yaml.YAMLError(
                    f"the key {key.value!r} stands twice, on lines {lines[key.value]} and {line}: keep one"
                )
            lines[key.value] = line
        return node
