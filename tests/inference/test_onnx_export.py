"""What the exported graphs say is what torch says."""

import json
import logging
import re
from typing import Any

import numpy as np
import pytest
import torch
from folders import write_folder
from runs import write_run
from text_models import SMALL, texts, write_gpt
from tiny_peers import write_chexzero

from imitate.cli import main
from imitate.data.corpus import Corpus
from imitate.inference import onnx_export, onnx_int8
from imitate.inference import onnx_graphs as graphs
from imitate.inference.calibration import Calibration, ClassCalibration, OperatingPoint, beside, preprocessing_digest
from imitate.inference.onnx_export import export_onnx
from imitate.inference.onnx_graphs import reached
from imitate.inference.predictor import Predictor, load
from imitate.models import small_bert
from imitate.models.hugging_face import HuggingFaceTextEncoder
from imitate.models.lsa import words_of
from imitate.models.small_bert import SmallBertTextEncoder

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
CLASSES = {"Edema": "edema", "Effusion": "left effusion", "Opacity": "opacity"}
FEWER = {"Effusion": "left effusion", "Opacity": "upper opacity"}
VIT = {"depth": 4, "embed_dim": 32, "num_heads": 2, "patch_size": 8}


def session(path):
    return runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def pixels_of(predictor: Predictor, images: np.ndarray) -> np.ndarray:
    """What the model sees of them as files, whose gray values are stretched."""
    prepared = np.stack([predictor.read(image).pixels for image in images])
    encoder: Any = predictor.encoder
    return encoder.prepare(torch.from_numpy(prepared)).numpy()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("data") / "data", n=100)


@pytest.fixture(scope="module")
def images(data) -> np.ndarray:
    return np.array(Corpus.open(data).images)


@pytest.fixture(scope="module")
def channels(tmp_path_factory, data):
    """A ResNet, fitted words, and a calibration of each kind."""
    root = tmp_path_factory.mktemp("channels")
    predictor = load(write_run(root, data=data))
    prompts = predictor.scorer(CLASSES).prompts
    point = OperatingPoint(aim="sensitivity", at=0.9, threshold=-0.023456789)
    x, y = (-0.05, 0.001, 0.04, 0.041), (0.01, 0.2, 0.6, 0.99)
    found = {
        "Edema": ClassCalibration(method="isotonic", scores=x, values=y, prompts=prompts["Edema"], operating=point),
        "Effusion": ClassCalibration(method="platt", slope=30.0, intercept=-1, prompts=prompts["Effusion"]),
        "Opacity": ClassCalibration(method=None, note="no positive image", prompts=prompts["Opacity"],
                                    operating=point.model_copy(update={"threshold": -0.035})),
    }  # fmt: skip
    Calibration(
        task="zero-shot", method="platt", date="2026-01-02", branch="both", classes=found,
        data={"name": "first", "split": "val", "images": 100, "patients": 90},
        weights=predictor.encoder.digest(), preprocessing=preprocessing_digest(predictor.encoder),
    ).save(beside(root / "run"))  # fmt: skip
    assert main(["export", "--model", str(root / "run"), "--to", str(root / "onnx"), "--format", "onnx"]) == 0
    return root


@pytest.fixture(scope="module")
def spatial(tmp_path_factory, data):
    """A vision transformer, and a BERT that was trained on the reports."""
    root = tmp_path_factory.mktemp("spatial")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(small_bert, "SHAPE", SMALL)
        text = SmallBertTextEncoder.fit(texts(), steps=2)
    grid = {"aggregation": "spatial", "token_width": 16, "heads": 2, "text_width": text.width}
    run = write_run(root, data=data, text=text, backbone="vit_tiny_patch16_224", backbone_options=VIT, **grid)
    export_onnx(str(run), root / "onnx", prompts=FEWER, branch="findings", license="cc-by-nc-4.0")
    return root


@pytest.fixture(scope="module")
def pooled(tmp_path_factory, data):
    """A ResNet, and a causal transformer, whose last word piece is taken."""
    root = tmp_path_factory.mktemp("pooled")
    text = HuggingFaceTextEncoder(str(write_gpt(root / "gpt", padding="left")), revision=None, pooling=None)
    network = {"backbone_options": {"channels": [4, 8, 16, 32], "layers": [1, 1, 1, 1]}, "aggregation": "pooled"}
    run = write_run(root, data=data, text=text, token_width=16, text_width=text.width, **network)
    export_onnx(str(run), root / "onnx")
    return root


@pytest.mark.parametrize("name", ["channels", "spatial", "pooled"])
def test_images_have_the_vectors_of_torch_in_any_batch(request, name, images):
    root = request.getfixturevalue(name)
    predictor = load(root / "run")
    record = json.loads((root / "onnx" / "imitate.json").read_text())
    assert record["sections"] == {"findings": "multi", "impression": "high"}
    assert record["preprocessing"] == predictor.encoder.preprocessing.model_dump(mode="json")
    onnx.checker.check_model(str(root / "onnx" / "image.onnx"), full_check=True)
    run = session(root / "onnx" / "image.onnx")
    encoder: Any = predictor.encoder
    pixels = encoder.prepare(torch.from_numpy(images)).numpy()
    with torch.inference_mode():
        wanted = encoder.embed_images(torch.from_numpy(images))
    for batch in (1, 7, 100):
        parts = [run.run(["high", "multi"], {"pixels": pixels[at : at + batch]}) for at in range(0, 100, batch)]
        high, multi = (np.concatenate(each) for each in zip(*parts, strict=True))
        assert np.abs(high - wanted["impression"].numpy()).max() < 1e-4
        assert np.abs(multi - wanted["findings"].numpy()).max() < 1e-4
        assert np.abs(high - multi).max() > 0.1


@pytest.mark.parametrize("name", ["spatial", "pooled"])
def test_texts_have_the_vectors_of_torch_in_any_batch_and_length(request, name):
    from tokenizers import Tokenizer

    root = request.getfixturevalue(name)
    text, said = load(root / "run"), [*texts(9), "heart", "effusion opacity " * 300]
    reads, run = Tokenizer.from_file(str(root / "onnx" / "tokenizer.json")), session(root / "onnx" / "text.onnx")
    for batch in (said, said[:1], said[3:5], said[-1:]):
        pieces = reads.encode_batch(batch)
        inputs = {"input_ids": np.array([each.ids for each in pieces])}
        inputs["attention_mask"] = np.array([each.attention_mask for each in pieces])
        found = run.run(None, inputs)
        wanted = text.embed_texts(batch, branch="findings")
        assert all(np.abs(each - wanted).max() < 1e-4 for each in found) and len(found) == 2


def test_arrays_and_a_vocabulary_are_enough_to_read_texts(channels):
    from sklearn.feature_extraction.text import TfidfVectorizer

    folder, said = channels / "onnx", ["left effusion and edema", "no effusion", "opacity"]
    arrays = np.load(folder / "text.npz")
    vocabulary = json.loads((folder / "vocabulary.json").read_text())
    reads = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, tokenizer=words_of, token_pattern=None,
                            vocabulary={term: i for i, term in enumerate(vocabulary)})  # fmt: skip
    reads.idf_ = arrays["idf"].astype(float)
    vectors = reads.transform(said) @ arrays["components"].T - arrays["mean"]
    hidden = np.maximum(vectors @ arrays["weight_1"].T + arrays["bias_1"], 0)
    found = hidden @ arrays["weight_2"].T + arrays["bias_2"]
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    assert np.abs(found - load(channels / "run").embed_texts(said, branch="findings")).max() < 1e-5


def test_a_classifier_decides_as_predict_does(channels, images):
    """The probabilities of an isotonic class, of a Platt one and of one without, and the thresholds of two."""
    predictor, folder = load(channels / "run"), channels / "onnx"
    table = predictor.classify(list(images), decide=True)
    record = json.loads((folder / "imitate.json").read_text())["classifier"]
    assert record["classes"] == list(CLASSES) and record["decided"] == ["Edema", "Opacity"]
    assert record["calibration"]["Opacity"] == "uncalibrated: no positive image"
    run, pixels = session(folder / "classifier.onnx"), pixels_of(predictor, images)
    scorer = predictor.scorer()
    for batch in (1, 33, 100):
        parts = [
            run.run(["scores", "probabilities", "decisions"], {"pixels": pixels[at : at + batch]})
            for at in range(0, 100, batch)
        ]
        scores, probabilities, decisions = (np.concatenate(each) for each in zip(*parts, strict=True))
        assert np.abs(probabilities - table[list(CLASSES)].to_numpy()).max() < 1e-4
        assert decisions.dtype == bool
        for column, name in enumerate(record["decided"]):
            at = scorer.calibration.threshold(name)
            clear = np.abs(scores[:, list(CLASSES).index(name)] - at) > 1e-6
            assert (decisions[:, column] == table[f"{name} positive"])[clear].all() and clear.mean() > 0.9
            assert 0 < decisions[:, column].mean() < 1
    assert np.ptp(probabilities, axis=0).min() > 1e-3


def test_a_classifier_of_one_branch_and_without_calibration(spatial, images):
    predictor, path = load(spatial / "run"), spatial / "onnx" / "classifier.onnx"
    run = session(path)
    assert [each.name for each in run.get_outputs()] == ["scores", "probabilities"]
    table = predictor.classify(list(images), FEWER, branch="findings")
    found = run.run(["probabilities"], {"pixels": pixels_of(predictor, images)})[0]
    assert np.abs(found - table.to_numpy()).max() < 1e-4
    heads = [each.name for each in onnx.load(path).graph.initializer if "impression_head" in each.name]
    assert not heads, "the branch that is not asked is excluded"


def test_a_file_says_how_to_feed_it_what_it_may_be_used_for_and_nothing_of_this_machine(spatial, tmp_path):
    for name in ("image", "text", "classifier"):
        graph = onnx.load(spatial / "onnx" / f"{name}.onnx")
        said = {each.key: each.value for each in graph.metadata_props}
        assert said["notice"] == "For research use only, not a medical device."
        assert said["license"] == "cc-by-nc-4.0" and said["kind"] == name
        assert (graph.opset_import[0].version, graph.ir_version) == (18, 8) and len(graph.opset_import) == 1
        axes = [each.type.tensor_type.shape.dim[0].dim_param for each in (*graph.graph.input, *graph.graph.output)]
        assert set(axes) == {"batch"}
        assert not any(node.metadata_props or node.doc_string for node in graph.graph.node)
        text = (spatial / "onnx" / f"{name}.onnx").read_bytes()
        assert not re.search(rb"\.py\b|site-packages", text) and str(spatial).encode() not in text
    said = {each.key: each.value for each in onnx.load(spatial / "onnx" / "classifier.onnx").metadata_props}
    assert json.loads(said["preprocessing"])["mean"] == [0.485, 0.456, 0.406]
    assert "the central 32 px" in said["images"] and json.loads(said["classes"]) == list(FEWER)
    assert json.loads(said["prompts"])["Opacity"]["negative"]
    card = (spatial / "onnx" / "README.md").read_text(encoding="utf-8")
    assert card.startswith('---\nlicense: "cc-by-nc-4.0"\n') and "**Research software, not a medical device.**" in card
    assert "| classes | Effusion, Opacity |" in card and said["images"] in card and "\n\n\n" not in card
    assert "words of the training reports" in card and str(spatial) not in card


def test_classes_keep_their_prompts_and_vectors_so_that_no_text_is_read_again(spatial):
    predictor = load(spatial / "run")
    record = json.loads((spatial / "onnx" / "imitate.json").read_text())
    sides = [[record["classes"][name]["vectors"][side] for name in FEWER] for side in ("positive", "negative")]
    scorer = predictor.scorer(FEWER, branch="findings")
    assert np.abs(np.subtract(*sides) - scorer.differences).max() < 1e-6
    assert record["calibration"] is None and record["notice"].startswith("For research use only")
    assert sorted([*record["files"], "README.md", "imitate.json"]) == sorted(
        path.name for path in (spatial / "onnx").iterdir()
    )
    assert record["identity"] == predictor.encoder.identity and record["weights"] == predictor.encoder.digest()


@pytest.mark.parametrize("name", ["channels", "spatial"])
def test_a_graph_of_8_bits_is_near_and_fine_where_it_matters(request, name, data):
    root = request.getfixturevalue(name)
    encoder, corpus, path = load(root / "run").encoder, Corpus.open(data), root / "onnx" / "image.onnx"
    whole = onnx.load(path)
    small = onnx_int8.quantised(whole, encoder, corpus)
    onnx.checker.check_model(small, full_check=True)
    assert [(each.domain, each.version) for each in small.opset_import] == [("", 18)] and small.ir_version == 8
    kinds = {each.name: each.data_type for each in small.graph.initializer}
    heads = {name: kind for name, kind in kinds.items() if "_head." in name and name.endswith(".weight")}
    assert len(heads) == 4 and set(heads.values()) == {onnx.TensorProto.FLOAT}
    eight = [name for name, kind in kinds.items() if kind == onnx.TensorProto.INT8 and name.endswith("quantized")]
    assert len(eight) > 10
    found = onnx_int8.loss(session(path), runtime.InferenceSession(small.SerializeToString()), encoder, corpus)
    assert found["images"] == len(corpus.rows("val")) and 0.9 < found["least_cosine"] < found["cosine"] < 1 - 1e-6


def test_int8_says_what_it_changes_and_words_of_reports_are_warned_of(channels, pooled, data, tmp_path, caplog):
    whole = onnx.load(channels / "onnx" / "image.onnx")
    command = ["export", "--model", str(channels / "run"), "--format", "onnx", "--int8", str(data)]
    with pytest.MonkeyPatch.context() as patch, caplog.at_level(logging.INFO):
        patch.setattr(graphs, "image_graph", lambda _: whole)
        assert main([*command, "--to", str(tmp_path / "small")]) == 0
        command[-2:] = ["--images-only"]
        assert main([*command, "--to", str(tmp_path / "images")]) == 0
    record = json.loads((tmp_path / "small" / "imitate.json").read_text())
    assert record["precision"] == "int8" and 0.9 < record["int8"]["least_cosine"] < record["int8"]["cosine"] < 1
    assert "int8 compared with float32 on " in caplog.text
    assert "vocabulary.json lists words of the training reports: read it before you share it" in caplog.text
    for name in ("image", "classifier"):
        assert {node.op_type for node in onnx.load(tmp_path / "small" / f"{name}.onnx").graph.node} >= {
            "QuantizeLinear"
        }
    names = sorted(path.name for path in (tmp_path / "images").iterdir())
    assert names == ["README.md", "classifier.onnx", "image.onnx", "imitate.json"], "no words of reports"
    assert json.loads((tmp_path / "images" / "imitate.json").read_text())["classes"].keys() == set(CLASSES)
    assert not (pooled / "onnx" / "vocabulary.json").exists()
    assert not (pooled / "onnx" / "classifier.onnx").exists(), "no prompts, no calibration"


def test_a_published_encoder_is_asked_the_classes_that_were_fixed_and_is_named_without_a_path(tmp_path, images, caplog):
    file, asked = (
        write_chexzero(tmp_path / "peer"),
        {"Effusion": {"positive": ["effusion"], "negative": ["no effusion"]}},
    )
    export_onnx(str(file), tmp_path / "onnx", prompts=asked)
    assert "is not exported: the folder classifies only by its own classes" in caplog.text
    for path in (tmp_path / "onnx").iterdir():
        assert str(tmp_path).encode() not in path.read_bytes(), path.name
    table, found = load(file).classify(list(images[:9]), asked), load(tmp_path / "onnx").classify(list(images[:9]))
    assert (table - found).abs().to_numpy().max() < 1e-4 and table["Effusion"].std() > 1e-3


@pytest.mark.parametrize("threshold", [0.1, -0.1, 0.25, 1e-9])
def test_a_threshold_decides_of_every_float32_as_in_float64(threshold):
    near = np.float32(threshold)
    for score in (np.nextafter(near, np.float32(-1)), near, np.nextafter(near, np.float32(1))):
        assert (score >= reached(threshold)) == (float(score) >= threshold)


def test_weights_too_large_for_one_file_lie_beside_it(spatial, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_export, "LARGEST", 1000)
    onnx_export.save(onnx.load(spatial / "onnx" / "image.onnx"), tmp_path / "image.onnx")
    assert (tmp_path / "image.onnx.data").stat().st_size > (tmp_path / "image.onnx").stat().st_size
    pixels = np.zeros((2, 3, 32, 32), np.float32)
    expected, found = (
        session(each / "image.onnx").run(None, {"pixels": pixels}) for each in (spatial / "onnx", tmp_path)
    )
    assert all(map(np.array_equal, expected, found))


def test_mistakes_are_one_line_and_leave_nothing(channels, tmp_path, capsys, monkeypatch):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious").write_text("")
    run, new = str(channels / "run"), tmp_path / "new"

    def refused(*flags: str, format: str = "onnx") -> str:
        assert main(["export", "--model", run, "--format", format, *flags]) == 2
        reported = capsys.readouterr().err
        assert reported.count("\n") == 1 and not new.exists()
        return reported

    assert "is not an empty folder" in refused("--to", str(tmp_path / "full"))
    assert "only --format onnx accepts them" in refused("--to", str(new), "--prompts", "A=b", format="safetensors")
    other = write_folder(tmp_path / "other", n=8, size=40)
    assert "this model needs 36" in refused("--to", str(new), "--int8", str(other))
    assert "knows no word of 'zzz'" in refused("--to", str(new), "--prompts", "A=zzz")
    with monkeypatch.context() as patch:
        patch.setattr(torch.onnx, "export", lambda *_, **__: 1 / 0)
        assert "resnet18 cannot be exported to ONNX (division by zero)" in refused("--to", str(new))
    whole = onnx.load(channels / "onnx" / "image.onnx")
    monkeypatch.setattr(graphs, "image_graph", lambda _: whole)
    with monkeypatch.context() as patch:
        patch.setattr(onnx_export, "TOLERANCE", 0)
        assert "onnxruntime differs from torch by" in refused("--to", str(new))
    with monkeypatch.context() as patch:
        patch.setitem(__import__("sys").modules, "onnxscript", None)
        assert "pip install 'imitate-cxr[onnx]'" in refused("--to", str(new))
