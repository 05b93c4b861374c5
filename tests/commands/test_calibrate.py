"""From a model or results to calibration.json, and from there to probabilities and decisions."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from folders import edit_rows, write_folder
from PIL import Image
from runs import write_run
from scipy.special import expit

from imitate.cli import main
from imitate.data.corpus import Corpus
from imitate.inference.calibration import beside, read
from imitate.inference.embeddings import embed_images
from imitate.inference.gallery import image_vectors
from imitate.inference.predictor import load
from imitate.tasks.results import read_results


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """An untrained run, and labels drawn from what it says: the truth is 1 / (1 + exp(-(2 z - 1))), z its scaled score."""
    root = tmp_path_factory.mktemp("calibrate")
    write_run(root, data=write_folder(root / "data", n=400))
    (root / "prompts.yaml").write_text(
        "Left: {positive: [left effusion], negative: [clear]}\nRight: {positive: [right], negative: [left]}\n"
    )
    prompts = {"Left": {"positive": "left effusion", "negative": "clear"}}
    prompts["Right"] = {"positive": "right", "negative": "left"}
    model, data = load(root / "run"), Corpus.open(root / "data")
    seen = embed_images(model.encoder, data, np.arange(len(data)), "cpu")
    scores = model.scorer(prompts).scores(image_vectors(seen, "both"))
    z = (scores - scores.mean(0)) / scores.std(0)
    labels = np.random.default_rng(0).random(z.shape) < expit(2 * z - 1)
    split = [("train", "val", "val", "test", "test")[i // 2 % 5] for i in range(400)]
    edit_rows(root / "data", labels=[row.tolist() for row in labels.astype(np.float32)], split=split)
    return root


def calibrate(root: Path, *flags: object) -> int:
    return main(["calibrate", "--device", "cpu", "--resamples", "30", *map(str, flags)])


@pytest.fixture(scope="module")
def calibrated(root: Path) -> Path:
    flags = ("--model", root / "run", "--data", root / "data", "--prompts", root / "prompts.yaml")
    assert calibrate(root, *flags, "--out", root / "results.json", "--prevalence", "Left=0.1") == 0
    return root / "results.json"


def test_a_model_is_calibrated_and_predicts_so(root, calibrated, tmp_path):
    results, found = read_results(calibrated), read(beside(root / "run"))
    assert results.task == "calibration" and results.data["images"] == 160 and results.data["patients"] == 80
    assert results.metrics["brier/Left"].value < results.metrics["brier-before/Left"].value
    assert found.data["images"] == 160 and found.data["split"] == "val" and found.data["name"] == "data"
    assert found.branch == "both" and list(found.classes) == ["Left", "Right"]
    left = found.classes["Left"]
    assert left.prompts is not None and left.prompts.positive == ("left effusion",)
    point = left.operating
    assert point is not None and point.achieved["sensitivity"].value == results.metrics["sensitivity/Left"].value
    assert sum(point.counts.values()) == 160 and "ppv-at-prevalence/Left" in results.metrics
    flags = ("--model", root / "run", "--data", root / "data", "--decide", "--out", tmp_path / "parts")
    assert main(["predict", "classify", *map(str, flags)]) == 0
    parts = sorted((tmp_path / "parts").glob("part-*.parquet"))
    table = pd.concat([pd.read_parquet(part) for part in parts]).iloc[Corpus.open(root / "data").rows("test")]
    assert table["Left positive"].sum() == point.counts["tp"] + point.counts["fp"]
    with np.load(calibrated.with_suffix(".npz")) as kept:
        expected = kept["0/probability"][kept["0/part"] == "test"]
    assert table[["Left", "Right"]].to_numpy() == pytest.approx(expected, abs=1e-3)


def test_the_same_command_keeps_the_results_and_the_report_shows_them(root, calibrated, tmp_path):
    before = calibrated.read_bytes()
    flags = ("--model", root / "run", "--data", root / "data", "--prompts", root / "prompts.yaml")
    assert calibrate(root, *flags, "--out", calibrated, "--prevalence", "Left=0.1") == 0
    assert calibrated.read_bytes() == before
    assert main(["report", str(calibrated), "--out", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Operating points" in page and "Decision curve of Left" in page and "Reliability of Left" in page
    assert main(["compare", str(calibrated), str(calibrated)]) == 0


def test_the_head_of_a_probe_is_calibrated_from_its_results(root, tmp_path, capsys):
    probe, out = tmp_path / "probe.json", tmp_path / "calibrated.json"
    flags = ("--data", root / "data", "--device", "cpu", "--resamples", "30", "--out", probe, "--seeds", "2")
    assert main(["evaluate", "knn-classification", "--model", str(root / "run"), *map(str, flags)]) == 0
    assert calibrate(root, "--results", probe, "--out", out, "--aim", "specificity", "--at", "0.8") == 0
    results, first = read_results(out), read(tmp_path / "calibrated-calibration-1.json")
    assert results.model == "run (k-nearest-neighbour classification)" and len(results.per_seed) == 2
    assert first.task == "knn-classification" and first.branch is None
    to = tmp_path / "kept" / "heads.json"
    assert calibrate(root, "--results", probe, "--out", tmp_path / "again.json", "--to", to) == 0
    assert sorted(path.name for path in to.parent.iterdir()) == ["heads-0.json", "heads-1.json"]  # none over another
    assert read(to.with_stem("heads-1")).settings == first.settings != read(to.with_stem("heads-0")).settings
    capsys.readouterr()
    point = first.classes["Left"].operating
    assert point is not None and point.aim == "specificity" and point.at == 0.8
    own = tmp_path / "own.json"  # each seed's calibration is its own, also where a place is given
    assert calibrate(root, "--results", probe, "--out", out, "--to", own, "--aim", "specificity", "--at", "0.8") == 0
    kept = [read(tmp_path / f"own-{seed}.json") for seed in range(2)]
    assert not own.exists() and kept[0].settings != kept[1].settings and kept[1].classes == first.classes
    image, kept = tmp_path / "image.png", tmp_path / "calibrated-calibration-1.json"
    Image.new("L", (64, 64), 99).save(image)
    flags = ("--model", root / "run", "--images", image, "--calibration", kept)
    assert main(["predict", "classify", *map(str, flags)]) == 2
    assert "it is of knn-classification, not of the model's zero-shot scores" in capsys.readouterr().err


def test_mistakes_are_one_line(root, calibrated, tmp_path, capsys, caplog):
    def reported(*flags: object) -> str:
        assert calibrate(root, *flags, "--out", tmp_path / "x.json") == 2
        return capsys.readouterr().err.strip().splitlines()[-1]

    both = ("--model", root / "run", "--data", root / "data", "--prompts", root / "prompts.yaml")
    assert reported() == ("imitate calibrate: calibrate needs --model and --data, or the --results of imitate evaluate")
    assert "either --model and --data, or --results" in reported(*both, "--results", calibrated)
    assert "the calibration is fitted on split val: measure another split" in reported(*both, "--split", "val")
    assert "at 1: give a sensitivity below 1, such as 0.9" in reported(*both, "--at", "1")
    assert "prevalence '5%': write a fraction between 0 and 1, as 0.05 or Edema=0.05" in reported(
        *both, "--prevalence", "5%"
    )
    assert "--branch applies to zero-shot scores" in reported("--results", calibrated, "--branch", "findings")
    assert "there are no scores of validation images" in reported("--results", calibrated)
    few = tmp_path / "few"
    write_folder(few, n=60)
    few = ("--model", root / "run", "--data", few, *both[4:])
    with caplog.at_level(logging.WARNING):
        assert "no class of Left, Right can be calibrated: the lines above say why" in reported(*few)
    assert "Left stays uncalibrated: " in caplog.text and "validation patients, platt needs at least 10" in caplog.text
    calibrated.with_suffix(".npz").rename(tmp_path / "away.npz")
    assert "are missing: keep the two together" in reported("--results", calibrated)
    (tmp_path / "away.npz").rename(calibrated.with_suffix(".npz"))
    shared = tmp_path / "shared"
    write_folder(shared, n=100)
    edit_rows(shared, split=[("val", "test")[i % 2] for i in range(100)])
    assert "is in both the validation and the test images" in reported(
        "--model", root / "run", "--data", shared, *both[4:]
    )
    weights = tmp_path / "weights.pt"
    weights.write_bytes(b"")
    assert "has no model folder to keep a calibration in: give --to FILE.json" in reported(
        "--model", weights, *both[2:]
    )
