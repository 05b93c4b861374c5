"""A PACS on loopback: Orthanc with its DICOMweb plug-in, and studies to put into it."""

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
import requests
from needs import need
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    BasicTextSRStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    generate_uid,
)

PLUGINS = (
    Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so"),
    Path("/usr/local/share/orthanc/plugins/libOrthancDicomWeb.so"),
)
USER, PASSWORD = "reader", "secret"


class Pacs:
    def __init__(self, port: int) -> None:
        self.root = f"http://127.0.0.1:{port}"
        self.url = f"{self.root}/dicom-web"
        self.session = requests.Session()
        self.session.auth = (USER, PASSWORD)

    def add(self, dataset: Dataset) -> None:
        file = BytesIO()
        dataset.save_as(file, enforce_file_format=True)
        self.session.post(f"{self.root}/instances", data=file.getvalue(), timeout=30).raise_for_status()


@contextmanager
def orthanc(folder: Path) -> Iterator[Pacs]:
    need("Orthanc")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "StorageDirectory": str(folder / "storage"), "IndexDirectory": str(folder / "index"), "HttpPort": port,
        "DicomServerEnabled": False, "RemoteAccessAllowed": False, "AuthenticationEnabled": True,
        "RegisteredUsers": {USER: PASSWORD}, "Plugins": [str(next(each for each in PLUGINS if each.is_file()))],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "orthanc.log").open("wb") as file:
        server = subprocess.Popen(["Orthanc", str(folder / "orthanc.json")], stdout=file, stderr=subprocess.STDOUT)
    pacs = Pacs(port)
    try:
        while server.poll() is None:
            try:
                pacs.session.get(f"{pacs.url}/studies?limit=1", timeout=5).raise_for_status()
                break
            except requests.RequestException:
                time.sleep(0.1)
        assert server.poll() is None, (folder / "orthanc.log").read_text()
        yield pacs
    finally:
        server.terminate()
        server.wait()


def image(number: int, *, study: str, modality: str = "DX", part: str = "CHEST", view: str = "PA") -> Dataset:
    """A radiograph of noise of the patient ``number`` // 2."""
    made = _instance(DigitalXRayImageStorageForPresentation, number, study, modality)
    made.BodyPartExamined, made.ViewPosition = part, view
    made.Rows = made.Columns = 64
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated = made.BitsStored = 8
    made.HighBit, made.PixelRepresentation = 7, 0
    made.PixelData = np.random.default_rng(number).integers(0, 256, (64, 64), np.uint8).tobytes()
    return made


def structured_report(number: int, *, study: str, parts: list[tuple[str, str, str]], time: str = "120000") -> Dataset:
    """A basic text report; ``parts`` are code, meaning and text, each in a container of its own."""
    made = _instance(BasicTextSRStorage, number, study, "SR")
    made.ContentDate, made.ContentTime, made.ValueType = "20260102", time, "CONTAINER"
    made.ContentSequence = Sequence([_container(*part) for part in parts])
    return made


def _container(code: str, meaning: str, text: str) -> Dataset:
    item = Dataset()
    item.ValueType, item.ConceptNameCodeSequence = "CONTAINER", Sequence([_code(code, meaning)])
    inner = Dataset()
    inner.ValueType, inner.TextValue = "TEXT", text
    inner.ConceptNameCodeSequence = Sequence([_code("121071", "Finding")] if code == "121070" else [])
    item.ContentSequence = Sequence([inner])
    return item


def _code(value: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "DCM", meaning
    return code


def _instance(kind: str, number: int, study: str, modality: str) -> Dataset:
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = UID(kind)
    made.SOPInstanceUID = generate_uid()
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    made.StudyInstanceUID, made.SeriesInstanceUID = study, generate_uid()
    made.PatientID, made.PatientName = f"PID-{number // 2}", f"Doe^{number // 2}"
    made.AccessionNumber, made.StudyDate, made.Modality = f"ACC{number:05d}", "20260102", modality
    return made
