"""The batch job: every image or its reason, nothing twice, nothing half."""

import shutil

import numpy as np
import pandas as pd
import pydicom
import pytest
from archives import write_dicom
from example import program
from runs import write_run

import imitate
from imitate.errors import UserError


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("model"))


@pytest.fixture
def job():
    module = program("pacs_batch.py")
    module.PROMPTS = {"Effusion": "effusion", "Edema": "edema"}  # words of the small model
    return module


@pytest.fixture
def export(tmp_path):
    """Three studies: two films beside a report and a damaged file; a CT alone; one film in a folder of its series."""
    random = np.random.default_rng(0)
    for name in ("1/a", "1/b", "2/ct", "3/series/film"):
        path = tmp_path / "export" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_dicom(path, random.integers(0, 255, (40, 40)), Modality="CT" if name == "2/ct" else "DX")
    report = pydicom.dcmread(tmp_path / "export" / "1" / "a")
    del report.Rows, report.Columns, report.PixelData
    report.Modality = "SR"
    report.save_as(tmp_path / "export" / "1" / "report.dcm")
    (tmp_path / "export" / "1" / "damaged.dcm").write_bytes((tmp_path / "export" / "1" / "a").read_bytes()[:700])
    return tmp_path / "export"


def test_each_image_has_its_scores_or_its_reason(job, run, export, tmp_path):
    words = ["--model", str(run), "--studies", str(export), "--out", str(tmp_path / "out"), "--device", "cpu"]
    every = job.main(words)
    scores, refused = (pd.read_csv(tmp_path / "out" / f"{name}.csv", dtype=str) for name in ("scores", "refused"))
    assert scores[["study", "image"]].values.tolist() == [["1", "a"], ["1", "b"], ["3", "series/film"]]
    films = [export / "1" / "a", export / "1" / "b", export / "3" / "series" / "film"]
    expected = imitate.load(run).classify(films, job.PROMPTS)
    np.testing.assert_allclose(scores[list(job.PROMPTS)].astype(float), expected, atol=1e-5)
    assert refused["study"].tolist() == ["1", "2"] and refused["image"].fillna("").tolist() == ["damaged.dcm", ""]
    assert "damaged" in refused["reason"][0] and "without a radiograph" in refused["reason"][1]
    assert len(every) == 5 and not list((tmp_path / "out").rglob("*.part"))


def test_it_goes_on_after_a_kill_and_takes_what_is_new(job, run, export, tmp_path, monkeypatch):
    words = ["--model", str(run), "--studies", str(export), "--out", str(tmp_path / "out"), "--device", "cpu"]
    asked, classify = [], job.classify_study

    def watched(model, study):
        asked.append(study.name)
        if asked == ["1", "2"]:
            raise KeyboardInterrupt
        return classify(model, study)

    monkeypatch.setattr(job, "classify_study", watched)
    with pytest.raises(KeyboardInterrupt):
        job.main(words)
    assert len(list((tmp_path / "out" / "studies").iterdir())) == 1 and not (tmp_path / "out" / "scores.csv").exists()
    whole = job.main(words)
    assert asked == ["1", "2", "2", "3"]
    assert job.main(words).equals(whole) and len(asked) == 4
    shutil.copy(export / "1" / "a", export / "3" / "another")
    shutil.copytree(export / "1", export / "4")
    assert len(job.main(words)) == len(whole) + 4 and asked[4:] == ["3", "4"]
    monkeypatch.setattr(job, "PROMPTS", {"Edema": "edema"})
    with pytest.raises(UserError, match="was begun with another model or other prompts: choose another --out"):
        job.main(words)


def test_a_file_that_cannot_be_written_leaves_the_old_one(job, tmp_path):
    job.write_whole(tmp_path / "a", lambda part: part.write_text("old"))

    def broken(part):
        part.write_text("ne")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        job.write_whole(tmp_path / "a", broken)
    assert (tmp_path / "a").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_a_folder_without_studies_is_refused(run, tmp_path):
    (tmp_path / "empty").mkdir()
    for name, said in {"empty": "has no folders of studies", "absent": "is not a folder"}.items():
        with pytest.raises(UserError, match=said):
            program("pacs_batch.py").main(
                ["--model", str(run), "--studies", str(tmp_path / name), "--out", str(tmp_path / "out")]
            )
