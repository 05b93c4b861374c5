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


def item(kind: str, code: tuple[str, str, str] | None = None, **values: object) -> Dataset:
    made = Dataset()
    made.ValueType = kind
    made.RelationshipType = values.pop("relation", "CONTAINS")
    if code:
        made.ConceptNameCodeSequence = [coded(*code)]
    for name, value in values.items():
        setattr(made, name, value)
    return made


def coded(scheme: str, value: str, meaning: str) -> Dataset:
    made = Dataset()
    made.CodingSchemeDesignator, made.CodeValue, made.CodeMeaning = scheme, value, meaning
    return made


FINDING, FINDINGS = ("DCM", "121071", "Finding"), ("DCM", "121070", "Findings")


@pytest.mark.parametrize(
    "place",
    [
        ("DCM", "121068", "Previous Findings"),
        ("DCM", "121062", "Request"),
        ("L", "1", "Vorbefunde"),
        ("L", "2", "Prior"),
    ],
)
def test_findings_below_an_earlier_examination_or_a_request_are_not_of_this_one(place):
    report = Dataset()
    old = [item("TEXT", FINDING, TextValue="Pneumonia.")]
    new = [item("TEXT", FINDING, TextValue="Clear."), item("TEXT", TextValue="No effusion.")]
    report.ContentSequence = [
        item("CONTAINER", FINDINGS, ContentSequence=new),
        item("CONTAINER", place, ContentSequence=[item("CONTAINER", FINDINGS, ContentSequence=old)]),
        item("TEXT", ("DCM", "121073", "Impression"), TextValue="Normal."),
    ]
    assert sections(report) == ("Clear. No effusion.", "Normal.")


def test_numbers_and_codes_of_the_findings_are_read_with_what_qualifies_them():
    unit, measured = coded("UCUM", "mm", "millimeter"), Dataset()
    measured.NumericValue, measured.MeasurementUnitsCodeSequence = "5", [unit]
    absent = item("CODE", ("L", "1", "Presence"), relation="HAS CONCEPT MOD")
    absent.ConceptCodeSequence = [coded("SCT", "2667000", "Absent")]
    gone = item(
        "CODE", FINDING, ConceptCodeSequence=[coded("SCT", "36118008", "Pneumothorax")], ContentSequence=[absent]
    )
    size = item("NUM", ("SCT", "1", "Diameter"), MeasuredValueSequence=[measured])
    reader = item("TEXT", ("DCM", "121008", "Person Observer Name"), TextValue="Ann Person", relation="HAS OBS CONTEXT")
    report = Dataset()
    report.ContentSequence = [item("CONTAINER", FINDINGS, ContentSequence=[reader, gone, size])]
    assert sections(report) == ("Pneumothorax, Absent. Diameter 5 mm.", None)


def test_nested_sections_of_a_clinical_document_by_their_codes():
    def part(code: str, title: str, text: str, inner: str = "") -> str:
        head = f'<code code="{code}" codeSystem="2.16.840.1.113883.6.1"/><title>{title}</title>'
        return f"<component><section>{head}<text>{text}</text>{inner}</section></component>"

    rows = "<table><tr><td>Heart</td><td>large.</td></tr></table><list><item>No effusion.</item></list>"
    parts = (
        part("55114-3", "Before", "", part("59776-5", "Findings", "Pneumonia.")),
        part("59776-5", "Seen", rows, part("", "", "Bones intact.")),
        part("19005-8", "Thus", "Cardiomegaly."),
    )
    text = f"<ClinicalDocument xmlns='urn:hl7-org:v3'>{''.join(parts)}</ClinicalDocument>"
    expected = ("Heart large. No effusion. Bones intact.", "Cardiomegaly.")
    assert sections(document("text/xml", text.encode())) == expected
    assert split_by_headers(f'<?xml version="1.0"?>\n{text}', read_headers())[:2] == expected
