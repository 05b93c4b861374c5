"""Mutation testing: one small mistake at a time in the modules below; the tests that mirror them should notice.

    python tests/stress/mutants.py --out docs/results/reliability/mutants.json --draw 400

Each mutant runs in a fork of a process that has the heavy imports behind it. Annotations, docstrings and the words of
errors are left alone. Survivors are listed with their line and change.
"""

import argparse
import ast
import importlib.util
import io
import json
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
GROUPS = {
    "images": ["data/dicom", "data/pixels", "data/display", "data/streams"],
    "annotations": ["data/annotations"],
    "reports": ["data/reports", "data/sections"],
    "losses": ["losses/baselines", "losses/contrastive", "losses/detection", "losses/segmentation"],
    "statistics": ["statistics/metrics", "statistics/resampling"],
}
EXCLUDED = [  # file, line, change, reason: what no test can tell from the original
    (
        "data/sections",
        'line = text.rfind("\\n", 0, start) + 1',
        "0 -> 1",
        "a newline that begins the text then counts as part of the first line, of which spaces are stripped",
    ),
    (
        "data/sections",
        'return folded(header).strip(":：*_ ")',
        "':：*_ ' -> 'X:：*_ '",
        "a folded header holds no capital letter",
    ),
    (
        "data/sections",
        'languages: dict[str, dict[str, list[str]]] = parse_yaml(text, where="section_headers.yaml")',
        "'section_headers.yaml' -> 'Xsection_headers.yaml'",
        "named where the file is damaged, which comes with the package",
    ),
    (
        "data/display",
        "return 1 / (1 + np.exp(np.clip(-4 / width * (pixels - center), -80, 80)))",
        "80 -> 81",
        "a limit against overflow, beyond which the value is 0 or 1 in float32",
    ),
    (
        "data/pixels",
        "if (low, high) != (0, 255):",
        "255 -> 256",
        "a short cut: the table that it passes over changes nothing",
    ),
]
SECONDS, CPU_SECONDS = 300, 60  # after which a mutant counts as noticed: it hangs
SHAPES = {"Float", "Bool", "Shaped", "Num", "UInt8", "Literal"}
SWAPS: dict[type, type] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip


def places(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes that may be changed, in order."""
    for name, value in ast.iter_fields(tree):
        if name in {"annotation", "returns", "decorator_list"}:
            continue
        for node in value if isinstance(value, list) else [value]:
            is_shape = isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id in SHAPES
            is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            if (
                isinstance(node, ast.AST)
                and not is_shape
                and not is_text
                and not isinstance(node, ast.Raise | ast.Assert)
            ):
                yield node
                yield from places(node)


def changes(node: ast.AST) -> list[tuple[str, Callable[[Any], None]]]:
    """What can go wrong at a node: a description and how to do it in place."""
    found: list[tuple[str, Callable[[Any], None]]] = []
    for field in ("op", "ops"):
        operator = getattr(node, field, None)
        operator = operator[0] if isinstance(operator, list) else operator
        if type(operator) in SWAPS:
            other = SWAPS[type(operator)]
            found.append((
                f"{type(operator).__name__} -> {other.__name__}",
                lambda n, f=field, o=other: setattr(n, f, [o(), *n.ops[1:]] if f == "ops" else o()),
            ))  # fmt: skip
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        found.append(
            (
                f"no {type(node.op).__name__}",
                lambda n: setattr(n, "op", ast.UAdd() if isinstance(n.op, ast.USub) else _Same()),
            )
        )
    if isinstance(node, ast.IfExp):
        found.append(("branches swapped", lambda n: n.__dict__.update(body=n.orelse, orelse=n.body)))
    if isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float | str) and node.value != "":
        value = node.value
        wrong = not value if isinstance(value, bool) else f"X{value}" if isinstance(value, str) else value + 1
        found.append((f"{value!r} -> {wrong!r}", lambda n: setattr(n, "value", wrong)))
    return found


class _Same(ast.Not):
    """Marks a ``not`` to be taken away."""


class _Dropped(ast.NodeTransformer):
    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.op, _Same):
            return ast.Call(ast.Name("bool", ast.Load()), [node.operand], [])
        return node


class Mutant(NamedTuple):
    target: str
    place: int  # of the node, in the order of ``places``
    index: int  # of the change, in the order of ``changes``
    line: int
    text: str  # of the line
    change: str


def mutants(target: str) -> list[Mutant]:
    """Every mutant of a file, in order."""
    source = _path(target).read_text(encoding="utf-8")
    lines = [line.strip() for line in source.splitlines()]
    return [
        Mutant(target, place, index, node.lineno, lines[node.lineno - 1], change)  # type: ignore[attr-defined]
        for place, node in enumerate(places(ast.parse(source)))
        for index, (change, _) in enumerate(changes(node))
    ]


def draw(group: str, number: int | None, seed: int) -> tuple[list[Mutant], list[Mutant], list[dict[str, str]]]:
    """All mutants of a group but the excluded, ``number`` of them in their order, and the excluded with reasons."""
    every = [mutant for target in GROUPS[group] for mutant in mutants(target)]
    reasons = {(target, text, change): reason for target, text, change, reason in EXCLUDED if target in GROUPS[group]}
    gone = [mutant for mutant in every if (mutant.target, mutant.text, mutant.change) in reasons]
    assert len({(each.target, each.text, each.change) for each in gone}) == len(reasons), "an excluded mutant is gone"
    excluded = [{"mutant": _said(each), "reason": reasons[each.target, each.text, each.change]} for each in gone]
    rest = [mutant for mutant in every if mutant not in gone]
    chosen = range(len(rest))
    if number is not None and number < len(rest):
        chosen = sorted(random.Random(seed).sample(chosen, number))
    return rest, [rest[each] for each in chosen], excluded


def _said(mutant: Mutant) -> str:
    return f"{mutant.target}:{mutant.line}: {mutant.change}: {mutant.text}"


def changed(mutant: Mutant) -> ast.Module:
    """The file with the mutant's mistake in it."""
    tree = ast.parse(_path(mutant.target).read_text(encoding="utf-8"))
    node = next(each for place, each in enumerate(places(tree)) if place == mutant.place)
    changes(node)[mutant.index][1](node)
    return ast.fix_missing_locations(_Dropped().visit(tree))


def _path(target: str) -> Path:
    return ROOT / "src/imitate" / f"{target}.py"


def noticed(target: str, tree: ast.Module | None, tests: list[str]) -> bool:
    """Whether the tests fail, in a fork, with ``tree`` in the place of the target (None: with the target itself)."""
    process = os.fork()
    if process:
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) != 0
    signal.alarm(SECONDS)
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    try:
        os._exit(_test(target, tree, tests))
    except BaseException:  # whatever a mutant does
        os._exit(3)


def _test(target: str, tree: ast.Module | None, tests: list[str]) -> int:
    import pytest
    from hypothesis import Phase, settings

    settings.register_profile(
        "mutants", derandomize=True, database=None, deadline=None, phases=[Phase.explicit, Phase.generate]
    )
    settings.load_profile("mutants")
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        if tree is not None:
            _install(target, tree)
        options = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow and not stress"]
        return int(pytest.main([*tests, *options]))


def tests_of(group: str, target: str) -> list[str]:
    """``test_pixels_*.py`` and ``test_pixels.py`` in ``tests/data`` for ``data/pixels``, then those of its group."""
    found = []
    for each in sorted(GROUPS[group], key=target.__ne__):
        folder, name = ROOT / "tests" / Path(each).parent, Path(each).name
        found += [*sorted(folder.glob(f"test_{name}_*.py")), folder / f"test_{name}.py"]
    return [str(path) for path in found if path.exists()]


def _install(target: str, tree: ast.Module) -> None:
    path = _path(target)
    name = "imitate." + target.replace("/", ".")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    exec(compile(tree, str(path), "exec"), module.__dict__)
    parent, _, child = name.rpartition(".")
    setattr(importlib.import_module(parent), child, module)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", type=Path, required=True, help="of the groups that are not asked for, it stays as it is"
    )
    parser.add_argument("--groups", nargs="+", default=list(GROUPS), choices=GROUPS)
    parser.add_argument("--draw", type=int, help="only so many mutants of a group, drawn at random")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    arguments = parser.parse_args()
    os.chdir(ROOT)
    sys.path[:0] = ["src", "tests/support"]
    import hypothesis, jaxtyping, pandas, PIL.Image, pyarrow, pydicom, pytest, scipy.stats, sklearn.metrics, torch  # noqa: E401, F401, I001

    torch.set_num_threads(1)
    found = {}
    if arguments.out.is_file():
        found = json.loads(arguments.out.read_text(encoding="utf-8"))
    for group in arguments.groups:
        found[group] = _measured(group, arguments.draw, arguments.seed)
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _measured(group: str, number: int | None, seed: int) -> dict[str, Any]:
    tests = {target: tests_of(group, target) for target in GROUPS[group]}
    assert not noticed(group, None, tests[GROUPS[group][0]]), f"the tests of {group} fail without any change"
    every, drawn, excluded = draw(group, number, seed)
    survivors, started = [], time.monotonic()
    for count, mutant in enumerate(drawn, 1):
        if not noticed(mutant.target, changed(mutant), tests[mutant.target]):
            survivors.append(_said(mutant))
            sys.stderr.write(f"{survivors[-1]}\n")
        if count % 20 == 0 or count == len(drawn):
            passed = time.monotonic() - started
            sys.stderr.write(f"{group}: {count - len(survivors)} of {count} killed, {passed:.0f} s\n")
    killed = len(drawn) - len(survivors)
    return {
        "files": GROUPS[group],
        "in_all": len(every),
        "mutants": len(drawn),
        "seed": seed if len(drawn) < len(every) else None,
        "killed": killed,
        "fraction": round(killed / len(drawn), 3),
        "survivors": survivors,
        "excluded": excluded,
    }


if __name__ == "__main__":
    main()
