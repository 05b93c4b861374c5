"""Reports that are DICOM objects, as texts with headers."""

import pytest
from orthanc import structured_report
from pydicom import Dataset

from imitate.data.dicom_reports import PDF, UNREAD, report_text
from imitate.data.section_labels import read_headers
from imitate.data.sections import split_by_headers


def document(kind: str, content: bytes) -> Dataset:
    made = Dataset()
    made.MIMETypeOfEncapsulatedDocument, made.EncapsulatedDocument = kind, content
    return made


def sections(dataset: Dataset) -> tuple[str | None, str | None]:
    text, note = report_text(dataset)
    assert text is not None and not note
    found = split_by_headers(text, read_headers())
    return found.findings, found.impression


CDA = b"""<?xml version="1.0"?>
<ClinicalDocument xmlns="urn:hl7-org:v3"><component><structuredBody>
<component><section><title>History</title><text>Cough.</text></section></component>
<component><section><title>Findings</title><text><paragraph>The heart is <content>large</content>.</paragraph>
<paragraph>No effusion.</paragraph></text></section></component>
<component><section><title>Impression:</title><text>Cardiomegaly.</text></section></component>
</structuredBody></component></ClinicalDocument>"""


def test_a_structured_report_is_divided_by_its_codes_whatever_their_words():
    parts = [("121060", "Anamnese", "Husten."), ("121070", "Beschreibung", "Herz groß."), ("121077", "Fazit", "Krank.")]
    made = structured_report(1, study="1.2.3", parts=parts)
    assert sections(made) == ("Herz groß.", "Krank.")
    assert report_text(made)[0].startswith("Anamnese:\nHusten.")


def test_a_structured_report_without_these_codes_is_divided_by_its_words():
    made = structured_report(1, study="1.2.3", parts=[("X1", "Befund", "Herz groß."), ("X2", "Beurteilung", "Krank.")])
    assert sections(made) == ("Herz groß.", "Krank.")


@pytest.mark.parametrize("kind", ["text/XML", "application/xml"])
def test_a_clinical_document_is_divided_by_its_titles(kind):
    assert sections(document(kind, CDA + b"\0")) == ("The heart is large. No effusion.", "Cardiomegaly.")


def test_an_encapsulated_text_is_a_typed_report():
    text = "FINDINGS:\nHerz groß.\nIMPRESSION:\nKrank."
    for content in (text.encode(), text.encode("cp1252") + b"\0"):
        assert sections(document("text/plain", content)) == ("Herz groß.", "Krank.")


@pytest.mark.parametrize(
    ("made", "note"),
    [
        (document("application/pdf", b"%PDF-1.7"), PDF),
        (document("text/xml", b"<a><b></a>"), UNREAD),
        (document("text/xml", b'<!DOCTYPE a [<!ENTITY x "x">]><a>&x;</a>'), UNREAD),
        (document("video/mpeg", b""), UNREAD),
        (Dataset(), UNREAD),
    ],
)
def test_what_cannot_be_read_is_said(made, note):
    assert report_text(made) == (None, note)
