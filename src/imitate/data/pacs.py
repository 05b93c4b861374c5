"""A PACS by DICOMweb: what a search finds, and each study of it in a folder, whole or absent.

The folder that is written here holds DICOM files as the server has them, with names and ids. What goes on from it has
ids that are keyed hashes.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from imitate.data.dicom_reports import report_text
from imitate.data.files import locked
from imitate.data.progress import progress
from imitate.data.studies import find_studies, to_dataset
from imitate.errors import UserError

if TYPE_CHECKING:
    from dicomweb_client import DICOMwebClient
    from pydicom import Dataset
    from requests import HTTPError

log = logging.getLogger(__name__)
TOKEN, USER, PASSWORD = "IMITATE_DICOMWEB_TOKEN", "IMITATE_DICOMWEB_USER", "IMITATE_DICOMWEB_PASSWORD"
LOOPBACK = ("localhost", "127.0.0.1", "::1")
WAIT = 0.5  # seconds before the first retry, doubled at each
BUSY = (408, 429, 500, 502, 503, 504)  # responses after which a request is sent again
REPORTS = ("SR", "DOC")  # modalities of series that hold reports
REFUSED = "not delivered by the server"
GOES_ON = "what has been fetched is kept, and the same command continues from there"


class Server(NamedTuple):
    """Where the PACS is, and how gently it is asked."""

    url: str
    timeout: float
    parallel: int
    retries: int
    certificates: Path | None

    def client(self) -> DICOMwebClient:
        """One for each thread. UserError: a login would be sent unencrypted."""
        try:
            from dicomweb_client import DICOMwebClient
        except ImportError as error:
            raise UserError("the source dicomweb needs a client: pip install 'imitate-cxr[pacs]'") from error
        import requests
        from requests.adapters import HTTPAdapter
        from urllib3.util import Retry

        session = requests.Session()
        token, user = os.environ.get(TOKEN), os.environ.get(USER)
        parts = urlsplit(self.url)
        if (token or user) and parts.scheme != "https" and parts.hostname not in LOOPBACK:
            raise UserError(f"--url {self.url}: the login would be sent unencrypted: use https")
        if token:
            session.headers["Authorization"] = f"Bearer {token}"
        elif user:
            session.auth = user, os.environ.get(PASSWORD, "")
        if self.certificates is not None:
            session.verify = str(self.certificates)
        retry = Retry(
            self.retries, read=min(1, self.retries), backoff_factor=WAIT, status_forcelist=BUSY, raise_on_status=False
        )
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(max_retries=retry, pool_maxsize=1))
        client = DICOMwebClient(self.url, session=session, timeout=self.timeout)
        client.set_http_retry_params(retry=False)  # the session does that, also for lost connections
        return client

    @contextmanager
    def errors(self) -> Iterator[None]:
        """One line for what a server, the network or a certificate does."""
        from requests import exceptions

        try:
            yield
        except exceptions.HTTPError as error:
            code, reason = _response(error)
            if code in (401, 403):
                raise UserError(
                    f"{self.url} refuses the login ({code}): set {TOKEN}, or {USER} and {PASSWORD}"
                ) from error
            hint = "check --url, which is the root of DICOMweb, such as .../dicom-web" if code == 404 else GOES_ON
            raise UserError(f"{self.url} responds with {code} {reason}: {hint}") from error
        except exceptions.SSLError as error:
            raise UserError(
                f"{self.url}: its certificate cannot be verified: pass those of your authority as --certificates"
            ) from error
        except exceptions.Timeout as error:
            raise UserError(
                f"{self.url} did not respond within {self.timeout:g} s: raise --timeout, or lower --parallel; {GOES_ON}"
            ) from error
        except (exceptions.RequestException, OSError) as error:
            slow = "timed out" in str(error)
            way = f"did not respond within {self.timeout:g} s: raise --timeout" if slow else "cannot be reached"
            raise UserError(f"{self.url} {way}; {GOES_ON}") from error


class Wanted(NamedTuple):
    """What is searched for, and fetched."""

    filters: Mapping[str, str]
    modalities: Sequence[str]
    body_parts: Sequence[str]
    reports: bool  # also those that are DICOM objects


class Store:
    """The folder of a PACS's studies: search-*.json, studies/HASH.json (written last), images/HASH.dcm, id.key."""

    def __init__(self, folder: Path, server: Server, wanted: Wanted, *, key: Path | None = None) -> None:
        """``key`` is the file of the key that ids are hashed with; by default one of the folder's own."""
        self.folder, self.server, self.wanted = folder, server, wanted
        for name in ("studies", "images"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self.key = _key(key or folder / "id.key")
        self._own = threading.local()

    def studies(self) -> Iterator[dict[str, Any]]:
        """Every study that the search finds, in the order of the search, fetched where it is not there yet."""
        found = self._search()
        missing = sum(not self._path(study).is_file() for study in found)
        if missing:
            log.info("%d studies found, %d to fetch", len(found), missing)
        queue = iter(found)
        with (
            locked(self.folder / "lock"),
            ThreadPoolExecutor(self.server.parallel) as pool,
            progress(total=len(found)) as advance,
        ):
            running = [pool.submit(self._study, study) for study in islice(queue, 2 * self.server.parallel)]
            try:
                while running:
                    study = running.pop(0).result()
                    running += [pool.submit(self._study, each) for each in islice(queue, 1)]
                    advance(1)
                    yield study
            finally:
                for each in running:
                    each.cancel()

    def _search(self) -> list[dict[str, str]]:
        """The studies of the search; written down, so that a search that goes on finds the same."""
        asked = json.dumps([self.server.url, dict(self.wanted.filters), list(self.wanted.modalities)])
        path = self.folder / f"search-{hashlib.sha256(asked.encode()).hexdigest()[:12]}.json"
        if path.is_file():
            known: list[dict[str, str]] = json.loads(path.read_text(encoding="utf-8"))
            return known
        with self.server.errors():
            studies = find_studies(self._client(), self.server.url, self.wanted.filters, self.wanted.modalities)
        if not studies:
            raise UserError(
                f"{self.server.url} has no study with these dates, modalities and filters: widen the search"
            )
        every = [studies[number] for number in sorted(studies)]
        _write(path, json.dumps(every))
        return every

    def _study(self, study: Mapping[str, str]) -> dict[str, Any]:
        path = self._path(study)
        if not path.is_file():
            with self.server.errors():
                _write(path, json.dumps(self._fetch(study)))
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found

    def _fetch(self, study: Mapping[str, str]) -> dict[str, Any]:
        """Its images into files, its report as a text; ids are hashed."""
        number, client = study["StudyInstanceUID"], self._client()
        found: dict[str, Any] = {
            "study": self._hidden(number),
            "patient": self._hidden("patient", study["PatientID"]) if study["PatientID"] else "",
            "keys": [self._hidden(study["AccessionNumber"]) if study["AccessionNumber"] else "", self._hidden(number)],
            "images": [], "excluded": [], "report": None, "notes": [],
        }  # fmt: skip
        reports: list[tuple[str, str | None, str]] = []
        for series in map(to_dataset, client.search_for_series(number, fields=["BodyPartExamined"])):
            modality, part = str(series.get("Modality", "")), str(series.get("BodyPartExamined", "") or "").upper()
            if modality not in (*self.wanted.modalities, *(REPORTS if self.wanted.reports else ())):
                continue
            fits = modality in REPORTS or part in self.wanted.body_parts
            for each in map(to_dataset, client.search_for_instances(number, series.SeriesInstanceUID)):
                name = self._hidden(each.SOPInstanceUID)
                if not fits:
                    found["excluded"].append([name, "another body part"])
                    continue
                dataset = self._retrieve(client, number, series.SeriesInstanceUID, each.SOPInstanceUID)
                if dataset is None:
                    found["excluded"].append([name, REFUSED])
                elif modality in REPORTS:
                    text, note = report_text(dataset)
                    reports.append((f"{dataset.get('ContentDate', '')}{dataset.get('ContentTime', '')}", text, note))
                else:
                    found["images"].append(
                        [name, self._save(dataset, name), str(dataset.get("ViewPosition", "") or "")]
                    )
        texts = [text for _, text, _ in sorted(reports, key=lambda each: each[0]) if text]
        found["report"] = texts[-1] if texts else None
        found["notes"] = sorted(
            {note for _, _, note in reports if note} | ({"several reports"} if texts[1:] else set())
        )
        return found

    def _retrieve(self, client: DICOMwebClient, study: str, series: str, instance: str) -> Dataset | None:
        """None where the server cannot deliver this one."""
        from requests import exceptions

        for attempt in range(self.server.retries + 1):
            try:
                return client.retrieve_instance(study, series, instance, media_types=(("application/dicom", "*"),))
            except exceptions.HTTPError as error:
                if _response(error)[0] in (401, 403, 429, 503):
                    raise
                return None
            except (exceptions.ChunkedEncodingError, exceptions.ContentDecodingError):  # cut off within a response
                if attempt == self.server.retries:
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _save(self, dataset: Dataset, name: str) -> str:
        path = self.folder / "images" / f"{name}.dcm"
        part = path.with_name(f"{name}.part")
        dataset.save_as(part, enforce_file_format=True)
        part.replace(path)
        return path.relative_to(self.folder).as_posix()

    def _client(self) -> DICOMwebClient:
        if not hasattr(self._own, "client"):
            self._own.client = self.server.client()
        client: DICOMwebClient = self._own.client
        return client

    def _path(self, study: Mapping[str, str]) -> Path:
        return self.folder / "studies" / f"{self._hidden(study['StudyInstanceUID'])}.json"

    def _hidden(self, *parts: str) -> str:
        return hidden(self.key, *parts)


def _response(error: HTTPError) -> tuple[int, str]:
    """Status code and words of what the server responded."""
    assert error.response is not None
    return error.response.status_code, error.response.reason


def hidden(key: bytes, *parts: str) -> str:
    """HMAC-SHA256 of an id, 80 bits of it: without the key nobody can find the id by trying."""
    return hmac.new(key, "\0".join(parts).encode(), hashlib.sha256).hexdigest()[:20]


def _key(path: Path) -> bytes:
    """Made at random when it is first needed; only its owner may read it."""
    if not path.is_file():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_hex(32).encode())
    key = path.read_bytes().strip()
    if len(key) < 32:
        raise UserError(f"{path} is too short for a key: it needs 32 characters or more")
    return key


def _write(path: Path, text: str) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
