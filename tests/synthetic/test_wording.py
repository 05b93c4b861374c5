"""Reports name what is there, deny only what is not, and are filed as MIMIC-CXR files them."""

import re

import pytest

from imitate.errors import UserError
from imitate.synthetic.cases import CLASSES, Case, Finding, Place, draw_case
from imitate.synthetic.wording import Report, compose, mimic_report

NAMES = {  # independent of the phrases: how a reader recognises a finding
    "Atelectasis": r"atelectasis",
    "COVID-19": r"COVID-19",
    "Cardiomegaly": r"cardiomegaly|enlargement of the (cardiac|heart)|heart is not enlarged",
    "Consolidation": r"consolidation",
    "Edema": r"edema",
    "Foreign Object": r"foreign object",
    "Fracture": r"fracture",
    "Lung Lesion": r"nodule|mass\b",
    "Pleural Effusion": r"effusion",
    "Pneumonia": r"pneumonia",
    "Pneumothorax": r"pneumothorax",
    "Support Devices": r"\btube|line\b|catheter|pacemaker",
}
DENIAL = re.compile(r"\b(no|not|without|normal|clear|intact)\b", re.I)


@pytest.fixture(scope="module")
def reports() -> list[tuple[Case, Report]]:
    return [(case, compose(case)) for case in (draw_case(2, index) for index in range(800))]


def affirmed(text: str) -> set[str]:
    sentences = [sentence for sentence in re.split(r"(?<=[a-z9A-Z])\. ?", text) if not DENIAL.search(sentence)]
    return {name for name, words in NAMES.items() if any(re.search(words, sentence, re.I) for sentence in sentences)}


def denied(text: str) -> set[str]:
    sentences = [sentence for sentence in re.split(r"(?<=[a-z9A-Z])\. ?", text) if DENIAL.search(sentence)]
    return {name for name, words in NAMES.items() if any(re.search(words, sentence, re.I) for sentence in sentences)}


def test_each_section_names_exactly_what_is_there(reports: list[tuple[Case, Report]]) -> None:
    for case, report in reports:
        present = {finding.name for finding in case.findings}
        for text in (report.findings, report.impression, report.conclusion):
            if text is not None:
                assert affirmed(text) == present, text


def test_each_finding_has_its_sentence_and_the_description_is_made_of_them(reports: list[tuple[Case, Report]]) -> None:
    for case, report in reports:
        assert set(report.sentences) == set(case.findings)
        for finding, sentence in report.sentences.items():
            assert affirmed(sentence) == {finding.name}
            assert report.findings is None or sentence in report.findings


def test_what_is_denied_is_absent_and_listed(reports: list[tuple[Case, Report]]) -> None:
    for case, report in reports:
        assert not report.denied & {finding.name for finding in case.findings}
        assert denied(report.findings or "") <= report.denied
    assert {name for _, report in reports for name in report.denied} >= {"Pneumothorax", "Cardiomegaly", "Edema"}


def test_sides_and_zones_are_named(reports: list[tuple[Case, Report]]) -> None:
    case = draw_case(2, 0)
    for side in ("right", "left"):
        other = {"right": "left", "left": "right"}[side]
        finding = Finding("Consolidation", Place(side, "lower"), "mild")
        alone = Case(0, 1, 0, 0, case.age, case.sex, "PA", (finding,))
        text = compose(alone).conclusion
        assert re.search(rf"{side} (lower|lung base)", text) and other not in text


def test_sections_are_missing_as_often_as_in_real_archives(reports: list[tuple[Case, Report]]) -> None:
    studies = [report for case, report in reports if case.image == 0]
    no_findings = sum(report.findings is None for report in studies) / len(studies)
    no_impression = sum(report.impression is None for report in studies) / len(studies)
    assert 0.10 < no_findings < 0.20 and 0.05 < no_impression < 0.14
    assert any(report.findings is None and report.impression is None for report in studies)


def test_texts_are_varied_but_impressions_repeat(reports: list[tuple[Case, Report]]) -> None:
    findings = [report.findings for case, report in reports if report.findings and case.image == 0]
    impressions = [report.impression for case, report in reports if report.impression and case.image == 0]
    assert len(set(findings)) > 0.7 * len(findings)
    assert 0.3 < len(set(impressions)) / len(impressions) < 0.8


def test_all_images_of_a_study_share_its_words(reports: list[tuple[Case, Report]]) -> None:
    by_study: dict[tuple[int, int], Report] = {}
    for case, report in reports:
        assert by_study.setdefault((case.patient, case.study), report) == report


def test_a_filed_report_has_mimics_form(reports: list[tuple[Case, Report]]) -> None:
    texts = [mimic_report(case) for case, _ in reports]
    for text in texts:
        lines = text.splitlines()
        assert all(len(line) <= 79 and line.startswith(" ") for line in lines)
        assert "FINAL REPORT" in text and "___" in text and text.endswith("\n")
    joined = "".join(texts)
    for sign in ("WET READ:", "FINAL ADDENDUM", "\n 2. ", "CONCLUSION:", "NOTIFICATION:", "PA AND LATERAL VIEWS"):
        assert sign in joined, sign


def test_a_filed_report_holds_the_sections_word_for_word(reports: list[tuple[Case, Report]]) -> None:
    for case, report in reports:
        words = " ".join(mimic_report(case).split())
        for text in (report.findings, report.impression):
            assert text is None or text in words
        if report.findings is None and report.impression is None:
            assert f"\n \n {report.conclusion[:20]}" in mimic_report(case)
            assert not re.search(r"\n (FINDING|IMPRESS|CONCLUSION)", mimic_report(case))


def test_every_class_is_worded(reports: list[tuple[Case, Report]]) -> None:
    assert {finding.name for case, _ in reports for finding in case.findings} == set(CLASSES) == set(NAMES)


SOUTH = {
    "Atelectasis": r"volume loss|plate atelectasis",
    "COVID-19": r"COVID-19",
    "Cardiomegaly": r"cardiothoracic ratio|heart$|dilated heart",
    "Consolidation": r"airspace shadowing|consolidated",
    "Edema": r"interstitial fluid|edema",
    "Foreign Object": r"metal density|artefact|chain",
    "Fracture": r"fracture|break of",
    "Lung Lesion": r"nodule|mass\b",
    "Pleural Effusion": r"effusion|pleural fluid",
    "Pneumonia": r"infective change|pneumonic",
    "Pneumothorax": r"pneumothorax|pleural air",
    "Support Devices": r"ETT|tube|NGT|CVC|line\b|PPM|pacing",
}


def test_another_hospital_says_the_same_in_other_words(reports: list[tuple[Case, Report]]) -> None:
    said, other = set(), set()
    for case, report in reports:
        south = compose(case, hospital="south")
        assert south.denied <= set(CLASSES) - {finding.name for finding in case.findings}
        for finding, sentence in south.sentences.items():
            found = {name for name, words in SOUTH.items() if re.search(words, sentence, re.I)}
            assert found == {finding.name}, sentence
        said |= set(re.split(r"(?<=\.) ", report.findings or ""))
        other |= set(re.split(r"(?<=\.) ", south.findings or ""))
    assert len(other) > 200 and len(said & other) < 0.02 * len(other)
    with pytest.raises(UserError, match="the reports of hospital south are in en, not de"):
        compose(reports[0][0], "de", "south")
