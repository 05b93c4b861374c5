"""Names planted in an archive's reports, tables, headers and file names: nothing that is shown or shared has them."""

import logging
import shutil
from pathlib import Path

import pydicom
import yaml
from folders import write_folder
from PIL import Image
from recipes import tiny_recipe

from imitate import cli
from imitate.data.corpus import Corpus
from imitate.synthetic.layouts import LAYOUTS

WORD, PATIENT, FILE = "Zyxwordle", "Zyxpatient", "Zyxfile"  # of one report, of every table row, of every file name


def archive(root: Path) -> Path:
    """A hospital's table over the pictures and texts of a small prepared folder."""
    folder = write_folder(root / "folder", n=260)
    data = Corpus.open(folder)
    table, images = data.table.assign(**data.reports()), data.images[:]
    (root / "raw").mkdir()
    table["image_path"] = [f"{FILE}{number}.png" for number in range(len(table))]
    table["patient"] = PATIENT + table["patient"]
    first = table.index[(table["split"] == "train") & table["findings"].notna()][0]
    table.loc[first, "findings"] += f" {WORD}"
    for name, pixels in zip(table["image_path"], images, strict=True):
        Image.fromarray(pixels).save(root / "raw" / name)
    table[["image_path", "patient", "split", "findings", "impression"]].to_csv(root / "raw/table.csv", index=False)
    return root / "raw"


def imitate(*arguments: object) -> None:
    assert cli.main([str(argument) for argument in arguments]) == 0


def found(where: Path, *names: str) -> list[str]:
    """The files below ``where`` that hold one of the names, in whatever case, or are called so."""
    files = [path for path in sorted(where.rglob("*")) if path.is_file()] if where.is_dir() else [where]
    assert files
    texts = [(path, path.name.encode() + b"\n" + path.read_bytes().lower()) for path in files]
    return [path.name for path, text in texts if any(name.lower().encode() in text.lower() for name in names)]


def test_a_full_run_shows_and_shares_no_identifier(tmp_path, caplog, capsys):
    caplog.set_level(logging.INFO)
    raw, out = archive(tmp_path), tmp_path / "out"
    out.mkdir()
    (out / "recipe.yaml").write_text(yaml.safe_dump(tiny_recipe(epochs=1).model_dump(mode="json")))
    imitate("prepare", "table", "--raw", raw, "--out", out / "data", "--size", 36, "--workers", 1)
    imitate("pretrain", out / "recipe.yaml", "--data", out / "data", "--out", out / "run")
    results = out / "results.json"
    imitate(
        "evaluate",
        "retrieval",
        "--model",
        out / "run",
        "--data",
        out / "data",
        "--out",
        results,
        "--settings",
        "split=test",
    )
    imitate("export", "--model", out / "run", "--to", out / "export")
    imitate("report", results, "--out", out / "report.html", "--data", out / "data")
    names = (WORD, PATIENT, FILE)
    data = Corpus.open(out / "data")  # where they belong, and nowhere else
    assert any(WORD in str(text) for text in data.text("report")) and any(
        PATIENT in each for each in data.table["patient"]
    )
    for shown in ("run", "export", "results.json", "report.html"):
        assert not found(out / shown, *names), f"in {shown}"
    words = caplog.text + "".join(capsys.readouterr())
    assert "finished:" in words and not any(name.lower() in words.lower() for name in names)


def test_headers_of_dicom_files_stay_behind(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    LAYOUTS["rsna"](tmp_path / "raw", n=20, seed=0, size=64)
    for path in (tmp_path / "raw/stage_2_train_images").iterdir():
        data = pydicom.dcmread(path)
        data.PatientName, data.InstitutionName, data.PatientBirthDate = f"{WORD}^A", f"{PATIENT} Hospital", "19010203"
        data.save_as(path)
    shutil.copy(path, tmp_path / "raw" / "broken.dcm")
    path.write_bytes(path.read_bytes()[:-900])  # one of them damaged, so that its reason is reported too
    imitate("prepare", "rsna", "--raw", tmp_path / "raw", "--out", tmp_path / "out", "--size", 36, "--workers", 1)
    assert found(tmp_path / "raw", WORD) and not found(tmp_path / "out", WORD, PATIENT, "19010203")
    assert "1  excluded: damaged" in caplog.text and WORD not in caplog.text
