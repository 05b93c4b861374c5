"""CheXpert Plus: the images of CheXpert with their reports, in sections, and the patients' demographics.

``df_chexpert_plus_240401.csv`` has a row an image. Its paths end in .jpg whatever was downloaded: the images are looked
for below PNG/ (also in its zip files, which are read in place), then below DICOM/, then as the JPG files of CheXpert
v1.0; ``images`` takes one of the three. A tree has one kind of them, since the kinds differ in tone.

``split_by`` official: train, and the part valid as val; there is no test. patient: 80/10/10 by a hash of the patient.
Labels come from CheXbert's file for the impression, the findings or the report, or from the tables of CheXpert v1.0. An
image stays without text and without labels. ``patient_report_date_order`` is not used: it is no chronology.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field

from imitate.data.demographics import demographics, race_group
from imitate.data.lazy import np, pd
from imitate.data.records import Excluded, Record
from imitate.data.reports import cell_text
from imitate.data.tables import MISSING, column_values, find, hashed_split, read_table, split_name
from imitate.errors import UserError
from imitate.names import CHEXPERT
from imitate.sources import Options, Source, Traits
from imitate.sources.conventions import (
    NOT_ARCHIVE,
    UNCERTAIN,
    Archives,
    Uncertain,
    check_header,
    first_file,
    once,
    rows_of,
    settle,
)

TABLE = "df_chexpert_plus_240401.csv"
HEADER = (
    *("path_to_image", "path_to_dcm", "frontal_lateral", "ap_pa", "deid_patient_id", "patient_report_date_order"),
    *("report", "section_narrative", "section_clinical_history", "section_history", "section_comparison"),
    *("section_technique", "section_procedure_comments", "section_findings", "section_impression"),
    *("section_end_of_impression", "section_summary", "section_accession_number", "age", "sex", "race", "ethnicity"),
    *("interpreter_needed", "insurance_type", "recent_bmi", "deceased", "split"),
)
REQUIRED = (
    *("path_to_image", "frontal_lateral", "ap_pa", "deid_patient_id", "section_findings", "section_impression", "age"),
    *("sex", "race", "split"),
)
OPTIONAL = ("ethnicity", "insurance_type")
PLACE = re.compile(r"((?:train|valid)/(patient\d+)/study\d+)/[^/]+(?=\.\w+$)")
MEMBER = re.compile(r"(?:^|/)((?:train|valid)/patient\d+/study\d+/[^/]+)\.png$")
Kind = Literal["png", "dicom", "jpg"]
KINDS: dict[Kind, tuple[str, tuple[str, ...]]] = {  # suffix, folders that hold train and valid
    "png": (".png", ("PNG", "PNG/PNG", ".")),
    "dicom": (".dcm", ("DICOM/Uncompressed", "DICOM/Compressed", "DICOM", ".")),
    "jpg": (".jpg", (".", "CheXpert-v1.0", "CheXpert-v1.0-small")),
}


class ChexpertPlusOptions(Options):
    images: Kind | None = Field(None, description="which images to read; default: the first kind that is present")
    split_by: Literal["official", "patient"] = Field(
        "official", description="official: train and valid, no test; patient: 80/10/10 by a hash of the patient"
    )
    labels: Literal["impression", "findings", "report", "chexpert", "none"] = Field(
        "impression",
        description="the text that CheXbert read; chexpert: train.csv and valid.csv of CheXpert v1.0, beside the table",
    )
    uncertain: Uncertain = Field("unknown", description=UNCERTAIN)


def records(options: ChexpertPlusOptions) -> Iterator[Record | Excluded]:
    path = find(options.raw, TABLE)
    table = read_table(path, REQUIRED, text=True)
    check_header(path, list(table.columns), HEADER)
    table, again = once(table[[name for name in HEADER if name in table]], "path_to_image", path=path)
    yield from again
    places = table["path_to_image"].fillna("").str.extract(PLACE)
    odd = places[0].isna() | (places[1] != table["deid_patient_id"])
    if odd.any():
        first = table["path_to_image"][odd].iloc[0]
        raise UserError(
            f"{path}: path_to_image {first!r} is not <part>/<deid_patient_id>/studyN/<file>: download it again"
        )
    keys = table["path_to_image"].str.rsplit(".", n=1).str[0]
    labels = _labels(options)
    tree = _Tree.of(options, keys)
    rows = rows_of(table[[name for name in (*REQUIRED, *OPTIONAL) if name in table]])
    for key, (study, patient), row in zip(keys, places.to_numpy(), rows, strict=True):
        split = hashed_split(patient) if options.split_by == "patient" else _split(row["split"], path)
        found = tree.image(key)
        if split is None or isinstance(found, str):
            yield Excluded(key, "no split" if split is None else str(found))
            continue
        yield _record(row, key, (patient, study, split), found, None if labels is None else labels.get(key))


def _record(
    row: dict[str, Any], key: str, ids: tuple[str, str, str], found: tuple[Path, str], labels: list[float] | None
) -> Record:
    patient, study, split = ids
    findings, impression = (_section(row[f"section_{name}"]) for name in ("findings", "impression"))
    return Record(
        image_id=key,
        image=found[0],
        member=found[1],
        patient=patient,
        study=study,
        split=split,
        projection=_projection(row),
        findings=findings,
        impression=impression,
        language="en" if findings or impression else "",
        labels=None if labels is None else dict(zip(CHEXPERT, labels, strict=True)),
        **demographics(
            sex=row["sex"],
            age=row["age"],
            race=race_group([row["race"]]),
            ethnicity=row.get("ethnicity"),
            insurance=row.get("insurance_type"),
        ),
    )


def _section(cell: Any) -> str | None:
    r"""A cell holds its line breaks as the two characters ``\n``, and at times nothing else."""
    return cell_text(cell.replace("\\n", "\n")) if isinstance(cell, str) else None


def _projection(row: dict[str, Any]) -> str:
    """PA and AP where said; 17 frontal images are called LL or RL, as in CheXpert."""
    side, frontal = (str(row[name] or "").strip().upper() for name in ("frontal_lateral", "ap_pa"))
    return frontal if side == "FRONTAL" and frontal in ("PA", "AP") else side


def _split(word: Any, path: Path) -> str | None:
    try:
        return split_name(word)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


class _Tree(NamedTuple):
    """Where the images of one kind are."""

    folders: tuple[Path, ...]
    suffix: str
    archives: Archives

    @classmethod
    def of(cls, options: ChexpertPlusOptions, keys: pd.Series) -> _Tree:
        """UserError where no image of the table is there."""
        raw, tried = options.raw, [options.images] if options.images else list(KINDS)
        for kind in tried:
            suffix, names = KINDS[kind]
            bases = [raw / name for name in names]
            folders = tuple(base for base in bases if (base / "train").is_dir() or (base / "valid").is_dir())
            zips = [*raw.glob("*.zip"), *(raw / "PNG").glob("*.zip")] if kind == "png" else []
            tree = cls(folders, suffix, Archives(zips, MEMBER))
            if tree.archives.places or any(tree.file(key) for key in keys):
                return tree
        raise UserError(
            f"{raw} has no image of {TABLE} as {' or '.join(tried)}: put PNG, DICOM or the train and valid of CheXpert "
            "beside it"
        )

    def file(self, key: str) -> Path | None:
        return first_file(folder / f"{key}{self.suffix}" for folder in self.folders)

    def image(self, key: str) -> tuple[Path, str] | str:
        """The file and, of an archive, the member; or why there is none."""
        if file := self.file(key):
            return file, ""
        if key in self.archives.places:
            return self.archives.places[key]
        names = [folder / f"{key}{self.suffix}" for folder in self.folders]
        if any(any(name.parent.glob(f".azDownload-*-{name.name}")) for name in names):
            return "partial download"
        return NOT_ARCHIVE if self.archives.damaged else MISSING


def _labels(options: ChexpertPlusOptions) -> dict[str, list[float]] | None:
    """One value for each of CHEXPERT, by the path without its suffix; None where none are wanted."""
    if options.labels == "none":
        return None
    if options.labels == "chexpert":
        tables = [_official(find(options.raw, f"{part}.csv")) for part in ("train", "valid")]
        table = pd.concat(tables)
    else:
        table = _labelled(find(options.raw, f"chexbert_labels/{options.labels}_fixed.json"))
        table = table[table.notna().any(axis=1)]  # a text that is not there has nulls alone
    return dict(zip(table.index, settle(table, options.uncertain).to_numpy().tolist(), strict=True))


def _official(path: Path) -> pd.DataFrame:
    table = read_table(path, ["Path", *CHEXPERT], text=True)
    values = {name: column_values(table, name, path=path, allowed=(1, 0, -1)) for name in CHEXPERT}
    keys = table["Path"].str.replace(r"^[^/]+/", "", regex=True).str.rsplit(".", n=1).str[0]
    return pd.DataFrame(values).set_axis(keys)


def _labelled(path: Path) -> pd.DataFrame:
    """JSON Lines: path_to_image and 1, 0, -1 or null for each class."""
    keys, rows = [], []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            keys.append(str(entry["path_to_image"]).rsplit(".", 1)[0])
            rows.append([np.nan if entry[name] is None else float(entry[name]) for name in CHEXPERT])
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise UserError(
                f"{path}, line {number}: not path_to_image and the 14 labels ({type(error).__name__}: {error}): "
                "download it again"
            ) from error
    table = pd.DataFrame(rows, index=keys, columns=list(CHEXPERT), dtype=float)
    strange = table.notna() & ~table.isin([1, 0, -1])
    if strange.any(axis=None):
        raise UserError(f"{path}: {int(strange.sum().sum())} labels are not 1, 0, -1 or null: download it again")
    return table


SOURCE = Source(
    records,
    ChexpertPlusOptions,
    CHEXPERT,
    signs=((TABLE,),),
    expected={
        "records": 223_462,
        "images in train": 190_869,
        "images in val": 202,
        "LATERAL images in train": 32_359,
        "LATERAL images in val": 32,
    },
    traits=lambda options: Traits(
        population="chexpert",
        uncertainty={"mixed": UNCERTAIN.rpartition(": ")[2]}.get(options.uncertain, options.uncertain),
        test_sets=("test",) if options.split_by == "patient" else (),
        projections=("PA", "AP", "FRONTAL"),
    ),
)
