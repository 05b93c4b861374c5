"""ReXGradient-160K: PNG files of more than 8 bits and, for each study, findings and impression; no labels.

``raw`` holds ``metadata/`` and the unpacked ``deid_png/``. metadata/<part>_metadata.csv has a row a study;
<part>_metadata_view_position.json says which images a study has and of which projections, as parallel lists. Where it
is absent, <part>_metadata.json gives the images alone. The parts are train, valid (val) and test, as published.

POSTERO_ANTERIOR is PA, ANTERO_POSTERIOR is AP, LL and RL are LATERAL; other projections keep their name, so that the
default selection, PA and AP, has neither KUB, which is an abdomen, nor ERECT and SUPINE. An image without projection
has "". Adults and infants are mixed: ``age`` distinguishes them.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from imitate.data.demographics import demographics
from imitate.data.records import Excluded, Record
from imitate.data.reports import cell_text
from imitate.data.tables import find, present, read_table
from imitate.errors import UserError
from imitate.sources import Options, Source, Traits
from imitate.sources.conventions import check_header, once, rows_of

PARTS = {"train": "train", "valid": "val", "test": "test"}
REQUIRED = ("id", "Findings", "Impression")
HEADER = (
    *("id", "AccessionNumber", "StudyInstanceUid", "StudyDate", "StudyDescription", "PatientSex", "PatientAge"),
    *("Indication", "Comparison", "Findings", "Impression"),
)
PERSON = {"sex": "PatientSex", "age": "PatientAge", "scanner": "Manufacturer", "site": "InstitutionName"}
PROJECTIONS = {
    "POSTERO_ANTERIOR": "PA",
    "ANTERO_POSTERIOR": "AP",
    "LL": "LATERAL",
    "RL": "LATERAL",
    "UNKNOWN": "",
    "N/A": "",
    "NONE": "",
}
IMAGES = "deid_png"
PLACE = re.compile(rf"(?:\.\./)*(?:{IMAGES}/)?(([^/.][^/]*)/.+/[^/]+\.png)", re.IGNORECASE)


class _Study(NamedTuple):
    row: dict[str, Any]
    id: str
    split: str


def records(options: Options) -> Iterator[Record | Excluded]:
    raw = options.raw
    folder = find(raw, "metadata")
    if not (raw / IMAGES).is_dir():
        if any(raw.glob(f"{IMAGES}.part*")):
            raise UserError(
                f"{raw} holds {IMAGES}.part00 and so on: join them into one file, which is a tar compressed with zstd, "
                f"and unpack it there"
            )
        raise UserError(f"{raw} has no {IMAGES}: --raw must be the folder that contains it and metadata")
    seen: dict[str, str] = {}
    for part, split in PARTS.items():
        path = find(folder, f"{part}_metadata.csv")
        table = read_table(path, REQUIRED, text=True)
        check_header(path, list(table.columns), HEADER)
        table, again = once(table, "id", path=path)
        yield from again
        listed = find(folder, f"{part}_metadata_view_position.json", f"{part}_metadata.json")
        images = _images(listed)
        studies = {str(row["id"]): row for row in rows_of(table)}
        if both := next((key for key in studies if key in seen), None):
            raise UserError(f"{path} lists the study {both}, which is in {seen[both]} too: download them again")
        seen |= dict.fromkeys(studies, path.name)
        for key, row in studies.items():
            if not images.get(key):
                yield Excluded(key, "report without image")
            for name, view in images.get(key, ()):
                yield _record(raw, _Study(row, key, split), name, view)
        yield from (Excluded(key, "image without report") for key in images if key not in studies)


def _record(raw: Path, study: _Study, name: str, view: str) -> Record | Excluded:
    place = PLACE.fullmatch(name)
    if place is None:
        return Excluded(name, "path is not of this archive")
    row = study.row
    findings, impression = (cell_text(_first(row.get(name))) for name in ("Findings", "Impression"))
    word = view.strip().upper()
    return present(
        Record(
            image_id=place[1],
            image=raw / IMAGES / place[1],
            patient=place[2],
            study=study.id,
            split=study.split,
            projection=PROJECTIONS.get(word, word),
            findings=findings,
            impression=impression,
            language="en" if findings or impression else "",
            **demographics(**{name: _first(row.get(column)) for name, column in PERSON.items() if column in row}),
        ),
        root=raw / IMAGES,
    )


def _images(path: Path) -> dict[str, list[tuple[str, str]]]:
    """Study -> its images, each with its projection. The file is an object by study, or a list of studies."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        pairs = content.items() if isinstance(content, dict) else [(each["id"], each) for each in content]
        return {str(key): _paired(entry) for key, entry in pairs}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, SyntaxError, RecursionError) as error:
        raise UserError(
            f"{path} is not the list of images ({type(error).__name__}: {error}): expected ImagePath and "
            "ImageViewPosition for each study"
        ) from error


def _paired(entry: dict[str, Any]) -> list[tuple[str, str]]:
    names = _list(entry["ImagePath"])
    views = _list(entry.get("ImageViewPosition") or [""] * len(names))
    if len(names) != len(views):
        raise ValueError(f"{len(names)} images and {len(views)} projections of one study")
    return [(str(name), str(view or "")) for name, view in zip(names, views, strict=True)]


def _list(value: Any) -> list[Any]:
    """A list, also where it is the text of one."""
    if isinstance(value, str):
        found = ast.literal_eval(value) if value.strip().startswith("[") else [value]
        return list(found)
    return list(value)


def _first(value: Any) -> str | None:
    """Of a cell that may hold the text of a list, such as ['M'], its first value."""
    if not isinstance(value, str):
        return None
    try:
        found = _list(value)
    except (ValueError, SyntaxError):
        return value
    return str(found[0]) if found else None


SOURCE = Source(
    records,
    Options,
    signs=(("metadata/train_metadata.csv", "deid_png*"),),
    expected={"records": 273_004},
    traits=Traits(projections=("PA", "AP"), population="rexgradient"),
)
