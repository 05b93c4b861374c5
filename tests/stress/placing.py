"""A mutant of a function put in the place of its code, so that all is imported once for many of them."""

import gc
import importlib
import io
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import redirect_stdout, suppress
from types import CodeType, FunctionType
from typing import Any

import pytest
from mutating import ROOT, Mutant, changed, path_of, unchanged


class Placing:
    """Imports the package and the tests; call it in a process of its own."""

    def __init__(self, files: Iterable[str], names: Iterable[str]) -> None:
        from jaxtyping import install_import_hook

        install_import_hook("imitate", "typecheck.check")
        for each in names:
            with suppress(Exception):  # one that only its package can import
                importlib.import_module(each)
        with redirect_stdout(io.StringIO()):
            assert pytest.main([*files, "--collect-only", "-q", "-p", "no:cacheprovider"]) == 0
        self.functions: dict[tuple[str, str], list[FunctionType]] = defaultdict(list)
        every: list[Any] = gc.get_objects()
        for function in every:
            if isinstance(function, FunctionType) and function.__code__.co_filename.startswith(str(ROOT / "src")):
                self.functions[function.__code__.co_filename, function.__code__.co_qualname].append(function)

    def code(self, mutant: Mutant) -> CodeType | None:
        """Of its function; None where it lies outside of any, or in what is decided when the function is made."""
        path, function = str(path_of(mutant.target)), mutant.function
        before, after = (list(_codes(tree, path, function)) for tree in (unchanged(mutant.target), changed(mutant)))
        there = self.functions.get((path, function), [])
        if not function or not there or len(after) != 1 or before == after:
            return None
        return after[0] if all(each.__code__.co_freevars == after[0].co_freevars for each in there) else None

    def put(self, mutant: Mutant, code: CodeType) -> None:
        for each in self.functions[str(path_of(mutant.target)), mutant.function]:
            each.__code__ = code


def _codes(tree: Any, path: str, function: str) -> Iterator[CodeType]:
    def within(code: CodeType) -> Iterator[CodeType]:
        for each in code.co_consts:
            if isinstance(each, CodeType):
                yield from [each] if each.co_qualname == function else within(each)

    return within(compile(tree, path, "exec"))
