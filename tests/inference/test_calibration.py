"""A calibration at its place beside the weights: what a Predictor, the command line and an export make of it."""

import json
import logging

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from runs import write_run
from scipy.special import expit

from imitate.cli import main
from imitate.data.corpus import Corpus
from imitate.errors import UserError
from imitate.inference.calibration import (
    Calibration,
    ClassCalibration,
    OperatingPoint,
    beside,
    preprocessing_digest,
    read,
)
from imitate.inference.predictor import Predictor, load

PHRASES = {"Effusion": "left effusion", "Edema": "edema", "Opacity": "opacity"}


def calibration_of(predictor: Predictor, **changes: object) -> Calibration:
    """Of the scores of these phrases: an isotonic class, a Platt one with a threshold, and one that is uncalibrated."""
    prompts = predictor.scorer(PHRASES).prompts
    classes = {
        "Effusion": ClassCalibration(
            method="isotonic", scores=(-0.1, 0.1), values=(0.0, 0.5), positives=40, negatives=60,
            prompts=prompts["Effusion"],
        ),
        "Edema": ClassCalibration(
            method="platt", slope=9.0, intercept=-1.0, positives=30, negatives=70, prompts=prompts["Edema"],
            operating=OperatingPoint(aim="sensitivity", at=0.9, threshold=-0.01),
        ),
        "Opacity": ClassCalibration(method=None, note="no positive image", prompts=prompts["Opacity"]),
    }  # fmt: skip
    values = {
        "task": "zero-shot", "method": "platt", "date": "2026-01-02", "branch": "both", "classes": classes,
        "data": {"name": "first", "split": "val", "images": 100, "patients": 90},
        "weights": predictor.encoder.digest(), "preprocessing": preprocessing_digest(predictor.encoder),
    }  # fmt: skip
    return Calibration(**{**values, **changes})


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("calibrated")
    write_run(root)
    calibration_of(load(root / "run")).save(beside(root / "run"))
    return root


@pytest.fixture(scope="module")
def images(root) -> list[np.ndarray]:
    return list(np.array(Corpus.open(root / "data").images[:5]))


def test_a_predictor_gives_calibrated_probabilities_and_says_which_are(root, images):
    predictor = load(root / "run")
    bare = Predictor(predictor.encoder)
    scorer = bare.scorer(PHRASES)
    scores = np.log((p := bare.classify(images, PHRASES)) / (1 - p)) * scorer.temperature
    table = predictor.classify(images, decide=True)
    assert table.columns.tolist() == [*PHRASES, "Edema positive"], "without prompts, those of the calibration"
    assert table["Effusion"].to_numpy() == pytest.approx(np.interp(scores["Effusion"], [-0.1, 0.1], [0, 0.5]), abs=1e-4)
    assert table["Edema"].to_numpy() == pytest.approx(expit(9 * scores["Edema"] - 1).to_numpy(), abs=1e-4)
    assert table["Opacity"].to_numpy() == pytest.approx(p["Opacity"].to_numpy(), abs=1e-6)
    assert table["Edema positive"].tolist() == (scores["Edema"] >= -0.01).tolist()
    about = table.attrs["calibration"]
    assert about["Edema"] == (
        "platt, fitted on 100 images of 90 patients (first, split val), 2026-01-02, 30 of 100 positive"
    )
    assert about["Opacity"] == "uncalibrated: no positive image"
    assert set(bare.classify(images, PHRASES).attrs["calibration"].values()) == {"uncalibrated"}


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"branch": "findings"}, "the calibration is of branch both"),
        ({"prompts": {"Edema": "pulmonary edema"}}, "the calibration is of other prompts"),
        ({"prompts": {"Heart": "large heart"}}, "no calibration of this class"),
        ({"temperature": 0.3}, ""),
    ],
)
def test_what_was_not_calibrated_is_called_so(root, images, asked, why):
    predictor = load(root / "run")
    table = predictor.classify(images, **asked)
    expected = Predictor(predictor.encoder).classify(images, **{"prompts": PHRASES, **asked}) if why else None
    for name in table.columns if expected is not None else ():
        assert table.attrs["calibration"][name] == f"uncalibrated: {why}"
        assert table[name].to_numpy() == pytest.approx(expected[name].to_numpy(), abs=1e-6)
    assert why or set(table.attrs["calibration"].values()) == {"uncalibrated"}
    with pytest.raises(UserError, match="no class can be decided, .*: choose thresholds with imitate calibrate"):
        predictor.classify(images, **asked, decide=True)


def test_the_command_line_says_it_in_every_line(root, tmp_path, monkeypatch):
    data, out = root / "data", tmp_path / "parts"
    np.save(tmp_path / "unused.npy", 0)
    assert (
        main(["predict", "classify", "--model", str(root / "run"), "--data", str(data), "--decide", "--out", str(out)])
        == 0
    )
    table = pq.read_table(out / "part-00000.parquet")
    assert table.column_names == ["image", "reason", *PHRASES, "Edema positive"]
    assert str(table.schema.field("Edema positive").type) == "bool"
    settings = json.loads((out / "settings.json").read_text())
    assert settings["calibration"]["date"] == "2026-01-02" and settings["decide"]
    image = Corpus.open(data).images[0]
    from PIL import Image

    Image.fromarray(image).save(tmp_path / "a.png")
    one = tmp_path / "one.csv"
    assert main(["predict", "classify", "--model", str(root / "run"), "--images", str(tmp_path / "a.png"),
                 "--decide", "--out", str(one)]) == 0  # fmt: skip
    line = pd.read_csv(one).iloc[0]
    assert line["calibration"] == (
        "platt, fitted on 100 images of 90 patients (first, split val), 2026-01-02; uncalibrated: Opacity"
    )
    assert line["Edema"] == pytest.approx(table["Edema"][0].as_py(), abs=0.05)


def test_an_export_takes_it_along(root, tmp_path):
    assert main(["export", "--model", str(root / "run"), "--to", str(tmp_path / "shared")]) == 0
    assert read(tmp_path / "shared" / "calibration.json") == read(beside(root / "run"))
    assert load(tmp_path / "shared").calibration is not None
    flags = ["--to", str(tmp_path / "images"), "--images-only"]  # which score no prompts
    assert main(["export", "--model", str(root / "run"), *flags]) == 0
    assert not (tmp_path / "images" / "calibration.json").exists()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"weights": "0"}, "it is of another model: its weights differ"),
        ({"preprocessing": "0"}, "it is of another model: its images are prepared differently"),
        ({"branch": None, "task": "linear-classification"}, "it is of linear-classification, not of the model's"),
    ],
)
def test_that_of_another_model_is_refused_or_excluded(root, tmp_path, caplog, changes, why):
    predictor = load(root / "run")
    calibration_of(predictor, **changes).save(tmp_path / "other.json")
    with pytest.raises(UserError, match=f"other.json cannot be used with .*: {why}"):
        load(root / "run", calibration=tmp_path / "other.json")
    write_run(tmp_path)
    calibration_of(predictor, **changes).save(beside(tmp_path / "run"))
    with caplog.at_level(logging.WARNING):
        assert load(tmp_path / "run").calibration is None
    assert f"is not used, since {why}" in caplog.text


def test_damaged_files_are_one_line(tmp_path):
    path = tmp_path / "calibration.json"
    for text, why in (
        ("{", "is not JSON"),
        ("[]", "is not a calibration"),
        ('{"format_version": 2}', "format_version = 2"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=why):
            read(path)
    with pytest.raises(UserError, match="no calibration at .*: make one with imitate calibrate"):
        read(tmp_path / "none.json")
