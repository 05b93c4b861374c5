"""The small mistakes that are put into a file, one at a time.

Annotations, docstrings and the words of errors are left alone.
"""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
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
    function: str  # or method, the outermost one; "" outside of any


def mutants(target: str) -> list[Mutant]:
    """Every mutant of a file, in order."""
    source = path_of(target).read_text(encoding="utf-8")
    lines, tree = [line.strip() for line in source.splitlines()], ast.parse(source)
    spans = list(_functions(tree))
    found = []
    for place, node in enumerate(places(tree)):
        for index, (change, _) in enumerate(changes(node)):
            line: int = node.lineno  # type: ignore[attr-defined]
            function = next((name for name, lines_of in spans if line in lines_of), "")
            found.append(Mutant(target, place, index, line, lines[line - 1], change, function))
    return found


def _functions(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, range]]:
    """Functions and methods, each with its lines, not those inside of others; "" for one that is called only once."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef):
            cached = any("cache" in ast.unparse(decorator) for decorator in child.decorator_list)
            yield "" if cached else prefix + child.name, range(child.lineno, (child.end_lineno or 0) + 1)
        else:
            yield from _functions(child, f"{prefix}{child.name}." if isinstance(child, ast.ClassDef) else prefix)


def unchanged(target: str) -> ast.Module:
    """The file as it is."""
    return ast.parse(path_of(target).read_text(encoding="utf-8"))


def said(mutant: Mutant) -> str:
    """In a line."""
    return f"{mutant.target}:{mutant.line}: {mutant.change}: {mutant.text}"


def changed(mutant: Mutant) -> ast.Module:
    """The file with the mutant's mistake in it."""
    tree = unchanged(mutant.target)
    node = next(each for place, each in enumerate(places(tree)) if place == mutant.place)
    changes(node)[mutant.index][1](node)
    return ast.fix_missing_locations(_Dropped().visit(tree))


def path_of(target: str) -> Path:
    """Its file."""
    return ROOT / "src/imitate" / f"{target}.py"
