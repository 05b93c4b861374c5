"""CheXpert: the five competition findings, and the retrieval sets 5x200 and 8x200.

Uncertain labels count as published: positive for Atelectasis, Edema and Pleural Effusion, negative for the others;
blank is negative. Test is the official valid.csv. Validation has 5,000 images, a tenth of a tree below 50,000.
clean: drawn by patient among the frontal images, laterals follow their patient, patients of the retrieval sets are
excluded. paper: drawn by image from all projections, as published (without its bug that left the drawn rows in train),
only the 5x200 images excluded. The default selection is the frontal images, in both.

5x200 comes from chexpert_5x200.csv beside the tables (``Path``, and ``Report Impression`` as text where it has it).
Without it, it is drawn anew by the published rule, which shares about a third of the images: split "5x200-regen".
8x200 comes from chexpert_8x200.csv alone (``Path``, ``Variable``: its one class of eight). Four of its classes are
unknown in every other split. groundtruth.csv, the radiologists' labels of the test part, makes the split "consensus",
one frontal image a study; it can come without, as it was released years later.

Sex and age are those of the tables, in which 90 means 90 and more. Race and ethnicity come from
"CHEXPERT DEMO.xlsx", where it is beside the tables.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from pydantic import Field

from imitate.data.demographics import as_category, demographics, persons, race_group
from imitate.data.lazy import pd
from imitate.data.records import Excluded, Record
from imitate.data.reports import cell_text
from imitate.data.splits import draw_patients, require_splits
from imitate.data.tables import column_values, find, present, read_table, require_unique
from imitate.errors import UserError
from imitate.names import CHEXPERT, Mode
from imitate.sources import Options, Source, Traits

UNCERTAIN = {"Atelectasis": 1.0, "Cardiomegaly": 0.0, "Consolidation": 0.0, "Edema": 1.0, "Pleural Effusion": 1.0}
CLASSES = tuple(UNCERTAIN)
OTHERS = tuple(name for name in CHEXPERT if name not in (*CLASSES, "No Finding"))
EIGHT = (
    *("No Finding", "Cardiomegaly", "Edema", "Pneumonia", "Atelectasis"),
    *("Pneumothorax", "Pleural Effusion", "Fracture"),
)
REGENERATED = "5x200-regen"
LISTED, EXCLUDED = "in a retrieval set", "patient of a retrieval set"
FRONTAL = ("PA", "AP", "FRONTAL")
DEMOGRAPHICS = "CHEXPERT DEMO.xlsx"
PEOPLE = {"Sex": "sex", "Age": "age"}
log = logging.getLogger(__name__)


class ChexpertOptions(Options):
    mode: Mode = Field("clean", description="paper: validation by image from all projections, as published")


def records(options: ChexpertOptions) -> Iterator[Record | Excluded]:
    raw, mode = options.raw, options.mode
    train, valid = (_table(find(raw, f"{part}.csv")) for part in ("train", "valid"))
    find(raw, "train")
    sets = {name: found for name in ("5x200", "8x200") if (found := _official(raw, name, train)) is not None}
    if "5x200" not in sets:
        sets = {REGENERATED: _regenerated(train)} | sets
    train["split"], valid["split"] = _splits(train, sets, mode), "test"
    require_splits([*train["split"][train["frontal"]], *valid["split"][valid["frontal"]]], where=raw)
    yield from _records(raw, train[train["split"] != LISTED])
    yield from _records(raw, valid)
    for name, rows in sets.items():
        yield from _records(raw, rows.assign(split=name), prefix=f"{name}/")
    yield from _records(raw, _consensus(raw))


def _table(path: Path) -> pd.DataFrame:
    table = read_table(path, ["Path", "Frontal/Lateral", "AP/PA", *CLASSES, *OTHERS], text=True)
    for column in (*CLASSES, *OTHERS):
        table[column] = column_values(table, column, path=path, allowed=(1, 0, -1))
    table["Path"] = _below_root(table["Path"])
    require_unique(table["Path"], path=path)
    table["patient"] = table["Path"].str.extract(r"/(patient\d+)/study\d+/", expand=False)
    if table["patient"].isna().any():
        odd = table["Path"][table["patient"].isna()].iloc[0]
        raise UserError(f"{path}: Path {odd!r} is not <archive>/<part>/patientN/studyN/<file>")
    side, frontal = (table[column].fillna("").str.strip().str.upper() for column in ("Frontal/Lateral", "AP/PA"))
    table["projection"] = side.mask((side == "FRONTAL") & frontal.isin(("PA", "AP")), frontal)
    table["frontal"] = side == "FRONTAL"
    return table


def _races(raw: Path) -> dict[str, dict[str, str]]:
    """Of each patient; none without the table."""
    if not (raw / DEMOGRAPHICS).is_file():
        return {}
    table = read_table(raw / DEMOGRAPHICS, ["PATIENT", "PRIMARY_RACE"], optional=["ETHNICITY"], text=True)
    table["ETHNICITY"] = table.get("ETHNICITY", "")
    rows = table[["PATIENT", "PRIMARY_RACE", "ETHNICITY"]].itertuples(index=False, name=None)
    return {
        as_category(patient): {"race": race_group([race]), "race_recorded": race, "ethnicity": ethnicity}
        for patient, race, ethnicity in rows
    }


def _consensus(raw: Path) -> pd.DataFrame:
    """The first frontal image of each study that radiologists labelled; none without their table."""
    path = raw / "groundtruth.csv"
    if not path.is_file():
        return pd.DataFrame({"Path": [], **{name: [] for name in CLASSES}})
    table = read_table(path, ["Study", *CLASSES], text=True)
    for column in CLASSES:
        table[column] = column_values(table, column, path=path, allowed=(1, 0))
    studies = _below_root(table["Study"])
    require_unique(studies, path=path)
    table["patient"] = studies.str.extract(r"^[^/]+/(patient\d+)/study\d+$", expand=False)
    if table["patient"].isna().any():
        odd = table["Study"][table["patient"].isna()].iloc[0]
        raise UserError(f"{path}: Study {odd!r} is not <archive>/<part>/patientN/studyN")
    files = [next(iter(sorted((raw / study).glob("view*_frontal.*"))), Path("view1_frontal.jpg")) for study in studies]
    table["Path"] = [f"{study}/{file.name}" for study, file in zip(studies, files, strict=True)]
    return table.assign(projection="FRONTAL", split="consensus")


def _below_root(paths: pd.Series) -> pd.Series:
    """Without the archive's name, which differs between the original and the small release."""
    return paths.str.replace(r"^[^/]+/", "", regex=True)


def _official(raw: Path, name: str, train: pd.DataFrame) -> pd.DataFrame | None:
    """The rows of a list that the user put beside the tables, with its impressions; None where there is none."""
    path = raw / f"chexpert_{name}.csv"
    if not path.is_file():
        return None
    table = read_table(path, ["Path", "Variable"] if name == "8x200" else ["Path"], text=True)
    listed = pd.DataFrame({"Path": _below_root(table["Path"])})
    if name == "8x200":
        listed["only"] = table["Variable"].str.strip()
        strange = table["Variable"][~listed["only"].isin(EIGHT)]
        if len(strange):
            raise UserError(
                f"{path}: Variable {strange.iloc[0]!r} is none of {', '.join(EIGHT)}: download the list again"
            )
    if "Report Impression" in table:
        listed["impression"] = table["Report Impression"].map(cell_text)
    require_unique(listed["Path"], path=path)
    rows = listed.merge(train, on="Path")
    if len(rows) < len(listed):
        strange = listed["Path"][~listed["Path"].isin(train["Path"])]
        raise UserError(f"{path} lists {len(strange)} images that train.csv lacks, {strange.iloc[0]} first")
    return rows


def _regenerated(train: pd.DataFrame) -> pd.DataFrame:
    """200 frontal images a class that show it alone, drawn with seed 0.

    At most half of those that qualify, so that a small tree keeps images to train on; the full tree has 537 or more.
    """
    labels = train[[*CLASSES, *OTHERS]].fillna(0)
    alone = train["frontal"] & ((labels != 0).sum(axis=1) == 1)
    drawn = []
    for name in CLASSES:
        pool = train[alone & (labels[name] == 1)]
        drawn.append(pool.sample(n=min(200, len(pool) // 2), random_state=0))
    counts = {name: len(rows) for name, rows in zip(CLASSES, drawn, strict=True)}
    log.info("no chexpert_5x200.csv: selected %s as split %s", counts, REGENERATED)
    return pd.concat(drawn)


def _splits(train: pd.DataFrame, sets: dict[str, pd.DataFrame], mode: Mode) -> pd.Series:
    """train, val, LISTED for images that a retrieval set yields, EXCLUDED for other images of their patients."""
    splits = pd.Series("train", index=train.index)
    listed = [rows for name, rows in sets.items() if mode == "clean" or name.startswith("5x200")]
    splits[train["Path"].isin(pd.concat(listed)["Path"])] = LISTED
    if mode == "clean":
        patients = train["patient"].isin(pd.concat(listed)["patient"])
        splits[patients & (splits == "train")] = EXCLUDED
        pool = train[(splits == "train") & train["frontal"]]
        drawn = pool["patient"][draw_patients(pool["patient"].to_list(), images=_validation(len(pool)))]
        splits[train["patient"].isin(drawn)] = "val"
    else:
        pool = train[splits == "train"]
        splits[pool.sample(n=_validation(len(pool)), random_state=0).index] = "val"
    return splits


def _validation(images: int) -> int:
    return min(5_000, max(1, images // 10), images)


def _records(raw: Path, rows: pd.DataFrame, *, prefix: str = "") -> Iterator[Record | Excluded]:
    labels = rows[list(CLASSES)].fillna(0.0)
    for name, value in UNCERTAIN.items():
        labels[name] = labels[name].replace(-1.0, value)
    races, people = _races(raw), persons(rows, PEOPLE)
    rows = rows.reindex(columns=["Path", "patient", "split", "projection", "impression", "only"])
    rows = rows.astype(object).where(rows.notna(), None)
    every = zip(rows.itertuples(index=False, name=None), labels.to_numpy().tolist(), people, strict=True)
    for row, values, person in every:
        path, patient, split, projection, impression, only = row
        if split == EXCLUDED:
            yield Excluded(path, EXCLUDED)
            continue
        given = dict(zip(CLASSES, values, strict=True))
        yield present(
            Record(
                image_id=prefix + path,
                image=raw / path,
                patient=patient,
                study=path.rsplit("/", 1)[0],
                split=split,
                projection=projection,
                impression=impression,
                language="en" if impression else "",
                labels={name: float(name == only) for name in EIGHT} if only else given,
                **demographics(**person, **races.get(patient, {})),
            ),
            root=raw,
        )


SOURCE = Source(
    records,
    ChexpertOptions,
    (*CLASSES, *(name for name in EIGHT if name not in CLASSES)),
    signs=(("train.csv", "valid.csv"),),
    expected={"images in test": 202, "LATERAL images in test": 32},
    traits=Traits(
        uncertainty="positive for Atelectasis, Edema and Pleural Effusion, negative for Cardiomegaly and Consolidation",
        test_sets=("test", "consensus", "5x200", REGENERATED, "8x200"),
        projections=FRONTAL,
        population="chexpert",
    ),
)
