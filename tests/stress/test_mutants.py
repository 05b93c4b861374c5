import ast
import sys
from types import SimpleNamespace

import mutants
import pytest
from calls import Called, Watching
from placing import Placing


@pytest.mark.parametrize("group", mutants.GROUPS)
def test_a_draw_is_reproducible_and_excludes_what_has_a_reason(group: str) -> None:
    every, drawn, excluded = mutants.draw(group, 100, seed=0)
    assert mutants.draw(group, 100, seed=0) == (every, drawn, excluded)
    assert len(drawn) == len(set(drawn)) == 100 and set(drawn) <= set(every)
    assert mutants.draw(group, 100, seed=1)[1] != drawn and mutants.draw(group, None, seed=0)[1] == every
    assert all(each["reason"] and mutants.tests_of(each["mutant"].split(":")[0]) for each in excluded)


def test_a_mutant_differs_from_its_file_in_one_line() -> None:
    original = ast.unparse(ast.parse((mutants.ROOT / "src/imitate/data/streams.py").read_text(encoding="utf-8")))
    for mutant in mutants.mutants("data/streams"):
        lines = zip(original.splitlines(), ast.unparse(mutants.changed(mutant)).splitlines(), strict=True)
        assert sum(before != after for before, after in lines) == 1


def test_a_mutant_is_tried_with_the_tests_that_call_its_function_its_own_file_s_first():
    target, other = "data/augment", "data/sampler"
    called = [
        Called("tests/data/test_sampler.py::quick", 0.1, {(target, "warp"), (other, "quotas")}),
        Called("tests/data/test_augment.py::slow", 2.0, {(target, "warp")}),
        Called("tests/data/test_augment.py::quick", 0.5, {(target, "warp"), (target, "normalise")}),
        Called("tests/data/test_augment.py::too slow", 9.0, {(target, "warp")}),
    ]

    def tests(function: str, of: str = target) -> list[str]:
        mutant = mutants.Mutant(of, 0, 0, 1, "", "", function)
        return [each.test.removeprefix("tests/data/test_") for each in mutants.tests_for(mutant, called)]

    assert tests("warp") == ["augment.py::quick", "augment.py::slow", "sampler.py::quick"]
    assert tests("normalise") == ["augment.py::quick"]
    assert tests("") == tests("not called") == ["augment.py::quick", "augment.py::slow"]
    assert tests("quotas", of=other) == tests("", of=other) == ["sampler.py::quick"]
    found = {each.text: each.function for each in mutants.mutants(target)}
    assert (
        found["half = size / 2"] == "_perspective" and found["slack = (config.prepared_size - config.image_size) / 2"]
    )
    assert found["return torch.stack(filled).view(1, -1, 1, 1)"] == ""  # cached: called by the first test only


def test_functions_that_tests_call_are_noted_also_in_a_fixture_that_they_share(tmp_path):
    path = tmp_path / "target.py"
    path.write_text("class A:\n    def f(self):\n        return [x for x in (1,)]\ndef g():\n    return 1\n")
    watching = Watching([])
    watching.targets = {str(path): "target"}
    code = compile(path.read_text(), str(path), "exec")
    names: dict = {}
    exec(code, names)
    item, node = SimpleNamespace(nodeid="tests/x.py::one"), SimpleNamespace(nodeid="tests/x.py")
    for hook, run in (
        (watching.pytest_runtest_protocol(item), names["A"]().f),
        (watching.pytest_fixture_setup(SimpleNamespace(scope="module"), SimpleNamespace(node=node)), names["g"]),
    ):
        next(hook)
        sys.settrace(watching._note)
        run()
        next(hook, None)
        sys.settrace(None)
    (found,) = watching.called()
    assert found.test == item.nodeid and found.functions == {("target", "A.f"), ("target", "g")}


def test_a_function_s_code_is_replaced_wherever_it_is_referred_to(monkeypatch):
    monkeypatch.setattr("placing.pytest.main", lambda arguments: 0)
    placing = Placing([], ["imitate.statistics.intervals"])
    module = sys.modules["imitate.statistics.intervals"]
    found = {each.text: each for each in mutants.mutants("statistics/intervals") if placing.code(each)}
    assert found and all(each.function for each in found.values())
    mutant = next(each for each in found.values() if each.function == "enough")
    function, before = module.enough, placing.functions[module.__file__, "enough"][0].__code__
    placing.put(mutant, placing.code(mutant))
    assert function is module.enough and placing.functions[module.__file__, "enough"][0].__code__ != before
    placing.put(mutant, before)
    defaults = [each for each in mutants.mutants("tasks/comparison") if each.change == "1000 -> 1001"]
    assert defaults and not any(placing.code(each) for each in defaults)
