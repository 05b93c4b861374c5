"""The language of a folder's reports: what is recorded, else what their words show."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from folders import write_shards

from imitate.data.corpus import Corpus, merge
from imitate.data.languages import FUNCTION_WORDS, LANGUAGES, guess_language, report_language
from imitate.synthetic.cases import draw_case
from imitate.synthetic.wording import WORDS, whole_report

FRENCH = "Pas de foyer et pas de lésion. La silhouette cardiaque est normale. Il y a un épanchement du côté gauche, sans gravité."


@pytest.mark.parametrize("language", WORDS)
def test_a_few_reports_show_their_language(language: str) -> None:
    assert guess_language([whole_report(draw_case(5, index), language) for index in range(4)]) == language


def test_words_of_no_language_and_too_few_words_say_nothing() -> None:
    assert guess_language([FRENCH]) == "fr"
    assert guess_language([]) is guess_language(["Normal."]) is None
    assert guess_language(["De longen zijn goed ontplooid; geen pleuravocht, het hart is niet vergroot."] * 9) is None
    assert (
        guess_language(["The heart is normal and the lungs are clear, with no sign of disease.", FRENCH[:-14]]) is None
    )
    assert FUNCTION_WORDS.keys() > LANGUAGES.keys()


def folder(root: Path, languages: list[str], texts: list[str | None]) -> Corpus:
    names = [str(number) for number in range(len(texts))]
    columns = {"patient": names, "study": names, "split": "train", "language": languages, "findings": texts}
    table = pd.DataFrame({"image_id": names, **columns})
    return Corpus.open(write_shards(root, table, np.zeros((len(names), 16, 16), np.uint8)))


def test_what_a_folder_records_counts_before_what_its_words_say(tmp_path: Path) -> None:
    german = "Das Herz ist nicht vergrößert, die Lunge ist frei."
    recorded = folder(tmp_path / "recorded", ["nl", "nl", "", "fr"], [german] * 4)
    silent = folder(tmp_path / "silent", ["", "", "", ""], [None, german, german, german])
    bare = folder(tmp_path / "bare", ["", ""], [None, None])
    assert [report_language(each) for each in (recorded, silent, bare)] == ["nl", "de", None]
    assert report_language(merge([bare, silent])) == "de" and report_language(merge([silent, recorded])) == "nl"
