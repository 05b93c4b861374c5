"""Prompts in German and Spanish: which are chosen, that they are whole, and how classes are found."""

import unicodedata
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from folders import write_shards
from torch import nn

from imitate.data.corpus import Corpus
from imitate.errors import Lacking, UserError
from imitate.inference.known_words import encoder_language
from imitate.inference.label_texts import texts_of_labels
from imitate.inference.prompts import built_in_languages, built_in_prompts, choose_prompts, distinct, matching
from imitate.inference.templates import TEMPLATES, sentences
from imitate.models.peers.texts import PeerText
from imitate.models.peers.tokens import Rules
from imitate.models.text import LsaTextEncoder
from imitate.names import CHEXPERT, NIH
from imitate.synthetic.cases import CLASSES, draw_case
from imitate.synthetic.wording import WORDS, whole_report
from imitate.tasks.zero_shot import class_prompts

REPORTS = {
    language: [whole_report(draw_case(1, index), language).replace("\n", " ") for index in range(300)]
    for language in WORDS
}
ENCODERS = {language: LsaTextEncoder.fit(texts, width=48) for language, texts in REPORTS.items()}


@pytest.mark.parametrize("language", ["de", "es"])
def test_every_class_of_the_english_file_has_prompts_under_all_of_its_names(language: str) -> None:
    found, english = built_in_prompts(language), built_in_prompts("en")
    own = [WORDS[language].classes[name] for name in CLASSES]
    assert not {*english, *CHEXPERT, *NIH, *own} - matching({*english, *CHEXPERT, *NIH, *own}, found).keys()
    assert len(distinct(found)) == len(distinct(english))
    for name, each in found.items():
        both = [*each.positive, *each.negative]
        assert len(set(both)) == len(both) and all(text.endswith(".") for text in both), name
        assert not set(both) & {text for other in english.values() for text in (*other.positive, *other.negative)}


def test_a_class_is_found_whatever_its_accents_case_and_unicode_form() -> None:
    found = built_in_prompts("es")
    names = ["NEUMOTORAX", unicodedata.normalize("NFD", "neumotórax"), "Derrame_Pleural"]
    assert matching(names, found) == {
        names[0]: found["Neumotórax"], names[1]: found["Neumotórax"], names[2]: found["Derrame pleural"]
    }  # fmt: skip
    assert built_in_languages() == ["en", "de", "es"]
    with pytest.raises(Lacking, match="there are no built-in prompts in French: give a YAML file as --prompts FILE"):
        built_in_prompts("fr")


def test_reports_in_a_language_that_the_encoder_does_not_know_do_not_choose_the_prompts() -> None:
    for own in WORDS:
        for reports in (*WORDS, "nl", None):
            assert encoder_language(ENCODERS[own], built_in_languages(), reports=reports) == own
    dutch = LsaTextEncoder.fit(["Het hart is vergroot.", "Geen pleuravocht.", "De longen zijn helder."] * 4, width=2)
    assert encoder_language(dutch, built_in_languages(), reports="nl") == "nl"
    peer = PeerText("theirs", nn.Linear(2, 2), lambda *_: None, Rules(*[None] * len(Rules._fields)))
    assert encoder_language(peer, built_in_languages(), reports="es") == "en", "published encoders read English"
    pieces = SimpleNamespace(name="hf:x/y", identity="", width=2, encode=lambda texts: texts)
    assert [encoder_language(pieces, TEMPLATES, reports=each) for each in ("es", None)] == ["es", "en"]
    assert encoder_language(None, TEMPLATES, reports="de") == "de"


@pytest.mark.parametrize("language", WORDS)
def test_the_words_of_the_encoder_choose_the_language(language: str) -> None:
    encoder = ENCODERS[language]
    assert encoder_language(encoder, TEMPLATES) == encoder_language(encoder, built_in_languages()) == language
    chosen = choose_prompts(None, encoder)
    name = {"en": "pleural effusion", "de": "Pleuraerguss", "es": "Derrame pleural"}[language]
    assert len(chosen) >= 9 and name in chosen and chosen == choose_prompts(None, encoder, language=language)
    with pytest.raises(UserError, match="knows the words of none of the built-in classes"):
        choose_prompts(None, encoder, language="de" if language == "es" else "es")


def test_sentences_around_a_phrase_drop_its_article_and_follow_the_language_that_is_asked_for() -> None:
    with_it, without = sentences("Erguss", "ein Pleuraerguss.", "de")
    assert with_it[1] == "Es besteht Pleuraerguss." and without[0] == "Kein Pleuraerguss."
    assert sentences("D", "Un derrame pleural", "es")[1][1] == "No se observa derrame pleural."
    assert choose_prompts({"E": "Pneumothorax"}, ENCODERS["de"], language="de")["E"].negative[0] == "Kein Pneumothorax."
    with pytest.raises(UserError, match="no sentences in language 'nl' are built in: give both sides, 'E=...|...'"):
        choose_prompts({"E": "Pneumothorax"}, ENCODERS["de"], language="nl")


def folder(root: Path, classes: list[str], labels: list[list[float]], language: str, text: str | None) -> Corpus:
    names = [str(number) for number in range(len(labels))]
    columns = {"patient": names, "study": names, "split": "train", "language": language, "findings": text}
    table = pd.DataFrame({"image_id": names, **columns, "labels": labels})
    return Corpus.open(write_shards(root, table, np.zeros((len(names), 16, 16), np.uint8), classes=classes))


def test_the_reports_choose_the_language_of_class_prompts_unless_it_is_said(tmp_path: Path) -> None:
    data = folder(tmp_path / "a", ["Edema", "Cardiomegaly"], [[1, 0], [0, 1]], "", REPORTS["de"][0])
    assert list(class_prompts(data, None)) == data.classes
    assert class_prompts(data, None)["Edema"] == built_in_prompts("de")["Lungenödem"]
    assert class_prompts(data, None, language="es")["Edema"] == built_in_prompts("es")["Edema pulmonar"]
    silent = folder(tmp_path / "b", ["Edema"], [[1], [0]], "", None)
    assert class_prompts(silent, None)["Edema"] == built_in_prompts("en")["edema"]
    assert class_prompts(silent, None, ENCODERS["es"])["Edema"].negative[0] == "Los pulmones están libres."
    dutch = folder(tmp_path / "c", ["Edema"], [[1], [0]], "nl", "Geen pleuravocht.")
    with pytest.raises(Lacking, match="there are no built-in prompts in nl"):
        class_prompts(dutch, None)


def test_texts_of_labels_are_in_the_language_of_the_other_reports(tmp_path: Path) -> None:
    data = folder(
        tmp_path / "a", ["Normalbefund", "Pleuraerguss", "Skoliose"], [[0, 1, 0], [1, 0, 0], [0, 0, 1]], "", None
    )
    assert texts_of_labels(data, "de").tolist() == [
        "Pleuraerguss.", "Keine akute kardiopulmonale Auffälligkeit.", "Es besteht Skoliose."
    ]  # fmt: skip
