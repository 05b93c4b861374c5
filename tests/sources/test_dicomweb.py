"""A PACS by DICOMweb, against Orthanc with its plug-in."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from needs import need_module
from orthanc import PASSWORD, USER, Pacs, image, orthanc, structured_report
from pydicom.uid import generate_uid

from imitate.commands.prepare import prepare
from imitate.data.corpus import Corpus
from imitate.errors import UserError

STUDIES = 200
SECTIONS = [("121070", "Findings", "The heart is large."), ("121072", "Impressions", "Cardiomegaly.")]


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pacs]:
    need_module("dicomweb_client", "pacs")
    with orthanc(tmp_path_factory.mktemp("orthanc")) as found:
        for number in range(STUDIES):
            study = generate_uid()
            found.add(image(number, study=study))
            if number % 10 == 0:
                found.add(image(number, study=study, view="LL"))
                found.add(image(number, study=study, part="HAND"))
                found.add(image(number, study=study, modality="CT"))
            if number % 4:
                found.add(structured_report(number, study=study, parts=SECTIONS))
        yield found


@pytest.fixture(autouse=True)
def login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMITATE_DICOMWEB_USER", USER)
    monkeypatch.setenv("IMITATE_DICOMWEB_PASSWORD", PASSWORD)


def command(pacs: Pacs, folder: Path) -> list[str]:
    words = ["prepare", "dicomweb", "--url", pacs.url, "--raw", str(folder / "raw"), "--out", str(folder / "out")]
    return [sys.executable, "-m", "imitate", *words, "--size", "32", "--textless", "--workers", "1"]


def test_every_study_is_there_once_after_two_kills(pacs: Pacs, tmp_path: Path) -> None:
    for least in (STUDIES // 5, STUDIES // 2):
        running = subprocess.Popen(command(pacs, tmp_path), stderr=subprocess.DEVNULL)
        while running.poll() is None and len(list((tmp_path / "raw/studies").glob("*.json"))) < least:
            time.sleep(0.01)
        running.send_signal(signal.SIGKILL)
        assert running.wait() == -signal.SIGKILL, "it was killed on its way"
        assert not (tmp_path / "out/index.json").exists()
    subprocess.run(command(pacs, tmp_path), check=True, capture_output=True)
    data = Corpus.open(tmp_path / "out")
    assert data.table["study"].nunique() == STUDIES and len(data) == STUDIES + STUDIES // 10
    assert data.table["image_id"].is_unique and data.table["patient"].nunique() == STUDIES // 2
    index = (tmp_path / "out/index.json").read_text()
    assert json.loads(index)["excluded"] == {"another body part": STUDIES // 10}
    text = index + "".join(str(pq.read_table(path).to_pydict()) for path in (tmp_path / "out").rglob("*.parquet"))
    assert not any(word in text for word in ("PID-", "Doe", "ACC0", "1.2.826", "127.0.0.1")), "ids are hashed"
    assert not list((tmp_path / "raw").rglob("*.part"))


def few(pacs: Pacs, tmp_path: Path, **options: object) -> dict[str, object]:
    """The first patients' studies."""
    given = {"filters": ("PatientID=PID-1",), "size": 32, "workers": 1, "retries": 0, **options}
    prepare("dicomweb", raw=tmp_path / "raw", out=tmp_path / "out", url=pacs.url, **given)  # studies 2 and 3
    data = Corpus.open(tmp_path / "out")
    texts = {name: data.text(name, np.arange(len(data))).tolist() for name in ("findings", "impression")}
    return {**data.table.to_dict("list"), **texts}


def test_reports_are_structured_reports_by_default(pacs: Pacs, tmp_path: Path) -> None:
    found = few(pacs, tmp_path)
    assert found["findings"] == ["The heart is large."] * 2 and found["impression"] == ["Cardiomegaly."] * 2
    assert found["projection"] == ["PA"] * 2 and len(set(found["patient"])) == 1 and len(set(found["study"])) == 2


def test_reports_of_a_table_go_to_their_accession_numbers(pacs: Pacs, tmp_path: Path) -> None:
    table = tmp_path / "reports.csv"
    table.write_text("AccessionNumber,report\nACC00002,FINDINGS: Clear lungs.\nACC00003,IMPRESSION: Effusion.\n")
    found = few(pacs, tmp_path, reports=table)
    assert sorted(map(str, found["findings"])) == ["Clear lungs.", "nan"]
    assert sorted(map(str, found["impression"])) == ["Effusion.", "nan"]
    table.write_text("accession,report\nACC00002,x\n")
    with pytest.raises(UserError, match="needs a column AccessionNumber or StudyInstanceUID, and report, findings"):
        few(pacs, tmp_path, reports=table)


def test_the_same_key_gives_the_same_ids_and_another_one_others(pacs: Pacs, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("0123456789" * 4)
    ids = [few(pacs, tmp_path / name, id_key=tmp_path / "key")["patient"] for name in ("a", "b")]
    assert ids[0] == ids[1] != few(pacs, tmp_path / "c")["patient"]
    assert "key" not in (tmp_path / "a/out/index.json").read_text()
    (tmp_path / "key").write_text("short")
    with pytest.raises(UserError, match="too short for a key"):
        few(pacs, tmp_path / "d", id_key=tmp_path / "key")


def test_what_is_wrong_with_a_server_is_one_line(pacs: Pacs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="has no study with these dates"):
        few(pacs, tmp_path, until="20200101")
    with pytest.raises(UserError, match=r"responds with 404 .*: check --url, which is the root of DICOMweb"):
        prepare("dicomweb", raw=tmp_path / "raw", out=tmp_path / "out", url=f"{pacs.root}/nothing", retries=0)
    monkeypatch.setenv("IMITATE_DICOMWEB_PASSWORD", "wrong")
    with pytest.raises(UserError, match=r"refuses the login \(401\): set IMITATE_DICOMWEB_TOKEN, or"):
        few(pacs, tmp_path)
    with pytest.raises(UserError, match="the login would be sent unencrypted: use https"):
        prepare("dicomweb", raw=tmp_path / "raw", out=tmp_path / "out", url="http://192.0.2.1/dicom-web", retries=0)
    with pytest.raises(UserError, match="give the root of DICOMweb, such as https"):
        prepare("dicomweb", raw=tmp_path / "raw", out=tmp_path / "out", url="pacs.example.org")


def test_a_server_that_is_stopped_or_slow_is_one_line(tmp_path: Path) -> None:
    need_module("dicomweb_client", "pacs")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    places = {"raw": tmp_path / "raw", "out": tmp_path / "out", "url": f"http://127.0.0.1:{port}/dicom-web"}
    with pytest.raises(
        UserError, match=r"cannot be reached; what has been fetched is kept, and the same command continues"
    ):
        prepare("dicomweb", **places, retries=0)
    with socket.create_server(("127.0.0.1", port)) as server:  # accepts and never responds
        ended = threading.Event()
        threading.Thread(target=lambda: (server.accept(), ended.wait()), daemon=True).start()
        with pytest.raises(UserError, match=r"did not respond within 0.2 s: raise --timeout"):
            prepare("dicomweb", **places, retries=0, timeout=0.2)
        ended.set()


@pytest.mark.skipif(os.name == "nt", reason="modes of files")
def test_the_key_is_for_its_owner_alone(pacs: Pacs, tmp_path: Path) -> None:
    few(pacs, tmp_path)
    assert (tmp_path / "raw/id.key").stat().st_mode & 0o777 == 0o600
