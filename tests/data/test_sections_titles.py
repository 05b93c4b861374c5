"""Headers of several words, of earlier examinations, of drafts and of questions."""

import pytest

from imitate.data.section_labels import read_headers
from imitate.data.sections import split_by_headers

HEADERS = read_headers()


def read(text: str) -> tuple[str | None, str | None]:
    found = split_by_headers(text, HEADERS)
    return found.findings, found.impression


@pytest.mark.parametrize(
    "line",
    [
        "CLINICAL QUESTION: Pneumonia?",
        "Question: Pneumonia?",
        "REASON FOR THIS EXAM: Pneumonia",
        "REFERRING DIAGNOSIS: Pneumonia",
        "Clinical impression: Pneumonia",
        "PRIOR FINDINGS: Pneumonia.",
        "Previous findings: Pneumonia.",
        "COMPARISON FINDINGS: Pneumonia.",
        "PREVIOUS IMPRESSION: Pneumonia.",
        "Impression of prior study: Pneumonia.",
        "IMPRESSION FROM PRIOR EXAM: Pneumonia.",
        "FINDINGS (PRIOR STUDY): Pneumonia.",
        "PRELIMINARY READ: Pneumonia.",
        "COMMUNICATION: Dr. Person was called.",
        "Frage: Pneumonie?",
        "Überweisungsdiagnose: Pneumonie",
        "Befund der Voraufnahme: Pneumonie.",
        "Früherer Befund: Pneumonie.",
        "Pregunta clínica: neumonía?",
        "Hallazgos previos: neumonía.",
        "Question posée : pneumonie ?",
        "Résultats antérieurs : pneumonie.",
    ],
)
def test_what_is_asked_or_was_found_before_is_no_finding(line: str) -> None:
    for text in (f"{line}\nFINDINGS: Clear.\nIMPRESSION: Normal.", f"FINDINGS: Clear.\n{line}\nIMPRESSION: Normal."):
        assert read(text) == ("Clear.", "Normal.")
    assert read(f"FINDINGS: Clear.\nIMPRESSION: Normal.\n{line}") == ("Clear.", "Normal.")


def test_earlier_words_within_a_sentence_or_a_line_are_text() -> None:
    assert read("FINDINGS: Clear. PRIOR IMPRESSION: Effusion. IMPRESSION: Normal.") == ("Clear.", "Normal.")
    for text in (
        "Compared with prior: no change.",
        "Unchanged from previous findings of 2019.",
        "Old fracture: healed.",
    ):
        assert read(f"Findings: {text}\nImpression: Normal.") == (text, "Normal.")
        assert read(f"Findings: Clear.\n{text}\nImpression: Normal.") == (f"Clear. {text}", "Normal.")


def test_a_diagnosis_above_the_findings_is_the_referrers() -> None:
    for name, seen in (("Diagnosis", "Findings"), ("DIAGNOSE", "BEFUND"), ("Diagnóstico", "Hallazgos")):
        assert read(f"{name}: Pneumonia\n{seen}: Clear.\nConclusion: Normal.") == ("Clear.", "Normal.")
        assert read(f"{seen}: Clear.\n{name}: Normal.") == ("Clear.", "Normal.")
    assert read("Diagnosis: Normal.") == (None, "Normal.")


def test_a_draft_is_used_where_there_is_nothing_else() -> None:
    assert read("PRELIMINARY IMPRESSION: Effusion.\nFINDINGS: Clear.\nFINAL IMPRESSION: Normal.") == (
        "Clear.",
        "Normal.",
    )
    assert read("Findings: Clear.\nImpression (preliminary): Effusion.\nImpression: Normal.") == ("Clear.", "Normal.")
    draft = "PRELIMINARY REPORT\nIMPRESSION: Effusion.\n"
    assert read(f"{draft}FINAL REPORT\nFINDINGS: Clear.\nIMPRESSION: Normal.") == ("Clear.", "Normal.")
    assert read(draft) == (None, "Effusion.")
    assert read("FINDINGS: Clear.\nFINAL REPORT\nHeart normal.\nIMPRESSION: Normal.") == (
        "Clear. Heart normal.",
        "Normal.",
    )


@pytest.mark.parametrize(
    "name",
    [
        "IMPRESSION & RECOMMENDATION",
        "CONCLUSION / IMPRESSION",
        "Conclusion/Impression",
        "SUMMARY AND IMPRESSION",
        "Radiological impression",
        "RADIOLOGIST'S IMPRESSION",
        "Impression by Dr. Person",
        "CHEST IMPRESSION",
        "Impression of the chest",
        "IMPRESSION, CHEST",
        "[IMPRESSION]",
        "2.1 Impression",
        "B. IMPRESSION",
        "## Impression ",
        "Vorläufige Beurteilung",
        "Beurteilung und Empfehlung",
        "Impresión radiológica y recomendaciones",
    ],
)
def test_a_header_may_have_several_words(name: str) -> None:
    assert read(f"FINDINGS: Clear.\n{name}: Normal.") == ("Clear.", "Normal.")


def test_headers_between_rules_and_of_both_sections() -> None:
    for rule in ("===", "---", "***"):
        assert read(f"{rule} FINDINGS {rule}\nClear.\n{rule} IMPRESSION {rule}\nNormal.") == ("Clear.", "Normal.")
    for name in ("FINDINGS & IMPRESSION", "Findings / Impression", "IMPRESSION, FINDINGS"):
        assert read(f"{name}: Clear.") == (None, "Clear.")
    assert read("FINDINGS OF THE CHEST: Clear.\nADDITIONAL FINDINGS: Rib.") == ("Clear. Rib.", None)


def test_words_before_a_header_in_capitals_stay_where_no_sentence_ends() -> None:
    assert read("FINDINGS: Clear. Normal IMPRESSION: No change.") == ("Clear. Normal", "No change.")
    assert read("Impression: Normal.\nNo significant findings: all is well.")[0] is None
    assert read("FINDINGS:\nCHEST TWO VIEWS\nClear lungs.")[0] == "CHEST TWO VIEWS Clear lungs."
