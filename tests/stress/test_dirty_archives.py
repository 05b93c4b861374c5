"""Archives of every source with faults in them: no crash, no hang, each fault reported, good records untouched."""

import shutil
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pandas as pd
import pytest
from corruption import FATAL, POSSIBLE, TABLE_FAULTS, edit_table
from processes import HANG

from imitate.commands.prepare import prepare
from imitate.data.corpus import Corpus
from imitate.data.records import Record
from imitate.doctor.prepared import excluded
from imitate.errors import UserError
from imitate.sources import find_source
from imitate.synthetic.layouts import LAYOUTS

SIZE, IMAGES = 24, 30
SOURCES = [*LAYOUTS, "open-i xml"]
FAULTS = FATAL | POSSIBLE


class Tree(NamedTuple):
    source: str
    raw: Path
    clean: pd.DataFrame  # what is prepared without faults, by image id, ``pixels`` among the columns
    dropped: int


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tree]:
    folder = tmp_path_factory.mktemp("trees")
    return {name: _tree(name, folder / name.replace(" ", "-")) for name in SOURCES}


def _tree(name: str, folder: Path) -> Tree:
    source = name.split()[0]
    LAYOUTS[source](folder / "raw", n=IMAGES, seed=3, size=64)
    if name.endswith("xml"):
        for table in ("indiana_reports.csv", "indiana_projections.csv"):
            (folder / "raw" / table).unlink()
    rows, dropped = _prepared(source, folder / "raw", folder / "out")
    return Tree(source, folder / "raw", rows, len(dropped))


def _prepared(source: Any, raw: Path, out: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows with pixels, and what is excluded, within the time that a hang would take."""
    with _no_longer_than(HANG):
        prepare(source, raw=raw, out=out, size=SIZE, workers=1)
    data = Corpus.open(out)
    rows = data.table.assign(**data.reports(), pixels=[image.tobytes() for image in data.images]).set_index("image_id")
    assert rows.index.is_unique
    return rows, pd.DataFrame(excluded(out), columns=["source", "reason"])


@contextmanager
def _no_longer_than(seconds: int) -> Iterator[None]:
    def hung(*_: object) -> None:
        raise TimeoutError(f"still not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, hung)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("rounds", [1, pytest.param(17, marks=pytest.mark.stress)])
def test_damaged_images_are_dropped_and_the_others_untouched(rounds, trees, tmp_path, write_counts):
    damaged, dropped, per_fault = Counter[str](), Counter[str](), Counter[str]()
    for name, tree in trees.items():
        for number in range(rounds):
            random, raw = Random(f"{name} {number}"), tmp_path / "raw"
            shutil.copytree(tree.raw, raw)
            source = find_source(tree.source)
            options = source.Options.model_validate({"raw": raw})
            default = source.traits_of(options).projections
            kept = [
                record
                for record in source.records(options)
                if isinstance(record, Record)
                and not record.member  # the others share an archive
                and (default is None or record.projection in default)
            ]
            hit = {record.image_id: random.choice([*FAULTS]) for record in random.sample(kept, len(kept) // 2)}
            paths = {record.image_id: record.image for record in kept}
            for image_id, fault in hit.items():
                FAULTS[fault](paths[image_id], random)
            rows, reported = _prepared(tree.source, raw, tmp_path / "out")
            assert len(reported) == tree.dropped + len(tree.clean) - len(rows) and reported["reason"].all()
            _check(tree, hit, rows, {str(path) for path in reported["source"]}, paths)
            damaged[name] += len(hit)
            dropped[name] += len(tree.clean) - len(rows)
            per_fault.update(hit.values())
            shutil.rmtree(raw)
            shutil.rmtree(tmp_path / "out")
    assert sum(damaged.values()) >= 100 * rounds and set(per_fault) == set(FAULTS)
    write_counts("dirty_images", damaged=dict(damaged), dropped=dict(dropped), faults=dict(per_fault))


def _check(tree: Tree, hit: dict[str, str], rows: pd.DataFrame, reported: set[str], paths: dict[str, Path]) -> None:
    missing = tree.clean.index.difference(rows.index)
    assert set(missing) <= set(hit), "a good record is missing"
    assert {image_id for image_id, fault in hit.items() if fault in FATAL} <= set(missing), "prepared out of nothing"
    for image_id in missing:
        names = {image_id, str(paths[image_id]), paths[image_id].stem, str(paths[image_id].name)}
        in_table = tree.source == "table" and any("row" in source for source in reported)
        assert names & reported or in_table, f"{image_id} is not listed as excluded"
    good = [image_id for image_id in tree.clean.index if image_id not in hit]
    pd.testing.assert_frame_equal(rows.loc[good], tree.clean.loc[good])


@pytest.mark.parametrize("rounds", [1, pytest.param(4, marks=pytest.mark.stress)])
def test_damaged_tables_end_in_one_line_or_in_good_rows(rounds, trees, tmp_path, write_counts):
    """Each source meets every fault in the long run of this test, and every third one in the short run."""
    step = 3 if rounds == 1 else 1
    outcomes: dict[str, Counter[str]] = {fault: Counter() for fault in TABLE_FAULTS}
    tables_of = {name: _tables(tree.raw) for name, tree in trees.items() if _tables(tree.raw)}
    for place, (name, tables) in enumerate(tables_of.items()):
        tree = trees[name]
        for number in range(rounds):
            for fault, edit in islice(TABLE_FAULTS.items(), place % step, None, step):
                random, raw = Random(f"{name} {number} {fault}"), tmp_path / "raw"
                shutil.copytree(tree.raw, raw)
                edit_table(raw / random.choice(tables).relative_to(tree.raw), edit, random)
                outcomes[fault][_outcome(tree, raw, tmp_path / "out")] += 1
                shutil.rmtree(raw)
                shutil.rmtree(tmp_path / "out", ignore_errors=True)
    assert all(sum(each.values()) >= rounds * (len(tables_of) // step) for each in outcomes.values())
    write_counts("dirty_tables", outcomes={fault: dict(each) for fault, each in outcomes.items()})


def _tables(raw: Path) -> list[Path]:
    """None of an archive whose tables are JSON."""
    return sorted(path for suffix in (".csv", ".gz", ".txt") for path in raw.rglob(f"*{suffix}"))


def _outcome(tree: Tree, raw: Path, out: Path) -> str:
    try:
        rows, _ = _prepared(tree.source, raw, out)
    except UserError as error:
        assert len(str(error)) <= 1000 and "\n" not in str(error)
        return "refused in one line"
    known = rows.index.intersection(tree.clean.index)
    assert (rows.loc[known, "pixels"] == tree.clean.loc[known, "pixels"]).all()
    return "prepared"


PATH_COLUMNS = {
    "open-i": ("indiana_projections.csv", "filename"),
    "mimic-cxr": ("mimic-cxr-2.0.0-metadata.csv.gz", "dicom_id"),
    "table": ("table.csv", "image_path"),
    "chexpert": ("train.csv", "Path"),
    "rsna": ("stage_2_train_labels.csv", "patientId"),
    "chestxray14": ("Data_Entry_2017_v2020.csv", "Image Index"),
    "siim": ("train-rle.csv", "ImageId"),
    "object-cxr": ("train.csv", "image_name"),
    "brax": ("master_spreadsheet_update.csv", "PngPath"),
    "chexpert-plus": ("df_chexpert_plus_240401.csv", "path_to_image"),
    "nih-google": ("four_findings_expert_labels/test_labels.csv", "Image Index"),
    "padchest": ("PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv", "ImageID"),
    "chexlocalize": ("CheXpert/val_labels.csv", "Path"),
    "ms-cxr": ("MS_CXR_Local_Alignment_v1.1.0.csv", "path"),
}
OPENED: list[str] = []


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and isinstance(arguments[0], str):
        OPENED.append(arguments[0])


@pytest.mark.parametrize("source", [*PATH_COLUMNS, "covidx"])
def test_no_path_of_a_table_leads_out_of_the_archive(source, trees, tmp_path):
    raw, outside = tmp_path / "a" / "raw", tmp_path / "secret"
    shutil.copytree(trees[source].raw, raw)
    picture = next(path for path in sorted(raw.rglob("*")) if path.suffix in {".png", ".jpg", ".dcm"})
    outside.mkdir()
    for number in range(9):
        for suffix in (".png", ".jpg", ".dcm", ".dcm.png"):
            shutil.copy(picture, outside / f"{number}{suffix}")
    paths = [f"{'../' * up}secret/{up}{picture.suffix}" for up in range(1, 9)]
    paths += [str(outside / f"0{picture.suffix}"), "x" * 5000, "..", "."]
    if source in {"mimic-cxr", "rsna", "siim"}:  # whose tables omit the suffix
        paths = [path.removesuffix(picture.suffix) for path in paths]
    _plant(source, raw, paths)
    sys.addaudithook(_watch)
    OPENED.clear()
    try:
        rows, _ = _prepared(source, raw, tmp_path / "out")
        assert len(rows) and not any("secret" in image_id for image_id in rows.index)
    except UserError as error:
        assert "secret" in str(error) or ".." in str(error)
    assert OPENED and not [path for path in OPENED if "secret" in path]


def _plant(source: str, raw: Path, paths: list[str]) -> None:
    if source == "covidx":
        path = raw / "train_COVIDx9A.txt"
        lines = path.read_text().splitlines()
        for place, hostile in enumerate(paths):
            patient, _, *rest = lines[place].split()
            lines[place] = " ".join((patient, hostile, *rest))
        path.write_text("\n".join(lines))
        return
    name, column = PATH_COLUMNS[source]
    table = pd.read_csv(raw / name, dtype=str, keep_default_na=False, skipinitialspace=True)
    if source == "chexpert":
        paths = [f"CheXpert/train/patient00001/study1/{path}" for path in paths]
    table.loc[table.index[: len(paths)], column] = paths[: len(table)]
    table.to_csv(raw / name, index=False)
