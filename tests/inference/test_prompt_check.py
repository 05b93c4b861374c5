"""What a text encoder makes of prompts: unknown words, sides that it cannot distinguish."""

from pathlib import Path

import pytest
from runs import write_run

from imitate.commands.prompts import prompts
from imitate.errors import UserError
from imitate.inference.encoder import load_folder
from imitate.inference.prompt_check import check
from imitate.inference.prompts import Prompts


def test_sides_that_are_the_same_to_the_encoder_and_words_that_it_does_not_know(tmp_path: Path, capsys) -> None:
    run = write_run(tmp_path)
    encoder = load_folder(run).to("cpu")

    def checked(positive: str, negative: str):
        return check(Prompts(positive=(positive,), negative=(negative,)), encoder, "cpu", built_in=False)

    apart = checked("There is pulmonary edema.", "No pulmonary edema.")
    assert (apart.unknown, apart.fault) == ((), "") and -1 <= apart.cosine < 0.999
    alike = checked("pulmonary edema xyz", "pulmonary edema qwe")
    assert alike.unknown == ("xyz", "qwe") and alike.fault.startswith(
        "the text encoder does not distinguish both sides"
    )
    assert checked("pulmonary edema", "qwe").fault == "no sentence without the finding is known"
    capsys.readouterr()
    with pytest.raises(UserError, match="^B: skipped for the reasons above"):
        prompts(model=str(run), prompts=["A=pulmonary edema|no edema", "B=edema xyz|edema qwe"], device="cpu")
    assert capsys.readouterr().out.count("excluded: the text encoder does not distinguish both sides") == 1
    prompts(prompts=["A=eine Stauung"], language="de")
    assert capsys.readouterr().out.splitlines()[:2] == ["A", "  + Stauung."]
