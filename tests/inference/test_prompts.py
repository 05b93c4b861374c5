import logging

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from imitate.errors import UserError
from imitate.inference.known_words import check_texts
from imitate.inference.prompts import Prompts, choose_prompts, parse_prompts, read_prompts
from imitate.models.text import LsaTextEncoder

CORPUS = [
    "there is small left pleural effusion",
    "no pleural effusion",
    "the heart is enlarged",
    "mild edema",
    "no edema",
]
LSA = LsaTextEncoder.fit(CORPUS, width=3)


class WordPieces:
    """Any encoder that is not LSA can spell every word."""

    name, identity, width = "pieces", "pieces", 2

    def encode(self, texts: list[str]) -> Float[Tensor, "texts width"]:
        raise AssertionError("prompts of word pieces need no embedding to be distinguished")


def test_a_phrase_gets_the_templates_without_its_article_and_full_stop():
    prompts = choose_prompts({"Effusion": "a pleural effusion."}, LSA)["Effusion"]
    assert prompts.positive[:2] == ("pleural effusion.", "There is pleural effusion.")
    assert prompts.negative[:2] == ("No pleural effusion.", "There is no pleural effusion.")


def test_sentences_may_be_one_or_many():
    given = {"positive": "mild edema", "negative": ["no edema", "no effusion"]}
    expected = Prompts(positive=("mild edema",), negative=("no edema", "no effusion"))
    assert choose_prompts({"Edema": given}, LSA) == {"Edema": expected} == choose_prompts({"Edema": expected}, LSA)


@pytest.mark.parametrize(
    "prompts, message",
    [
        ({}, "no classes are given"),
        ({"Edema": " "}, "text 1 is empty"),
        ({"Edema": {"positive": ["edema", ""], "negative": "no edema"}}, "prompts of Edema: one is empty"),
        ({"Edema": {"positive": ["edema"]}}, "prompts of Edema: negative = .*required"),
        ({"Edema": {"positive": ["edema"], "negative": []}}, "prompts of Edema: negative"),
        ({"Hernia": "hiatal hernia"}, "knows no word of 'hiatal hernia'"),
        ({"Hernia": {"positive": "hiatus", "negative": "no edema"}}, "prompts of Hernia: .*knows no word of one side"),
    ],
)
def test_what_cannot_be_asked_is_reported(prompts, message):
    with pytest.raises(UserError, match=message) as reported:
        choose_prompts(prompts, LSA)
    assert "\n" not in str(reported.value)


def test_a_prompt_of_unknown_words_leaves_the_ensemble_and_unknown_words_are_warned_of(caplog):
    given = {"positive": ["mild edema", "hydrothorax"], "negative": "no interstitial edema"}
    with caplog.at_level(logging.WARNING):
        assert choose_prompts({"Edema": given}, LSA)["Edema"].positive == ("mild edema",)
    assert "ignores words that it does not know: interstitial" in caplog.text
    assert choose_prompts({"Edema": given}, WordPieces())["Edema"].positive == ("mild edema", "hydrothorax")


def test_built_in_classes_are_those_that_the_encoder_has_words_for(caplog):
    every = choose_prompts(None, WordPieces())
    assert {"cardiomegaly", "edema", "pleural effusion"} <= every.keys() and "effusion" not in every  # the same prompts
    numbers = LsaTextEncoder.fit(["alpha beta", "beta gamma", "pulmonary edema", "no pulmonary edema", "no"], width=4)
    with caplog.at_level(logging.WARNING):
        some = choose_prompts(None, numbers)
    assert "edema" in some and len(some) < len(every) and "does not know the words for:" in caplog.text


def test_texts_are_checked_by_number_and_word(caplog):
    check_texts(["edema", "no effusion"], LSA)
    check_texts(["hydropneumothorax"], WordPieces())
    assert not caplog.text
    with pytest.raises(UserError, match="text 2 is empty"):
        check_texts(["edema", "\n"], WordPieces())
    for nonsense in ("12 %", "XXXX", "qwerty"):
        with pytest.raises(UserError, match="knows no word of"):
            check_texts([nonsense], LSA)
    check_texts(["edema " + " ".join(f"word{c}" for c in "abcdefghijkl")], LSA)
    assert "worda, wordb, wordc, wordd, worde, wordf, wordg, wordh and 4 more" in caplog.text


def test_prompts_of_the_command_line(tmp_path):
    assert parse_prompts([]) is None
    assert parse_prompts(["Edema=edema|no edema", "Effusion = pleural effusion"]) == {
        "Edema": {"positive": "edema", "negative": "no edema"},
        "Effusion": " pleural effusion",
    }
    path = tmp_path / "prompts.yaml"
    path.write_text("Edema: edema\nEffusion: {positive: [effusion], negative: [no effusion]}\n")
    assert parse_prompts([str(path)]) == {
        "Edema": "edema",
        "Effusion": Prompts(positive=("effusion",), negative=("no effusion",)),
    }
    path.write_text("Edema: 3\n")
    for arguments, message in (
        ([str(path)], "must map"),
        (["edema.yaml"], "no prompts at"),
        (["a=b", "edema"], "write 'Class="),
    ):
        with pytest.raises(UserError, match=message):
            parse_prompts(arguments)
    path.write_text("a: [")
    with pytest.raises(UserError, match="not valid YAML"):
        parse_prompts([str(path)])


GERMAN = LsaTextEncoder.fit(
    ["kein nachweis von erguss", "es besteht ein erguss in der lunge", "keine stauung", "befund vereinbar mit stauung"],
    width=3,
)


def test_a_phrase_gets_the_templates_of_the_encoders_language():
    prompts = choose_prompts({"Erguss": "Erguss"}, GERMAN)["Erguss"]
    assert prompts.positive == ("Erguss.", "Es besteht Erguss.", "Befund vereinbar mit Erguss.")
    assert prompts.negative == ("Kein Erguss.", "Keine Erguss.", "Kein Nachweis von Erguss.")
    assert not torch.allclose(*(GERMAN.encode(list(side)).mean(0) for side in (prompts.positive, prompts.negative)))


@pytest.mark.parametrize("wording", ["výpotek", {"positive": "výpotek", "negative": "no výpotek"}])
def test_sides_that_are_the_same_to_the_encoder_are_reported(wording):
    czech = LsaTextEncoder.fit(["malý výpotek vlevo", "bez výpotku", "srdce zvětšené", "výpotek"], width=3)
    with pytest.raises(
        UserError, match="prompts of V: the text encoder .* does not distinguish both sides.*'V=...|...'"
    ):
        choose_prompts({"V": wording}, czech)


def test_one_stray_word_makes_no_built_in_class_known():
    """ "in" is in a German report too."""
    with pytest.raises(UserError, match="knows the words of none of the built-in classes"):
        choose_prompts(None, GERMAN)


def test_a_class_in_two_spellings_is_refused(tmp_path):
    path = tmp_path / "prompts.yaml"
    sides = "{positive: [a mass], negative: [no mass]}"
    path.write_text(f"Pleural_Thickening: {sides}\nMass: {sides}\npleural thickening: {sides}\n")
    with pytest.raises(UserError, match="Pleural_Thickening and pleural thickening are the same class: remove one"):
        read_prompts(path)
