"""Mutation testing: one small mistake at a time in the modules below; the tests that mirror them should notice.

    python tests/stress/mutants.py --out docs/results/reliability/mutants.json --draw 400

The tests of a group run once, to see which functions each of them calls. A mutant is then tried with those that call
its function, those of its own file first and for ``CPU_SECONDS`` at most: in a fork of a process that has imported all,
with the function's code replaced, or, outside of functions, of one that has imported all that does not depend on its
file. Survivors are listed with their line and change.
"""

import argparse
import gc
import importlib.util
import io
import json
import os
import pickle
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stderr, redirect_stdout, suppress
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from calls import Called, Chosen, Watching, within
from equivalent_mutants import EQUIVALENT
from mutating import ROOT, Mutant, changed, mutants, path_of, said, unchanged
from placing import Placing


def _every(folder: str) -> list[str]:
    names = [f"{folder}/{path.stem}" for path in sorted((ROOT / "src/imitate" / folder).glob("*.py"))]
    return [name for name in names if mutants(name)]


GROUPS = {
    "images": ["data/dicom", "data/pixels", "data/display", "data/streams"],
    "annotations": ["data/annotations"],
    "reports": ["data/reports", "data/sections", "data/section_labels", "data/markup"],
    "statistics": _every("statistics"),
    "augmentation": ["data/augment", "data/evaluation", "data/sampler"],
    "losses": _every("losses"),
    "models": _every("models"),
    "training": _every("training"),
    "tasks": _every("tasks"),
}
MORE_TESTS = {
    "training": ["training/test_terms", "training/test_loss_at_scale", "losses/test_grounding"],
    "tasks": [
        "tasks/test_tasks",
        "commands/test_compare",
        "commands/test_evaluate",
        "commands/test_evaluate_again",
        "inference/test_peer",
    ],
}
CONTRACTS = {"tasks": ["tasks/test_options"]}  # read what modules define, without a call
CPU_SECONDS = 8  # of tests for a mutant: many tests of training and of the tasks take a second or two
SECONDS, CPU_LIMIT = 120, 60  # after which a mutant counts as noticed: it hangs


def draw(group: str, number: int | None, seed: int) -> tuple[list[Mutant], list[Mutant], list[dict[str, str]]]:
    """All mutants of a group but the equivalent, ``number`` of them in their order, and the others with reasons."""
    every = [mutant for target in GROUPS[group] for mutant in mutants(target)]
    reasons = {(target, text, change): reason for target, text, change, reason in EQUIVALENT if target in GROUPS[group]}
    gone = [mutant for mutant in every if (mutant.target, mutant.text, mutant.change) in reasons]
    assert len({(each.target, each.text, each.change) for each in gone}) == len(reasons), "an excluded mutant is gone"
    excluded = [{"mutant": said(each), "reason": reasons[each.target, each.text, each.change]} for each in gone]
    rest = [mutant for mutant in every if mutant not in gone]
    chosen = range(len(rest))
    if number is not None and number < len(rest):
        chosen = sorted(random.Random(seed).sample(chosen, number))
    return rest, [rest[each] for each in chosen], excluded


def tests_of(target: str) -> list[str]:
    """``test_pixels_*.py`` and ``test_pixels.py`` in ``tests/data`` for ``data/pixels``."""
    folder, name = ROOT / "tests" / Path(target).parent, Path(target).name
    found = [*sorted(folder.glob(f"test_{name}_*.py")), folder / f"test_{name}.py"]
    return [path.relative_to(ROOT).as_posix() for path in found if path.exists()]


def tests_for(mutant: Mutant, called: list[Called]) -> list[Called]:
    """The tests that call its function, in order; for one that is called by none, and outside functions, its own."""
    own = tests_of(mutant.target)
    among = [each for each in called if (mutant.target, mutant.function) in each.functions]
    if not among:
        own = [*own, *(f"tests/{name}.py" for name in CONTRACTS.get(mutant.target.partition("/")[0], []))]
    among = among or [each for each in called if each.test.partition("::")[0] in own]
    among = among or [each for each in called if any(target == mutant.target for target, _ in each.functions)]
    return within(CPU_SECONDS, sorted(among, key=lambda each: (each.test.partition("::")[0] not in own, each.seconds)))


def _pytest(files: list[str], plugin: object) -> int:
    from hypothesis import Phase, settings

    settings.register_profile(
        "mutants", derandomize=True, database=None, deadline=None, phases=[Phase.explicit, Phase.generate]
    )
    settings.load_profile("mutants")
    options = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow and not stress"]
    return int(pytest.main([*files, *options], [plugin]))


def _forked(function: Callable[[], int]) -> int:
    """What it returns, in a fork, silently."""
    process = os.fork()
    if process:
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            code = function()
        os._exit(code)
    except BaseException:  # whatever a mutant does
        os._exit(3)


def _watched(group: str) -> tuple[list[Called], list[str]]:
    """What the tests of a group call, and the modules that they import."""
    files = [file for target in GROUPS[group] for file in tests_of(target)]
    files = list(dict.fromkeys(files + [f"tests/{name}.py" for name in MORE_TESTS.get(group, [])]))
    with tempfile.NamedTemporaryFile() as stored:

        def watched() -> int:
            watching = Watching(GROUPS[group])
            code = _pytest(files, watching)
            files_of = {name: getattr(module, "__file__", None) or "" for name, module in sys.modules.items()}
            names = [name for name, file in files_of.items() if "site-packages" in file or name.startswith("imitate")]
            Path(stored.name).write_bytes(pickle.dumps((watching.called(), names)))
            return code

        assert _forked(watched) == 0, f"the tests of {group} fail without any change"
        found: tuple[list[Called], list[str]] = pickle.loads(stored.read())
    return found


def noticed(called: list[Called], put: Callable[[], None]) -> bool:
    """Whether the tests fail, in a fork, after ``put``."""
    tests = [each.test for each in called]

    def tried() -> int:
        signal.alarm(SECONDS)
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_LIMIT, CPU_LIMIT))
        put()
        return _pytest(list(dict.fromkeys(test.partition("::")[0] for test in tests)), Chosen(tests))

    return _forked(tried) != 0


def _module(target: str) -> str:
    return f"imitate.{target.replace('/', '.')}".removesuffix(".__init__")


def _install(target: str, tree: Any) -> None:
    path, name = path_of(target), _module(target)
    inside = [str(path.parent)] if path.stem == "__init__" else None
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=inside)
    assert spec
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    exec(compile(tree, str(path), "exec"), module.__dict__)
    parent, _, child = name.rpartition(".")
    setattr(importlib.import_module(parent), child, module)


def _import(target: str, names: list[str]) -> None:
    """Before the forks, all that the tests need and that does not import the target."""
    import grimp
    from jaxtyping import install_import_hook

    install_import_hook("imitate", "typecheck.check")
    name = _module(target)
    package = target.endswith("__init__")
    changing = {name, *grimp.build_graph("imitate").find_downstream_modules(name, as_package=package)}
    for each in names:
        if each not in changing and not (package and each.startswith(f"{name}.")):
            with suppress(Exception):  # one that only its package can import
                importlib.import_module(each)
    gc.freeze()  # else collections in the forks copy all of it


def _survivors(target: str, drawn: list[Mutant], called: list[Called], names: list[str]) -> list[Mutant]:
    _import(target, names)
    every = {each.test: each for mutant in drawn for each in tests_for(mutant, called)}
    assert every, f"no test calls {target}"
    few = within(2 * CPU_SECONDS, every.values())
    assert not noticed(few, partial(_install, target, unchanged(target))), f"the tests of {target} fail unchanged"
    return [each for each in drawn if _survives(each, called, partial(_install, target, changed(each)))]


def _survives(mutant: Mutant, called: list[Called], put: Callable[[], None]) -> bool:
    survives = not noticed(tests_for(mutant, called), put)
    if survives:
        sys.stderr.write(f"{said(mutant)}\n")
    return survives


def _in_place(drawn: list[Mutant], called: list[Called], names: list[str]) -> tuple[list[Mutant], list[Mutant]]:
    """Those whose function's code can be replaced, and the survivors among them."""
    placing = Placing(dict.fromkeys(each.test.partition("::")[0] for each in called), names)
    gc.freeze()  # else collections in the forks copy all of it
    codes = [(each, code) for each in drawn if (code := placing.code(each))]
    few = within(2 * CPU_SECONDS, called)
    assert not noticed(few, lambda: None), "the tests fail without any change"
    survivors = [each for each, code in codes if _survives(each, called, partial(placing.put, each, code))]
    return [each for each, _ in codes], survivors


def _measured(group: str, number: int | None, seed: int, before: dict[str, Any] | None) -> dict[str, Any]:
    """``before``: of an earlier measurement only the survivors are tried, since new tests spare no mutant."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    commit = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    every, whole, excluded = draw(group, number, seed)
    assert before is None or before["seed"] is None or before["in_all"] == len(every), "another draw: try all"
    drawn = [each for each in whole if before is None or said(each) in before["survivors"]]
    called, names = _watched(group)
    started = time.monotonic()
    with ProcessPoolExecutor(1, get_context("fork")) as pool:
        placed, survivors = pool.submit(_in_place, drawn, called, names).result()
    tried = len(placed)
    sys.stderr.write(f"{tried - len(survivors)} of {tried} killed in place, {time.monotonic() - started:.0f} s\n")
    for target in GROUPS[group]:
        if part := [mutant for mutant in drawn if mutant.target == target and mutant not in placed]:
            with ProcessPoolExecutor(1, get_context("fork")) as pool:
                survivors += pool.submit(_survivors, target, part, called, names).result()
            tried += len(part)
            passed = time.monotonic() - started
            sys.stderr.write(f"{target}: in all {tried - len(survivors)} of {tried} killed, {passed:.0f} s\n")
    killed = len(whole) - len(survivors)
    return {
        "files": GROUPS[group],
        "commit": commit,
        "in_all": len(every),
        "mutants": len(whole),
        "seed": seed if len(whole) < len(every) else None,
        "killed": killed,
        "fraction": round(killed / len(whole), 3),
        "survivors": [said(each) for each in drawn if each in survivors],
        "excluded": excluded,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", type=Path, required=True, help="of the groups that are not asked for, it stays as it is"
    )
    parser.add_argument("--groups", nargs="+", default=list(GROUPS), choices=GROUPS)
    parser.add_argument("--draw", type=int, help="only so many mutants of a group, drawn at random")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--again", action="store_true", help="try only what survived: tests were added, nothing else")
    arguments = parser.parse_args()
    os.chdir(ROOT)
    sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests/support")]
    import hypothesis, jaxtyping, pandas, PIL.Image, pyarrow, pydicom, scipy.stats, sklearn.metrics, torch  # noqa: E401, F401, I001

    torch.set_num_threads(1)
    found = {}
    if arguments.out.is_file():
        found = json.loads(arguments.out.read_text(encoding="utf-8"))
    for group in arguments.groups:
        found[group] = _measured(group, arguments.draw, arguments.seed, found[group] if arguments.again else None)
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
