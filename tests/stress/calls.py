"""What each test calls, and running only some of them: plugins of pytest for ``mutants.py``."""

import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from types import CodeType, FrameType
from typing import Any, NamedTuple

import pytest
from mutating import path_of


class Called(NamedTuple):
    """A test, and what it calls."""

    test: str
    seconds: float
    functions: set[tuple[str, str]]  # (target, function)


def within(seconds: float, called: Iterable[Called]) -> list[Called]:
    """The first ones, those that fit."""
    chosen, passed = [], 0.0
    for each in called:
        if not chosen or passed + each.seconds <= seconds:
            passed += each.seconds
            chosen.append(each)
    return chosen


class Watching:
    """Notes what each test calls; what a fixture of several tests calls counts for all of its file."""

    def __init__(self, targets: list[str]) -> None:
        self.targets = {str(path_of(target)): target for target in targets}
        self.codes: dict[CodeType, tuple[str, str] | None] = {}
        self.found: dict[str, Called] = {}
        self.shared: dict[str, set[tuple[str, str]]] = defaultdict(set)
        self.seen: set[tuple[str, str]] = set()

    def _note(self, frame: FrameType, event: str, argument: object) -> None:
        code = frame.f_code
        if code not in self.codes:
            target = self.targets.get(code.co_filename)
            self.codes[code] = target and (target, code.co_qualname.partition(".<locals>")[0])  # type: ignore[assignment]
        if (called := self.codes[code]) is not None:
            self.seen.add(called)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.seen, started = set(), time.process_time()
        threading.settrace(self._note)
        sys.settrace(self._note)
        yield
        sys.settrace(None)
        threading.settrace(None)  # type: ignore[arg-type]
        self.found[item.nodeid] = Called(item.nodeid, time.process_time() - started, self.seen)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any, request: Any) -> Iterator[None]:
        before, self.seen = self.seen, set()
        yield
        if fixturedef.scope != "function":
            self.shared[request.node.nodeid.partition("::")[0]] |= self.seen
        self.seen |= before

    def called(self) -> list[Called]:
        shared = {name: self.shared[name.partition("::")[0]] for name in self.found}
        return [each._replace(functions=each.functions | shared[name]) for name, each in self.found.items()]


class Chosen:
    """Runs some tests, in their order."""

    def __init__(self, tests: list[str]) -> None:
        self.order = {name: place for place, name in enumerate(tests)}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted(
            (each for each in items if each.nodeid in self.order), key=lambda each: self.order[each.nodeid]
        )
