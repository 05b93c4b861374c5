"""Who signed a report, and whom it names, is no part of its text; what it says about people is."""

import pytest

from imitate.data.section_labels import read_headers
from imitate.data.sections import split_by_headers, whole_text

HEADERS = read_headers()

SIGNED = [
    "Electronically signed by Ann Person on 1/2/2020",
    "electronically signed by Ann Person",
    "//Electronically signed by Ann Person",
    "[Electronically signed by Ann Person]",
    "<Electronically signed by Ann Person>",
    "*** Electronically signed by Ann Person ***",
    "Report electronically signed by Ann Person",
    "This report was electronically signed by Ann Person",
    "This report has been reviewed and electronically signed by Ann Person",
    "FINAL REPORT ELECTRONICALLY SIGNED BY ANN PERSON",
    "Report dictated by Ann Person",
    "dictated by: ap",
    "Dictated: Ann Person",
    "Signed: Ann Person",
    "Radiologist: Ann Person",
    "Attending: Ann Person",
    "Resident: Ann Person",
    "Interpreted by Ann Person",
    "Transcribed: 1/2/2020 by AP",
    "I have reviewed the images and agree with the report. Ann Person",
    "Ann Person, M.D.",
    "Ann B. Person MD",
    "PERSON, ANN, MD, PhD 01/02/2020 10:31 AM",
    "Dr. Ann Person",
    "DR ANN PERSON",
    "Dr. med. Ann Person",
    "Prof. Dr. med. habil. Ann von Person",
    "Dipl.-Med. A. Person",
    "Radiologe: A. Person",
    "Befundender Arzt: A. Person",
    "Leitender Oberarzt A. Person",
    "Mit besten Grüßen\nA. Person",
    "Dieser Befund wurde elektronisch signiert von A. Person",
    "Dra. Ána Persona",
    "Fdo.: A. Persona",
    "Radiólogo: A. Persona",
    "Colegiado 12345 A. Persona",
    "Este informe ha sido firmado electrónicamente por A. Persona",
    "Dr Anne Personne",
    "Radiologue : A. Personne",
    "Compte-rendu validé par le Dr A. Personne",
    "Signature : A. Personne",
]


@pytest.mark.parametrize("line", SIGNED)
@pytest.mark.parametrize("before", ["\n", "\n\n", " ", "\n- "])
def test_who_signed_is_no_part_of_a_section(line: str, before: str) -> None:
    found = split_by_headers(f"Findings: Clear lungs.\nImpression: Normal chest.{before}{line}", HEADERS)
    assert found[:2] == ("Clear lungs.", "Normal chest.")


@pytest.mark.parametrize("line", ["(Electronically signed by A. Person)", "- Dictated by A. Person", "| Signed by AP"])
def test_a_signature_may_follow_a_rule_within_a_line(line: str) -> None:
    assert split_by_headers(f"Impression: Normal {line}", HEADERS).impression == "Normal"


@pytest.mark.parametrize(
    "text",
    [
        "Findings discussed with Dr. Person by phone.",
        "Findings discussed with Dr. A. Person, M.D.",
        "No effusion. Findings were discussed with\nDr. Person.",
        "NO EFFUSION. DISCUSSED WITH\nDR. PERSON.",
        "Dr. Person was informed at 10:30. No effusion.",
        "Dr. Person\nwas informed. No effusion.",
        "The consent form was signed by the patient. No effusion.",
        "Tube placed by Prof. Dr. Person. No effusion.",
        "The patient is rotated. The radiologist was called. No effusion.",
        "Signs of congestion: none. Attending to the tubes: all in place.",
        "Small effusion, read by no reader before. No name.",
        "Status: post CABG. Heart size: normal.",
        "Vergleich mit Dr. Person am Telefon besprochen. Kein Erguss.",
        "Médecin prévenu. Médico avisado. Arzt verständigt.",
    ],
)
def test_what_a_report_says_about_people_stays(text: str) -> None:
    assert split_by_headers(f"Findings: {text}", HEADERS).findings == " ".join(text.split())


@pytest.mark.parametrize(
    "line", ["Patient: Ann Person", "MRN: 123", "Patient name:\nAnn Person", "CC: Dr. Person", "Geburtsdatum: 1.1.1950"]
)
def test_a_line_that_names_somebody_is_left_out_alone(line: str) -> None:
    text = f"Clear lungs.\n{line}\nNormal heart."
    assert split_by_headers(f"Findings: {text}\nImpression: b", HEADERS)[:2] == ("Clear lungs. Normal heart.", "b")
    assert whole_text(text, HEADERS) == "Clear lungs. Normal heart."


def test_a_signature_above_the_text_is_a_line_of_a_whole_report() -> None:
    text = "Radiologist: Ann Person\nPatient: Bob Person\nClear lungs.\nDictated by Ann Person\n1/2/2020"
    assert whole_text(text, HEADERS) == "Clear lungs."
    assert whole_text("Radiologist:\nAnn Person\n", HEADERS) is None


def test_a_house_style_may_use_these_words_otherwise(tmp_path) -> None:
    (tmp_path / "a.yaml").write_text("Patient: findings\nSignature: impression\n", encoding="utf-8")
    found = split_by_headers(
        "Patient: clear\nSignature: normal\nAttending: A. Person", read_headers(tmp_path / "a.yaml")
    )
    assert found[:2] == ("clear", "normal")
