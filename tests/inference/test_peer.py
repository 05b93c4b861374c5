"""A published encoder is an encoder like ours: in evaluations, predictions, the viewer, and as a library."""

import json
import logging
from typing import Any

import numpy as np
import pytest
import torch
from folders import write_folder
from peer_files import radiograph, tiny_bert, under, write_vocabulary
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_peers import write_chexzero, write_gloria, write_medklip
from torch.nn import functional as F

import imitate
from imitate.cli import main
from imitate.commands.evaluate import evaluate
from imitate.data.corpus import Corpus
from imitate.errors import UserError
from imitate.inference.encoder import load_encoder
from imitate.inference.peer import PeerEncoder
from imitate.models.peers.base import Scoring
from imitate.tasks.results import read_predictions
from imitate.tasks.zero_shot import ZeroShot


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write_chexzero(tmp_path_factory.mktemp("peer"))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("data") / "data")


def test_a_file_is_prepared_as_its_authors_do(file):
    """320 px within black by Lanczos, mean and deviation on 0 to 255, then bicubic without antialiasing."""
    model = imitate.load(file, device="cpu")
    gray = radiograph(500, 431)
    small = Image.fromarray(gray).resize((320, int(431 * 320 / 500)), Image.Resampling.LANCZOS)
    whole = Image.new("L", (320, 320))
    whole.paste(small, (0, (320 - small.height) // 2))
    values = (torch.from_numpy(np.asarray(whole).copy()).float() - 101.48761) / 83.43944
    expected = F.interpolate(values.expand(1, 3, -1, -1), (32, 32), mode="bicubic", align_corners=False)
    seen = torch.from_numpy(model.read(gray).pixels[None])
    encoder: Any = model.encoder
    found = encoder.image.enter(encoder.prepare(seen))
    assert torch.allclose(found, expected, atol=1e-4)
    assert model.encoder.temperature == pytest.approx(np.exp(-4.0)) and model.encoder.backbone == "CheXzero"


def test_a_predictor_classifies_retrieves_and_draws(file):
    model = imitate.load(file, device="cpu")
    pictures = [radiograph(300, 400), radiograph(400, 300)]
    table = model.classify(pictures, {"Effusion": "effusion"})
    assert table.shape == (2, 1) and table["Effusion"].between(0, 1).all() and table["Effusion"].nunique() == 2
    images, texts = model.embed_images(pictures), model.embed_texts(["No effusion.", "effusion"])
    assert images.shape == (2, 64) and texts.shape == (2, 64)
    np.testing.assert_allclose(np.linalg.norm(images, axis=1), 1, rtol=1e-5)
    found = model.retrieve(image=pictures[0], index=["No effusion.", "effusion"], k=2)
    cosines = sorted((images @ texts.T)[0], reverse=True)
    np.testing.assert_allclose(found["similarity"], cosines, rtol=1e-4)
    heat = model.heatmap(pictures[0], "effusion")
    assert heat.shape == (400, 300) and np.isfinite(heat).all()


def test_baselines_beside_an_imported_folder_have_the_default_network(file, tmp_path):
    from imitate.tasks.measuring import Request, _methods

    request = Request("retrieval", None, None, None, {}, (str(file.parent),), ("random",), None, None, 1)
    assert [method.like for method in _methods(request, tmp_path / "r.json")] == [None, None]


@pytest.mark.parametrize("task", ["zero-shot", "retrieval", "linear-classification"])
def test_tasks_measure_it_on_images_of_any_size(file, data, tmp_path, task, caplog):
    options = {"resamples": 20, **({"seeds": 1} if task == "linear-classification" else {})}
    if task == "linear-classification":
        options["settings"] = ("epochs=2", "batch_size=8")
    elif task == "zero-shot":
        (tmp_path / "prompts.yaml").write_text("{Left: {positive: [left], negative: [right]}}")
        options["prompts"] = tmp_path / "prompts.yaml"
    with caplog.at_level(logging.WARNING):
        found = evaluate(task, model=str(file), data=data, out=tmp_path / "r.json", device="cpu", **options)
    assert found.model == "best_64" and any(each.value is not None for each in found.metrics.values())
    assert "CheXzero was made for 320 px by pad-lanczos" in caplog.text and "--size 320" in caplog.text


def test_the_authors_prompts_and_scoring_are_a_setting(file, data, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "imitate.tasks.zero_shot.embed_texts",
        lambda encoder, texts, device: asked.extend(texts) or encoder.vectors_of_texts(texts),
    )
    evaluate("zero-shot", model=str(file), data=data, out=tmp_path / "r.json", resamples=5, device="cpu", authors=True)
    name = Corpus.open(data).classes[0]
    assert {name, f"no {name}"} <= set(asked)
    with pytest.raises(UserError, match="has no scoring of its authors"):
        run = load_encoder("random", like="recipes/tiny.yaml", data=Corpus.open(data))
        ZeroShot(authors=True)._as_authors(run)
    run.scoring = Scoring(scoring="standardised")  # as GLoRIA's
    with pytest.raises(UserError, match="which the authors of random do not have"):
        ZeroShot(authors=True, threshold="even")._as_authors(run)
    assert ZeroShot(authors=True)._as_authors(run).scoring == "standardised"


def test_the_probabilities_of_several_checkpoints_are_averaged(file, data, tmp_path):
    """As CheXzero's authors do: exp(positive) / (exp(positive) + exp(negative)), the mean over the files."""
    for number, name in enumerate(("a.pt", "b.pt")):
        state = torch.load(file)
        torch.save({**state, "visual.proj": state["visual.proj"].roll(number, 0)}, tmp_path / name)
    (tmp_path / "bpe_simple_vocab_16e6.txt.gz").write_bytes((file.parent / "bpe_simple_vocab_16e6.txt.gz").read_bytes())
    options = {"data": data, "out": tmp_path / "r.json", "resamples": 5, "device": "cpu"}
    scores = []
    for model in (tmp_path / "a.pt", tmp_path / "b.pt", tmp_path):
        found = evaluate("zero-shot", model=str(model), authors=True, **options)
        scores.append(read_predictions(found, tmp_path / "r.json")[0]["score"])
    one, two, both = scores
    np.testing.assert_allclose(both, (1 / (1 + np.exp(-one)) + 1 / (1 + np.exp(-two))) / 2 - 0.5, atol=1e-6)
    assert np.abs(one - two).max() > 1e-4
    with pytest.raises(
        UserError, match=r"holds 2 checkpoints, which only zero-shot --authors averages: give one .*a\.pt"
    ):
        evaluate("retrieval", model=str(tmp_path), **options)
    with pytest.raises(UserError, match="holds 2 checkpoints: give one of them"):
        imitate.load(tmp_path)
    torch.save({"a": torch.zeros(3)}, tmp_path / "c.pt")
    with pytest.raises(UserError, match=r"holds checkpoints of CheXzero, but c\.pt is not: move"):
        evaluate("zero-shot", model=str(tmp_path), authors=True, **options)


def test_a_score_of_the_authors_is_the_best_prompts_and_standardised(data, tmp_path):
    """GLoRIA's: of each class over the test images."""
    file = write_gloria(tmp_path / "gloria")
    prompts = {"Left": ["left effusion", "a large heart"], "Right": ["normal", "no evidence of pneumonia"]}
    sides = {name: {"positive": each, "negative": ["no heart"]} for name, each in prompts.items()}
    (tmp_path / "prompts.yaml").write_text(json.dumps(sides))
    options = {"prompts": tmp_path / "prompts.yaml", "authors": True, "resamples": 5, "device": "cpu"}
    found = evaluate("zero-shot", model=str(file), data=data, out=tmp_path / "r.json", **options)
    (run,) = read_predictions(found, tmp_path / "r.json")
    corpus = Corpus.open(data)
    encoder: Any = load_encoder(str(file), data=corpus)
    pixels = torch.from_numpy(np.array(corpus.images[corpus.rows("test")]))
    each = [encoder.decode(pixels, encoder.ask(prompts[name])).amax(1) for name in run["classes"]]
    expected = torch.stack([(score - score.mean()) / score.std(correction=0) for score in each], 1)
    np.testing.assert_allclose(run["score"], expected, atol=1e-3)


def test_medklip_scores_its_authors_way_alone_and_with_a_bert_beside_it(data, tmp_path):
    file = write_medklip(tmp_path / "medklip")
    (tmp_path / "prompts.yaml").write_text(
        "{Left: {positive: [left], negative: [a]}, Right: {positive: [normal], negative: [a]}}"
    )
    options = {"out": tmp_path / "r.json", "data": data, "prompts": tmp_path / "prompts.yaml", "device": "cpu"}
    with pytest.raises(UserError, match=r"for --authors, put vocab.txt and pytorch_model.bin of .* beside it"):
        evaluate("zero-shot", model=str(file), authors=True, **options)
    (tmp_path / "bert").mkdir()
    torch.save(under("bert.", tiny_bert()), tmp_path / "bert/pytorch_model.bin")
    write_vocabulary(tmp_path / "bert")
    assert main(["import", str(file), "--out", str(tmp_path / "out"), "--text", str(tmp_path / "bert")]) == 0
    with pytest.raises(UserError, match="has no text encoder"):
        evaluate("zero-shot", model=str(tmp_path / "out"), **options)
    found = evaluate("zero-shot", model=str(tmp_path / "out"), authors=True, resamples=5, **options)
    (run,) = read_predictions(found, tmp_path / "r.json")
    assert ((run["score"] > 0) & (run["score"] < 1)).all() and len(np.unique(run["score"])) > len(run["classes"])
    asked = [
        "left",
        "normal",
        "no pneumonia",
    ]  # the third is of no class of the data, and asked together with the others
    (tmp_path / "prompts.yaml").write_text(
        json.dumps(
            {
                name: {"positive": [text], "negative": ["a"]}
                for name, text in zip(("Left", "Right", "Other"), asked, strict=True)
            }
        )
    )
    more = evaluate("zero-shot", model=str(tmp_path / "out"), authors=True, resamples=5, **options)
    score = read_predictions(more, tmp_path / "r.json")[0]["score"]
    corpus = Corpus.open(data)
    encoder: Any = load_encoder(str(tmp_path / "out"), data=corpus)
    pixels = torch.from_numpy(np.array(corpus.images[corpus.rows("test")]))
    np.testing.assert_allclose(score, encoder.decode(pixels, encoder.ask(asked))[:, :2], atol=1e-5)
    assert score.shape == run["score"].shape and np.abs(score - run["score"]).max() > 1e-5
    first = load_encoder(str(tmp_path / "out"), data=Corpus.open(data)).identity
    state = load_file(tmp_path / "out/model.safetensors")
    save_file({**state, "text/bert.embeddings.LayerNorm.bias": torch.ones(128)}, tmp_path / "out/model.safetensors")
    assert load_encoder(str(tmp_path / "out"), data=Corpus.open(data)).identity != first


def test_without_a_vocabulary_it_has_no_text_and_says_what_is_lacking(file, data, tmp_path):
    bare = tmp_path / "best_64.pt"
    bare.write_bytes(file.read_bytes())
    found = load_encoder(str(bare), data=Corpus.open(data))
    assert isinstance(found, PeerEncoder) and not found.has_text
    with pytest.raises(UserError, match="has no vocabulary: put bpe_simple_vocab_16e6"):
        imitate.load(bare).classify(radiograph(64, 64), {"Effusion": "effusion"})


def test_it_is_known_by_weights_vocabulary_and_preprocessing(file, data, tmp_path):
    prepared = Corpus.open(data)
    first = load_encoder(str(file), data=prepared).identity
    assert first == load_encoder(str(file), data=prepared).identity
    assert first != imitate.load(file).encoder.identity  # which sees images of another size
    for change in ("visual.proj", "text_projection"):
        state = torch.load(file)
        state[change] = state[change] + 1e-3
        torch.save(state, tmp_path / "best_64.pt")
        (tmp_path / "bpe_simple_vocab_16e6.txt.gz").write_bytes(
            (file.parent / "bpe_simple_vocab_16e6.txt.gz").read_bytes()
        )
        assert load_encoder(str(tmp_path / "best_64.pt"), data=prepared).identity != first


def test_reports_are_kept_as_they_are_stored(file, data, tmp_path):
    found = load_encoder(str(file), data=Corpus.open(data), cache=tmp_path)
    texts = ["No effusion.", "There is an effusion."]
    assert torch.allclose(found.embed_reports(texts), found.embed_texts(texts), atol=2e-3)
    assert list(tmp_path.rglob("*.npy"))


def test_the_viewer_serves_it(tmp_path):
    from imitate.serve.service import Service

    service = Service(imitate.load(write_gloria(tmp_path), device="cpu"))
    assert service.about.backbone == "GLoRIA" and service.about.prompts
