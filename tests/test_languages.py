"""A German and a Spanish archive from their tables to zero-shot classification, without a word of English."""

from pathlib import Path

import pytest
from recipes import tiny_recipe

import imitate
from imitate.commands.prompts import prompts
from imitate.commands.synthesize import synthesize
from imitate.data.corpus import Corpus
from imitate.errors import UserError
from imitate.synthetic.table_layout import table_options
from imitate.tasks.pretraining import run


@pytest.mark.parametrize("language", ["de", "es"])
def test_from_the_table_to_zero_shot(language: str, tmp_path: Path, caplog, capsys) -> None:
    raw, out = tmp_path / "archiv", tmp_path / "data"
    synthesize("table", out=raw, n=60, size=64, language=language)
    options = table_options(language)
    imitate.prepare("table", raw=raw, out=out, size=36, workers=1, **options)
    data = Corpus.open(out)
    assert data.classes == list(options["labels"]) and {*data.table["split"]} == {"train", "val", "test"}
    assert data.has("findings").mean() > 0.7 and data.has("impression").mean() > 0.7
    run(tiny_recipe(steps=2), data=[out], out=tmp_path / "run")
    caplog.clear()
    results = imitate.evaluate(
        "zero-shot", model=tmp_path / "run", data=out, out=tmp_path / "r.json", resamples=10, split="train"
    )
    asked = [name.removeprefix("auroc/") for name in results.metrics if name.startswith("auroc/")]
    assert len(asked) >= 7 and set(asked) <= set(options["labels"])
    assert "no prompts for" not in caplog.text
    capsys.readouterr()
    prompts(model=str(tmp_path / "run"), data=out, device="cpu")
    shown = capsys.readouterr().out
    known = {"de": "Pleuraerguss\n  + Pleuraerguss.", "es": "Derrame pleural\n  + Derrame pleural."}[language]
    assert known in shown and "cosine of the two sides: " in shown and "There is" not in shown
    assert "  unknown words: " in shown and shown.count("  excluded: ") == len(data.classes) - len(asked)
    with pytest.raises(UserError, match="X: skipped for the reasons above"):
        prompts(model=str(tmp_path / "run"), prompts=["X=qwert|asdf"], device="cpu")
    assert "  excluded: no sentence with and none without the finding is known" in capsys.readouterr().out


def test_only_a_table_is_written_in_other_languages(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="--language de: rsna is published in English: only the source table has other languages"
    ):
        synthesize("rsna", out=tmp_path / "a", language="de")
