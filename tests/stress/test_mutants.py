import ast

import mutants
import pytest


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
