"""Mutation testing: one small mistake at a time in the modules below; the tests that mirror them should notice.

    python tests/stress/mutants.py --out docs/results/reliability/mutants.json

Each mutant runs in a fork of a process that has the heavy imports behind it. Annotations, docstrings and the words of
errors are left alone. Survivors are listed with their line and change.
"""

import argparse
import ast
import copy
import importlib.util
import io
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
LOSSES = ["losses/baselines", "losses/contrastive", "losses/detection", "losses/segmentation"]
DATA = ["annotations", "dicom", "pixels", "display", "streams", "reports", "sections"]
TARGETS = [*LOSSES, *(f"data/{name}" for name in DATA), "statistics/metrics", "statistics/resampling"]
TESTED_WITH = {"data/display": ["data/dicom", "data/pixels"], "data/streams": ["data/dicom", "data/pixels"]}
SECONDS = 300  # after which a mutant counts as noticed: it hangs
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


def mutants(source: str) -> Iterator[tuple[int, str, ast.Module]]:
    tree = ast.parse(source)
    for number, node in enumerate(places(tree)):
        for index, (change, _) in enumerate(changes(node)):
            changed = copy.deepcopy(tree)
            place = next(each for count, each in enumerate(places(changed)) if count == number)
            changes(place)[index][1](place)
            yield getattr(node, "lineno", 0), change, ast.fix_missing_locations(_Dropped().visit(changed))


def noticed(target: str, tree: ast.Module | None) -> bool:
    """Whether the tests fail, in a fork, with ``tree`` in the place of the target (None: with the target itself)."""
    process = os.fork()
    if process:
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) != 0
    signal.alarm(SECONDS)
    try:
        os._exit(_test(target, tree))
    except BaseException:  # whatever a mutant does
        os._exit(3)


def _test(target: str, tree: ast.Module | None) -> int:
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
        return int(pytest.main([*tests_of(target), *options]))


def tests_of(target: str) -> list[str]:
    """``tests/data/test_pixels.py`` and ``tests/data/test_pixels_*.py`` of ``data/pixels``."""
    found = []
    for each in TESTED_WITH.get(target, [target]):
        folder, name = ROOT / "tests" / Path(each).parent, Path(each).name
        found += [folder / f"test_{name}.py", *sorted(folder.glob(f"test_{name}_*.py"))]
    return [str(path) for path in found if path.exists()]


def _install(target: str, tree: ast.Module) -> None:
    path = ROOT / "src/imitate" / f"{target}.py"
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
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--every", type=int, default=1, help="only every n-th mutant")
    parser.add_argument("--first", type=int, default=0, help="the first mutant of those")
    parser.add_argument("--targets", nargs="+", default=TARGETS, help="what is in --out of the others stays")
    arguments = parser.parse_args()
    os.chdir(ROOT)
    sys.path[:0] = ["src", "tests/support"]
    import hypothesis, jaxtyping, pandas, PIL.Image, pyarrow, pydicom, pytest, scipy.stats, sklearn.metrics, torch  # noqa: E401, F401, I001

    torch.set_num_threads(1)
    started, found = time.monotonic(), {}
    if arguments.out.is_file():
        found = json.loads(arguments.out.read_text(encoding="utf-8"))
    for target in arguments.targets:
        source = (ROOT / "src/imitate" / f"{target}.py").read_text(encoding="utf-8")
        assert not noticed(target, None), f"the tests of {target} fail without any change"
        survivors, killed = [], 0
        for number, (line, change, tree) in enumerate(mutants(source)):
            if number % arguments.every != arguments.first:
                continue
            if noticed(target, tree):
                killed += 1
            else:
                survivors.append(f"line {line}: {change}: {source.splitlines()[line - 1].strip()}")
        total = killed + len(survivors)
        found[target] = {
            "mutants": total,
            "killed": killed,
            "fraction": round(killed / total, 3),
            "survivors": survivors,
        }
        sys.stderr.write(f"{target}: {killed} of {total} killed, {time.monotonic() - started:.0f} s\n")
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
