"""A folder in ONNX says of files as people have them what its run says by torch."""

import json
import shutil
from itertools import chain
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from archives import encoded
from golden_dicom import dicom
from runs import write_run
from served import serving
from text_models import SMALL, texts
from uploads import picture, several_frames

import imitate
from imitate.cli import main
from imitate.config.digests import record_digest
from imitate.data.corpus import Corpus
from imitate.errors import UserError
from imitate.inference import onnx
from imitate.inference.bulk import Question, predict_in_parts
from imitate.inference.calibration import Calibration, ClassCalibration, OperatingPoint, beside, preprocessing_digest
from imitate.inference.parts import part_path
from imitate.inference.predictor import load
from imitate.models import small_bert
from imitate.models.small_bert import SmallBertTextEncoder
from imitate.serve.server import create
from imitate.serve.service import Service

NEAR = 1e-4
CLASSES = {"Edema": "edema", "Effusion": {"positive": ["left effusion", "effusion"], "negative": ["clear lungs"]}}
SAID = ("There is edema.", "No edema.", "Clear lungs without effusion.", "Lungs are clear, left effusion.")
FILMS = {
    "portrait.jpg": encoded(picture(150, 61), "JPEG"),
    "landscape.jpg": encoded(picture(70, 211), "JPEG"),
    "sixteen.png": encoded(picture(90, 81).astype(np.uint16) * 201 + 7),
    "inverted.dcm": dicom(
        (4095 - picture(100, 77).astype(np.uint16) * 12), PhotometricInterpretation="MONOCHROME1", BitsStored=12,
        WindowCenter=2500, WindowWidth=1900,
    ),
    "plain.dcm": dicom(picture(64, 128)),
}  # fmt: skip


def export(run: Path, to: Path, *more: str) -> Path:
    assert main(["export", "--model", str(run), "--to", str(to), "--format", "onnx", *more]) == 0
    return to


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("films")
    for name, content in FILMS.items():
        (folder / name).write_bytes(content)
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def fitted(tmp_path_factory) -> Path:
    """A run with words of the reports and a calibration, and its folder in ONNX."""
    root = tmp_path_factory.mktemp("fitted")
    predictor = load(write_run(root))
    asked = predictor.scorer(CLASSES).prompts
    point = OperatingPoint(aim="sensitivity", at=0.9, threshold=0.01)
    found = {
        "Edema": ClassCalibration(method="platt", slope=20.0, intercept=-1, prompts=asked["Edema"], operating=point),
        "Effusion": ClassCalibration(method=None, note="no positive image", prompts=asked["Effusion"]),
    }
    Calibration(
        task="zero-shot", method="platt", date="2026-01-02", branch="both", classes=found,
        data={"name": "first", "split": "val", "images": 100, "patients": 90},
        weights=predictor.encoder.digest(), preprocessing=preprocessing_digest(predictor.encoder),
    ).save(beside(root / "run"))  # fmt: skip
    export(root / "run", root / "onnx")
    return root


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A run whose text encoder is a BERT that was trained on the reports."""
    root = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(small_bert, "SHAPE", SMALL)
        text = SmallBertTextEncoder.fit([*texts(), *SAID], steps=2)
    write_run(root, text=text, text_width=text.width)
    export(root / "run", root / "onnx")
    return root


@pytest.mark.parametrize("name", ["fitted", "trained"])
@pytest.mark.parametrize("branch", ["both", "findings", "impression"])
def test_what_is_embedded_classified_and_retrieved_is_that_of_torch(request, films, name, branch):
    root = request.getfixturevalue(name)
    run, folder = (imitate.load(root / each, device="cpu") for each in ("run", "onnx"))
    assert np.abs(run.embed_images(films, branch=branch) - folder.embed_images(films, branch=branch)).max() < NEAR
    said = ["left effusion and edema", "no effusion", "clear lungs"]
    assert np.abs(run.embed_texts(said, branch=branch) - folder.embed_texts(said, branch=branch)).max() < NEAR
    tables = [each.classify(films, CLASSES, branch=branch, decide=False) for each in (run, folder)]
    assert np.abs(tables[0].to_numpy() - tables[1].to_numpy()).max() < NEAR and np.ptp(tables[0].to_numpy()) > 0.01
    assert tables[0].attrs == tables[1].attrs
    for asked in ({"image": films[0]}, {"text": "left effusion"}):
        first, second = (each.retrieve(**asked, index=root / "data", k=3, branch=branch) for each in (run, folder))
        assert np.abs(first["similarity"] - second["similarity"]).max() < 1e-3  # a run keeps reports in float16
        assert list(first.columns) == list(second.columns)


@pytest.mark.parametrize("name", ["run", "onnx"])
def test_the_end_of_a_text_that_is_ignored_is_reported(trained, caplog, name):
    found = load(trained / name, device="cpu")
    text: Any = found.text
    fits = " ".join(["effusion"] * (text.longest - 2))
    found.embed_texts(["edema", fits])
    assert not caplog.messages
    found.embed_texts(["edema", f"{fits} edema"])
    assert caplog.messages == [
        f"the text encoder {text.name} reads at most {text.longest} word pieces: the end of 1 of 2 texts is ignored"
    ]


def test_the_calibration_and_its_classes_are_part_of_the_folder(fitted, films):
    run, folder = (load(fitted / each).classify(films, decide=True) for each in ("run", "onnx"))
    assert list(folder) == list(run) == ["Edema", "Effusion", "Edema positive"]
    assert np.abs(run[["Edema", "Effusion"]].to_numpy() - folder[["Edema", "Effusion"]].to_numpy()).max() < NEAR
    assert run["Edema positive"].equals(folder["Edema positive"]) and folder.attrs == run.attrs
    other = fitted / "other.json"
    other.write_text(beside(fitted / "run").read_text().replace('"weights": "', '"weights": "0'))
    with pytest.raises(UserError, match="another model: its weights differ"):
        load(fitted / "onnx", calibration=other)


def test_the_classes_that_were_exported_are_asked_and_their_sentences_not_read_again(fitted, films, tmp_path):
    folder = load(export(fitted / "run", tmp_path / "onnx", "--prompts", "Left=left effusion|clear lungs"))
    expected = load(fitted / "run").classify(films, {"Left": {"positive": "left effusion", "negative": "clear lungs"}})
    encoder: Any = folder.encoder
    encoder._reads = None
    found = folder.classify(films)
    assert list(found) == ["Left"] and np.abs(found.to_numpy() - expected.to_numpy()).max() < NEAR
    encoder.text = None  # as of an encoder of another group
    assert folder.classify(films).equals(found)
    with pytest.raises(UserError, match="has no text encoder"):
        folder.classify(films, CLASSES)


def test_a_folder_of_predictions_is_the_same(fitted, films, tmp_path):
    for model in ("run", "onnx"):
        question = Question("classify", str(fitted / model), device="cpu")
        assert predict_in_parts(question, tmp_path / model, images=films[0].parent)
    first, second = (pd_read(part_path(tmp_path / model, 0)) for model in ("run", "onnx"))
    assert first["image"].tolist() == second["image"].tolist() and len(first) == len(FILMS)
    assert np.abs(first["Edema"] - second["Edema"]).max() < NEAR


def test_the_command_writes_the_same_table_and_refuses_the_same_file(fitted, films, tmp_path, capsys):
    tables = []
    for model, backend in (("run", "torch"), ("onnx", "onnx")):
        asked = [
            "predict",
            "classify",
            "--model",
            str(fitted / model),
            "--backend",
            backend,
            "--images",
            *map(str, films),
        ]
        assert main([*asked, "--out", str(tmp_path / f"{model}.json")]) == 0
        tables.append(json.loads((tmp_path / f"{model}.json").read_text()))
        (tmp_path / "frames.dcm").write_bytes(several_frames(tmp_path))
        capsys.readouterr()
        assert main(["predict", "embed", "--model", str(fitted / model), "--images", str(tmp_path / "frames.dcm")]) == 2
        assert "DICOM of several frames" in capsys.readouterr().err
    for first, second in zip(*tables, strict=True):
        assert first["image"] == second["image"] and abs(first["Edema"] - second["Edema"]) < NEAR


def test_the_server_responds_with_the_same_and_says_that_there_are_no_maps(fitted, films):
    responses = []
    for model in ("run", "onnx"):
        service = Service(load(fitted / model), Corpus.open(fitted / "data"))
        with serving(create(service)) as address, httpx.Client(base_url=address) as client:
            about = client.get("/api/about").json()
            assert about["maps"] == (model == "run")
            scores = []
            for film in films:
                opened = client.post("/api/images", content=film.read_bytes()).json()["id"]
                found = client.post(f"/api/images/{opened}/classify", json={}).json()["classes"]
                scores.append(
                    [(each["name"], each["score"], each["probability"], each["percentile"]) for each in found]
                )
            reports = client.post(f"/api/images/{opened}/reports", json={}).json()["reports"]
            map_ = client.post(f"/api/images/{opened}/heatmap", json={"phrase": "effusion"})
            assert map_.status_code == (200 if model == "run" else 422)
        responses.append((scores, [each["similarity"] for each in reports]))
    assert "has no heat-maps" in map_.json()["error"]
    (first, near), (second, others) = responses
    assert np.abs(np.subtract(near, others)).max() < 1e-3
    for one, other in zip(chain(*first), chain(*second), strict=True):
        assert one[0] == other[0] and abs(one[1] - other[1]) < NEAR and (one[2] is None) == (other[2] is None)
        assert one[2] is None or abs(one[2] - other[2]) < NEAR


def test_what_the_backend_cannot_do_is_one_line(fitted, films, tmp_path, capsys):
    run, folder = str(fitted / "run"), str(fitted / "onnx")

    def refused(*words: str) -> str:
        assert main([*words, "--device", "cpu"] if "--device" not in words else [*words]) == 2
        reported = capsys.readouterr().err
        assert reported.count("\n") == 1
        return reported

    film, out = str(films[0]), str(tmp_path / "map.png")
    assert "has no heat-maps, which need gradients" in refused(
        "predict", "heatmap", "--model", folder, "--images", film, "--text", "effusion", "--out", out
    )
    for command in (("predict", "embed", "--images", film), ("serve",)):
        reported = refused(*command, "--model", run, "--backend", "onnx")
        assert f"imitate export --model {run} --format onnx --to FOLDER" in reported
    assert "has ONNX files only" in refused(
        "predict", "embed", "--images", film, "--model", folder, "--backend", "torch"
    )
    assert "use --device cpu" in refused("predict", "embed", "--images", film, "--model", folder, "--device", "cuda")
    reported = refused(
        "evaluate", "zero-shot", "--model", folder, "--data", str(fitted / "data"), "--out", f"{out}.json"
    )
    assert "is an ONNX model, which only predict and serve accept" in reported


def test_a_damaged_folder_says_what_is_wrong(fitted, tmp_path, capsys):
    def broken(name: str, change: object) -> pytest.ExceptionInfo[UserError]:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        shutil.copytree(fitted / "onnx", folder)
        change(folder / name)
        with pytest.raises(UserError) as reported:
            load(folder)
        return reported

    def changed(**values: object):
        def change(path: Path) -> None:
            record = {**json.loads(path.read_text()), **values}
            path.write_text(json.dumps({**record, "digest": record_digest(record)}))

        return change

    assert broken("imitate.json", Path.unlink).match("has no imitate.json: it is incomplete")
    assert broken("imitate.json", lambda path: path.write_text("{")).match("imitate.json is damaged")
    assert broken("imitate.json", changed(format_version=2)).match("is of format 2, but imitate reads 1")
    assert broken("imitate.json", changed(preprocessing={"mean": []})).match("imitate.json is damaged")
    damage = broken(
        "imitate.json", lambda path: path.write_text(path.read_text().replace('"temperature": 0', '"temperature": 1'))
    )
    assert damage.match("imitate.json is damaged or was changed after the export")
    assert broken("text.npz", Path.unlink).match(r"has no text.npz, which belongs to it")
    assert main(["doctor", str(fitted / "onnx")]) == 0 and "resnet18 in ONNX, 4 intact files" in capsys.readouterr().out
    assert main(["doctor", str(tmp_path / "5")]) == 2 and "has no text.npz" in capsys.readouterr().err
    assert broken("image.onnx", lambda path: path.write_bytes(b"x")).match(r"image.onnx has changed since the export")
    with pytest.raises(UserError, match="cannot be opened by onnxruntime"):
        onnx.session(fitted / "onnx" / "imitate.json", "cpu")


def test_statistics_of_each_section_are_not_in_the_folder(fitted):
    folder = load(fitted / "onnx")
    encoder: Any = folder.encoder
    encoder.record = {**encoder.record, "text": {**encoder.record["text"], "statistics": "section"}}
    with pytest.raises(UserError, match="statistics of each section's texts"):
        folder.retrieve(image=picture(), index=fitted / "data", branch="findings")
    assert len(folder.classify(picture())) == 1


def test_eight_bits_say_that_a_calibration_is_of_float32_scores(fitted, tmp_path, caplog):
    shutil.copytree(fitted / "onnx", tmp_path / "onnx")
    record = {**json.loads((tmp_path / "onnx" / "imitate.json").read_text()), "precision": "int8"}
    record["digest"] = record_digest(record)
    (tmp_path / "onnx" / "imitate.json").write_text(json.dumps(record))
    given = beside(fitted / "run")
    for folder, file, said in ((fitted / "onnx", None, False), (tmp_path / "onnx", None, True),
                               (fitted / "onnx", given, False), (tmp_path / "onnx", given, True)):  # fmt: skip
        caplog.clear()
        about = load(folder, calibration=file).scorer(CLASSES).about["Edema"]
        assert ("has 8-bit weights, but its calibration was fitted to float32 scores" in caplog.text) == said
        assert ("approximate: fitted to float32 scores, but the model has 8-bit weights" in about) == said


def test_eight_bits_are_another_model_to_a_folder_of_predictions(fitted):
    encoder: Any = load(fitted / "onnx").encoder
    assert encoder.identity == load(fitted / "run").encoder.identity
    encoder.precision = "int8"
    first = encoder.identity
    assert first != load(fitted / "run").encoder.identity
    encoder.record = {**encoder.record, "files": {**encoder.record["files"], "image.onnx": "scaled by other images"}}
    assert encoder.identity not in (first, load(fitted / "run").encoder.identity)


def pd_read(path: Path):
    import pandas as pd

    return pd.read_parquet(path)
