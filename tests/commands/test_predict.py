"""Through the command line, as people ask: tables, arrays and pictures in files or on standard output."""

import io
import json
import logging
import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from archives import write_dicom
from PIL import Image
from runs import write_run

from imitate.cli import main
from imitate.data.corpus import Corpus
from imitate.inference.predictor import Predictor, load
from imitate.inference.tables import overlay


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("predict")
    write_run(root)
    films = root / "films"
    films.mkdir()
    pixels = np.array(Corpus.open(root / "data").images[:3])
    Image.fromarray(pixels[0]).resize((90, 120)).save(films / "a.png")
    Image.fromarray(pixels[1]).save(films / "b.jpg")
    write_dicom(films / "c", pixels[2])
    (films / ".hidden").write_text("not looked at")
    (films / "report.txt").write_text("passed over")
    write_dicom(films / "ct.dcm", pixels[2], Modality="CT")
    return root


@pytest.fixture(scope="module")
def predictor(root) -> Predictor:
    return load(root / "run")


@pytest.fixture
def ask(root):
    return lambda action, *flags: main(["predict", action, "--model", str(root / "run"), *map(str, flags)])


def films(root: Path) -> list[Path]:
    return [root / "films" / name for name in ("a.png", "b.jpg", "c")]


@pytest.mark.parametrize("out", ["-", "deep/table.csv", "table.json"])
def test_classify_writes_one_row_an_image(root, predictor, ask, tmp_path, capfdbinary, out):
    flags = ("--prompts", "Effusion=left effusion|clear", "Edema=edema", "--temperature", "0.2", "--branch", "findings")
    assert ask("classify", "--images", root / "films", *flags, "--out", out if out == "-" else tmp_path / out) == 0
    shown = capfdbinary.readouterr().out
    assert bool(shown) == (out == "-")
    written = io.BytesIO(shown) if out == "-" else tmp_path / out
    table = pd.read_json(written, orient="records") if out.endswith(".json") else pd.read_csv(written)
    assert table["image"].tolist() == [str(path) for path in films(root)]
    prompts = {"Effusion": {"positive": "left effusion", "negative": "clear"}, "Edema": "edema"}
    expected = predictor.classify(films(root), prompts, branch="findings", temperature=0.2)
    assert list(table.columns) == ["image", "Effusion", "Edema", "calibration"]
    assert set(table["calibration"]) == {"uncalibrated"}
    assert np.allclose(table[["Effusion", "Edema"]], expected, atol=1e-5)


def test_classify_without_prompts_asks_for_the_built_in_classes(root, predictor, ask, capsys):
    assert ask("classify", "--images", films(root)[0]) == 0
    table = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert table.columns[1:-1].tolist() == predictor.classify(films(root)[0]).columns.tolist()


def test_retrieve_ranks_the_images_of_texts_and_the_reports_of_images(root, predictor, ask, tmp_path):
    out, index = tmp_path / "found.json", root / "data"
    flags = ("--index", index, "--branch", "impression", "--k", "2", "--out", out)
    assert ask("retrieve", "--text", "left effusion", "clear effusion", "--images", films(root)[1], *flags) == 0
    rows = json.loads(out.read_text())
    assert [row["rank"] for row in rows] == [1, 2] * 3
    assert [row["query"] for row in rows[::2]] == ["left effusion", "clear effusion", str(films(root)[1])]
    images = predictor.retrieve(text="left effusion", index=index, k=2, branch="impression")
    reports = predictor.retrieve(image=films(root)[1], index=index, k=2, branch="impression")
    assert [row["image_id"] for row in rows[:2]] == images["image_id"].tolist()
    assert [row["impression"] for row in rows[4:]] == reports["impression"].tolist()
    assert [row["similarity"] for row in rows[:2]] == pytest.approx(images["similarity"].tolist(), abs=1e-6)


def test_names_from_outside_are_text_in_every_table(root, ask, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ["=1+1.png", "@a.png", "plain.png"]
    for name in names:
        shutil.copy(root / "films" / "a.png", tmp_path / name)
    asked = ("--images", *names, "--prompts", "Effusion=left effusion")
    assert ask("classify", *asked, "--out", "table.csv") == ask("classify", *asked, "--out", "table.json") == 0
    table = pd.read_csv("table.csv")
    assert table["image"].tolist() == ["'=1+1.png", "'@a.png", "plain.png"]
    assert [row["image"] for row in json.loads(Path("table.json").read_text())] == names
    classes = ("+Edema=left effusion", "Effusion=left effusion")
    assert ask("classify", "--images", "plain.png", "--prompts", *classes, "--out", "table.csv") == 0
    assert pd.read_csv("table.csv").columns.tolist() == ["image", "'+Edema", "Effusion", "calibration"]
    assert ask("embed", "--text", "+ effusion", "--out", "vectors.csv") == 0
    assert pd.read_csv("vectors.csv")["name"].tolist() == ["'+ effusion"]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every file name is Unicode")
def test_file_names_that_are_not_unicode_are_escaped(root, ask, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for name in (b"r\xf6ntgen.png", "röntgen.png".encode()):
        shutil.copy(root / "films" / "a.png", os.fsencode(folder) + b"/" + name)
    for out in ("t.csv", "t.json"):
        flags = ("--prompts", "Effusion=left effusion", "--out", tmp_path / out)
        assert ask("classify", "--images", folder, *flags) == 0
        written = pd.read_csv(tmp_path / out) if out == "t.csv" else pd.read_json(tmp_path / out)
        assert sorted(Path(name).name for name in written["image"]) == ["r\\xf6ntgen.png", "röntgen.png"]
    assert ask("heatmap", "--images", folder, "--text", "effusion", "--out", tmp_path / "maps") == 0
    assert len(list((tmp_path / "maps").iterdir())) == 2
    assert ask("embed", "--images", folder, "--out", tmp_path / "t.npz") == 0
    with np.load(tmp_path / "t.npz", allow_pickle=False) as vectors:
        assert any(name.endswith("r\\xf6ntgen.png") for name in vectors["name"].tolist())


def test_a_heatmap_is_a_picture_over_the_original_or_the_array(root, predictor, ask, tmp_path, capfdbinary):
    film, text = films(root)[0], "left effusion"
    assert ask("heatmap", "--images", film, "--text", text, "--out", tmp_path / "map.npy") == 0
    heat = predictor.heatmap(film, text)
    assert np.allclose(np.load(tmp_path / "map.npy"), heat)
    assert ask("heatmap", "--images", film, "--text", text, "--out", tmp_path / "map.png") == 0
    picture = Image.open(tmp_path / "map.png")
    assert picture.size == (90, 120) and picture.mode == "RGB"
    assert np.array_equal(np.asarray(picture), np.asarray(overlay(np.asarray(Image.open(film)), heat)))
    capfdbinary.readouterr()
    assert ask("heatmap", "--images", film, "--text", text) == 0
    assert capfdbinary.readouterr().out == (tmp_path / "map.png").read_bytes()


def test_heatmaps_of_several_images_fill_a_folder(root, ask, tmp_path):
    assert ask("heatmap", "--images", root / "films", "--text", "effusion", "--out", tmp_path / "maps") == 0
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == ["a.png", "b.png", "c.png"]
    assert Image.open(tmp_path / "maps" / "c.png").size == (36, 36)


def test_an_overlay_shows_the_image_where_the_map_is_0_and_its_colour_where_it_is_1():
    gray = np.tile(np.arange(0, 200, 10, np.uint16), (20, 1))
    heat = np.zeros((20, 20), np.float32)
    heat[:, -1] = 1
    shown = np.asarray(overlay(gray, heat, opacity=1)).astype(int)
    assert (np.ptp(shown[:, :-1], axis=2) == 0).all() and shown[0, 0, 0] == 0
    assert np.allclose(shown[0, -1], [252, 255, 164], atol=1)  # the hot end of inferno
    assert np.ptp(np.asarray(overlay(np.full((4, 4), 7.0), np.zeros((4, 4))))) == 0


@pytest.mark.parametrize("out", ["-", "vectors.csv", "vectors.npy", "vectors.npz"])
def test_embed_writes_vectors_of_images(root, predictor, ask, tmp_path, capsys, out):
    expected = predictor.embed_images(films(root), branch="impression")
    flags = ("--branch", "impression", "--out", out if out == "-" else tmp_path / out)
    assert ask("embed", "--images", *films(root), *flags) == 0
    if out == "vectors.npy":
        assert np.allclose(np.load(tmp_path / out), expected)
        return
    if out == "vectors.npz":
        with np.load(tmp_path / out) as found:
            names, vectors = found["name"].tolist(), found["vector"]
    else:
        table = pd.read_csv(io.StringIO(capsys.readouterr().out) if out == "-" else tmp_path / out)
        names, vectors = table["name"].tolist(), table.drop(columns="name").to_numpy()
    assert names == [str(path) for path in films(root)] and np.allclose(vectors, expected, atol=1e-5)


def test_embed_writes_vectors_of_texts(predictor, ask, tmp_path):
    assert ask("embed", "--text", "left effusion", "clear", "--out", tmp_path / "texts.npy") == 0
    assert np.allclose(np.load(tmp_path / "texts.npy"), predictor.embed_texts(["left effusion", "clear"]))


def write_bad_images(folder: Path) -> dict[str, str]:
    """File name to reason."""
    folder.mkdir(exist_ok=True)
    (folder / "notes.txt").write_text("not an image at all")
    write_dicom(folder / "ct.dcm", np.zeros((4, 36, 36), np.uint8), NumberOfFrames=4)
    Image.new("1", (20_000, 20_000)).save(folder / "huge.png")
    (folder / "empty.dcm").write_bytes(b"")
    return {
        "notes.txt": "not a DICOM, PNG or JPEG file",
        "ct.dcm": "DICOM of several frames",
        "huge.png": "too many pixels; .*at most 67 megapixels",
        "empty.dcm": "empty file",
        "absent.png": "missing file",
    }


def test_an_image_that_cannot_be_used_alone_is_one_line_and_among_others_is_excluded(
    root, ask, tmp_path, capsys, caplog
):
    bad = write_bad_images(tmp_path / "bad")
    for name, reason in bad.items():
        for action in ("classify", "embed"):
            assert ask(action, "--images", tmp_path / "bad" / name) == 2
            reported = capsys.readouterr()
            assert not reported.out and reported.err.count("\n") == 1
            assert re.match(f"imitate predict: cannot use .*{name}: {reason}", reported.err)
    with caplog.at_level(logging.WARNING):
        assert ask("classify", "--images", tmp_path / "bad", *films(root), "--prompts", "Edema=edema") == 0
    table = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert table["image"].tolist() == [str(path) for path in films(root)]
    assert sum("excluded: cannot use" in record.message for record in caplog.records) == 3
    assert ask("embed", "--images", tmp_path / "bad") == 2
    assert "none of the 3 images can be used" in capsys.readouterr().err


def test_a_colour_photograph_is_classified_with_a_warning(root, ask, tmp_path, capsys, caplog):
    photograph = np.random.default_rng(0).integers(0, 255, (50, 50, 3), np.uint8)
    Image.fromarray(photograph).save(tmp_path / "holiday.png")
    with caplog.at_level(logging.WARNING):
        assert ask("classify", "--images", tmp_path / "holiday.png", "--prompts", "Edema=edema") == 0
    assert "holiday.png is a colour image and is converted to gray: is it a radiograph?" in caplog.text
    assert len(pd.read_csv(io.StringIO(capsys.readouterr().out))) == 1


def test_what_is_missing_or_cannot_be_is_reported_before_the_model_is_read(root, tmp_path, capsys):
    film, other = films(root)[0], tmp_path / "a.png"
    other.write_bytes(film.read_bytes())
    (tmp_path / "empty").mkdir()
    mistakes = {
        "classify needs --images": ["classify"],
        "retrieve needs --index, and --images or --text": ["retrieve", "--text", "edema"],
        "heatmap needs --images, and one --text": ["heatmap", "--images", film, "--text", "edema", "effusion"],
        "embed needs either --images or --text": ["embed", "--images", film, "--text", "edema"],
        "classify writes .csv, .json, or - for": ["classify", "--images", film, "--out", "table.xlsx"],
        "heatmap writes .png, .npy, a folder, or -": [
            "heatmap",
            "--images",
            film,
            "--text",
            "edema",
            "--out",
            "map.jpg",
        ],
        "holds one map, but there are 2 images": [
            "heatmap",
            "--images",
            film,
            film,
            "--text",
            "edema",
            "--out",
            "map.png",
        ],
        "the same name": ["heatmap", "--images", film, other, "--text", "edema", "--out", tmp_path / "maps"],
        "a folder of 0 files without a radiograph": ["classify", "--images", tmp_path / "empty"],
    }
    for message, (action, *flags) in mistakes.items():
        assert main(["predict", action, "--model", "absent", *map(str, flags)]) == 2
        reported = capsys.readouterr().err
        assert message in reported and reported.count("\n") == 1


def test_a_heatmap_is_not_written_to_a_terminal(root, ask, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert ask("heatmap", "--images", films(root)[0], "--text", "edema") == 2
    reported = capsys.readouterr()
    assert not reported.out and "give --out map.png, or redirect the output" in reported.err


def test_mistakes_of_the_question_and_of_the_model_are_reported(root, ask, tmp_path, capsys):
    film = str(films(root)[0])
    (tmp_path / "file").write_text("")
    mistakes = {
        "text 1 is empty": lambda: ask("heatmap", "--images", film, "--text", " "),
        "text 1 is empty:": lambda: ask("classify", "--images", film, "--prompts", "Edema="),
        "prompts of Edema: one is empty": lambda: ask("classify", "--images", film, "--prompts", "Edema=edema|"),
        "no model at absent": lambda: main(["predict", "classify", "--model", "absent", "--images", film]),
        "does not exist": lambda: ask("retrieve", "--text", "edema", "--index", tmp_path / "none"),
        "cannot write": lambda: ask("embed", "--text", "edema", "--out", tmp_path / "file" / "vectors.npy"),
    }
    for message, mistake in mistakes.items():
        assert mistake() == 2
        reported = capsys.readouterr().err
        assert message in reported.splitlines()[-1] and "Traceback" not in reported
