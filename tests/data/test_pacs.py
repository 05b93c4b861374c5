"""What a search of a PACS says of studies, without a server."""

from pathlib import Path
from typing import Any

import pytest

from imitate.data.pacs import Server, Store, Wanted
from imitate.errors import UserError
from imitate.sources.dicomweb import DicomwebOptions, _filters, _table

TAGS = {"StudyInstanceUID": "0020000D", "PatientID": "00100020", "AccessionNumber": "00080050"}


class Client:
    """Two studies a page; one that ``repeats`` ignores which are asked for."""

    def __init__(self, studies: list[dict[str, Any]], *, repeats: bool = False) -> None:
        self.studies, self.repeats = studies, repeats

    def search_for_studies(self, *, offset: int, **_: Any) -> list[dict[str, Any]]:
        start = 0 if self.repeats else offset
        pages = [{TAGS[name]: {"vr": "LO", "Value": [value]} for name, value in each.items()} for each in self.studies]
        return pages[start : start + 2]


def search(folder: Path, client: Client, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[str, str]]:
    monkeypatch.setattr(Store, "_client", lambda _: client)
    server = Server("http://127.0.0.1/dicom-web", 1, 1, 0, None)
    found = Store(folder, server, Wanted({}, ("CR", "DX"), (), reports=False))._search()
    return {each["StudyInstanceUID"]: (each["PatientID"], each["AccessionNumber"]) for each in found}


def test_blank_ids_and_words_for_nobody_name_no_patient(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog
) -> None:
    ids: list[tuple[Any, Any]] = [("7", " A1 "), (" ", "NULL"), ("Unknown", ""), ("", None), (None, "A2"), ("-", "A3")]
    studies = [
        {"StudyInstanceUID": f"1.{number}", "PatientID": patient, "AccessionNumber": accession}
        for number, (patient, accession) in enumerate(ids)
    ]
    found = search(tmp_path, Client([*studies, {"PatientID": "9"}]), monkeypatch)
    expected = [("7", "A1"), ("", ""), ("", ""), ("", ""), ("", "A2"), ("", "A3")]
    assert found == {f"1.{number}": each for number, each in enumerate(expected)}
    assert "lists studies without StudyInstanceUID, which are not fetched" in caplog.text


def test_a_server_that_repeats_its_first_page_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client([{"StudyInstanceUID": f"1.{number}"} for number in range(5)], repeats=True)
    with pytest.raises(UserError, match="returned the first 2 studies again instead of the next ones: choose fewer"):
        search(tmp_path, client, monkeypatch)


@pytest.mark.parametrize(
    ("filters", "since"),
    [(("A=1", "A=2"), ""), (("StudyDate=20200101",), "20200101"), (("ModalitiesInStudy=CT",), "")],
)
def test_a_filter_that_is_given_twice_is_refused(filters: tuple[str, ...], since: str) -> None:
    options = DicomwebOptions(raw=Path("raw"), url="http://127.0.0.1", filters=filters, since=since)
    with pytest.raises(UserError, match=r"--filters .*: \w+ is given twice, or by --modalities"):
        _filters(options)


def test_reports_of_studies_without_an_accession_number_are_not_one(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("AccessionNumber,StudyInstanceUID,report\nNULL,1.1,x\nNULL,1.2,y\n")
    assert len(_table(tmp_path / "t.csv", b"k" * 32)) == 2
