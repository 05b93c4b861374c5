"""The search for studies on a DICOMweb server (QIDO-RS), page by page."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from imitate.data.words import is_nobody, is_nothing
from imitate.errors import UserError

if TYPE_CHECKING:
    from dicomweb_client import DICOMwebClient
    from pydicom import Dataset

log = logging.getLogger(__name__)
PAGE = 500  # studies of one response
IDS = ("StudyInstanceUID", "PatientID", "AccessionNumber")


def find_studies(
    client: DICOMwebClient, url: str, filters: Mapping[str, str], modalities: Sequence[str]
) -> dict[str, dict[str, str]]:
    """The ids of each study by its uid. UserError: the server repeats a page instead of giving the next."""
    studies: dict[str, dict[str, str]] = {}
    for modality in modalities:
        start, listed = 0, set[str]()
        while page := client.search_for_studies(
            search_filters={**filters, "ModalitiesInStudy": modality}, limit=PAGE, offset=start, fields=list(IDS)
        ):
            found = {study["StudyInstanceUID"]: study for study in map(_ids, page)}
            if found.keys() <= listed:
                raise UserError(
                    f"{url} returned the first {len(listed)} studies again instead of the next ones: choose fewer with "
                    "--since, --until and --filters"
                )
            listed |= found.keys()
            studies |= found
            start += len(page)
    if studies.pop("", None):
        log.warning("%s lists studies without StudyInstanceUID, which are not fetched", url)
    return studies


def to_dataset(response: Mapping[str, Any]) -> Dataset:
    from pydicom import Dataset

    return Dataset.from_json(dict(response))


def _ids(response: Mapping[str, Any]) -> dict[str, str]:
    """What the search says of a study; empty for blanks and for words such as UNKNOWN, which name nobody."""
    dataset = to_dataset(response)
    found = {name: str(dataset.get(name, "") or "").strip() for name in IDS}
    found["PatientID"] *= not is_nobody(found["PatientID"])
    found["AccessionNumber"] *= not is_nothing(found["AccessionNumber"])
    return found
