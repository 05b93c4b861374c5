import time
from contextlib import suppress
from pathlib import Path

import pytest

from imitate.config import parse_yaml, read_yaml
from imitate.config.files import BYTES
from imitate.errors import UserError


def test_a_mapping_is_read_with_its_aliases(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("\ufeffa: &a [1, 2]\nb: *a\nc: {<<: {d: 3}, e: 4}\n", encoding="utf-8")
    assert read_yaml(path, holds="letters") == {"a": [1, 2], "b": [1, 2], "c": {"d": 3, "e": 4}}
    path.write_text("# nothing\n")
    assert read_yaml(path, holds="letters") == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"- a", "must hold letters, not list"),
        (b"a: [", "is not valid YAML: while parsing"),
        (b"a: \xff", "is not valid YAML: 'utf-8' codec"),
        (b"a: 2024-13-45", "is not valid YAML: month must be in 1..12"),
        (b"a: !!int x", "is not valid YAML"),
        (b"a: !!python/name:os.system", "is not valid YAML: could not determine a constructor"),
        (b"a: 1\nb: {c: 2}\na: 3", "the key 'a' stands twice, on lines 1 and 3: keep one"),
        (b"b:\n  c: 2\n  d: 3\n  'c': 4", "the key 'c' stands twice, on lines 2 and 4: keep one"),
        (b"b: {c: 2, c: 2}", "the key 'c' stands twice, on lines 1 and 1: keep one"),
        (b"#" * (BYTES + 1), f"has {BYTES + 1} bytes, more than {BYTES}"),
    ],
)
def test_what_is_no_mapping_is_reported_in_one_line(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read_yaml(tmp_path / "a.yaml", holds="letters")
    assert "\n" not in str(caught.value)


BOMB = "a0: &a0 {x: y}\n" + "".join(f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 9)}]\n" for i in range(9))
MERGES = "a0: &a0 {x: y}\n" + "".join(f"a{i + 1}: &a{i + 1}\n  <<: [{', '.join([f'*a{i}'] * 9)}]\n" for i in range(9))


@pytest.mark.parametrize(
    "text", [BOMB, MERGES, "&a [*a]", "&a {b: {c: *a}}", "[" * 5000, "{a: " * 5000, "- " * 9000, "? " * 9000]
)
def test_yaml_that_would_grow_without_end_is_refused(text):
    started = time.process_time()
    with pytest.raises(UserError, match="is not valid YAML"):
        parse_yaml(text, where="it")
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    "part", ["a", "a ", "'", "a: 1\n", "- a\n", "[],", "&a b\n", "# c\n", "\n", '"\\', "!a ", ": "]
)
def test_long_yaml_takes_no_more_than_linear_time(part):
    started = time.process_time()
    with suppress(UserError):
        parse_yaml(part * (BYTES // 8 // len(part)), where="it")
    assert time.process_time() - started < 8
