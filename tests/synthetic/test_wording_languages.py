"""Synthetic reports in German and Spanish name what is there, deny only what is not, and hold no English word."""

import re

import pytest

from imitate.data.languages import FUNCTION_WORDS
from imitate.data.section_labels import read_headers
from imitate.data.sections import split_by_headers
from imitate.errors import UserError
from imitate.synthetic.cases import CLASSES, Case, draw_case
from imitate.synthetic.wording import ENGLISH, WORDS, Report, compose, whole_report

NAMES = {  # independent of the phrases: how a reader recognises a finding
    "de": {
        "Atelectasis": "atelektase",
        "COVID-19": "COVID-19",
        "Cardiomegaly": "kardiomegalie|vergrößerung des herzens|verbreiterung der herz",
        "Consolidation": "konsolidierung",
        "Edema": "lungenödem",
        "Foreign Object": "fremdkörper",
        "Fracture": "fraktur",
        "Lung Lesion": "rundherd|raumforderung",
        "Pleural Effusion": "erguss|ergüsse",
        "Pneumonia": "pneumonie",
        "Pneumothorax": "pneumothorax",
        "Support Devices": "tubus|magensonde|nasogastrale sonde|venenkatheter|herzschrittmacher",
    },
    "es": {
        "Atelectasis": "atelectasia",
        "COVID-19": "COVID-19",
        "Cardiomegaly": "cardiomegalia|aumento .*(silueta|corazón)",
        "Consolidation": "consolidaci",
        "Edema": "edema",
        "Foreign Object": "cuerpos? extraño",
        "Fracture": "fractura",
        "Lung Lesion": "nódulo|masa",
        "Pleural Effusion": "derrame",
        "Pneumonia": "neumonía",
        "Pneumothorax": "neumotórax",
        "Support Devices": "tubo|sonda|catéter|marcapasos",
    },
}
DENIAL = {
    "de": r"\b(keine?|weder|nicht|frei|unauffällig\w*|intakt|normal|normbereich)\b",
    "es": r"\b(no|sin|libres|limpios|normal\w*|íntegras)\b",
}
SENTENCE = re.compile(r"(?<=[^\W\d])\. ?|(?<=19)\. ?")
CASES = [draw_case(2, index) for index in range(400)]


def named(text: str, language: str, *, denied: bool) -> set[str]:
    said = [each for each in SENTENCE.split(text) if bool(re.search(DENIAL[language], each, re.I)) == denied]
    return {name for name, words in NAMES[language].items() if any(re.search(words, each, re.I) for each in said)}


@pytest.fixture(scope="module", params=["de", "es"])
def language(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def reports(language: str) -> list[tuple[Case, Report]]:
    return [(case, compose(case, language)) for case in CASES]


def test_each_section_names_exactly_what_is_there(reports: list[tuple[Case, Report]], language: str) -> None:
    for case, report in reports:
        present = {finding.name for finding in case.findings}
        for text in filter(None, (report.findings, report.impression, report.conclusion)):
            assert named(text, language, denied=False) == present, text
        assert named(report.findings or "", language, denied=True) <= report.denied
        assert not report.denied & present and set(report.sentences) == set(case.findings)
    assert {finding.name for case, _ in reports for finding in case.findings} == set(CLASSES)


def test_the_same_study_lacks_the_same_sections_in_every_language(
    reports: list[tuple[Case, Report]], language: str
) -> None:
    texts = {text for _, report in reports for text in (report.findings, report.impression) if text}
    assert len(texts) > 150 and not any("{" in text or "  " in text for text in texts)
    left = [report.findings is None for _, report in reports]
    assert 0.05 < sum(left) / len(left) < 0.3


def test_a_whole_report_splits_into_its_sections_and_has_no_english_word(
    reports: list[tuple[Case, Report]], language: str
) -> None:
    headers = read_headers()
    for case, report in reports:
        text = whole_report(case, language)
        found = split_by_headers(text, headers)
        assert (found.findings, found.impression) == (report.findings, report.impression), text
        words = set(re.findall(r"[^\W\d_]+", text.lower()))
        assert not words & (FUNCTION_WORDS["en"] - FUNCTION_WORDS[language])


def test_classes_have_names_and_other_languages_are_refused(language: str) -> None:
    assert WORDS[language].classes.keys() == ENGLISH.classes.keys() == set(CLASSES)
    assert WORDS[language].phrases.keys() == ENGLISH.phrases.keys()
    with pytest.raises(UserError, match="no synthetic reports in fr: choose among en, de, es"):
        compose(CASES[0], "fr")
