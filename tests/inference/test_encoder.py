"""What all encoders have in common, and that a model of swapped sections is the same one everywhere."""

import numpy as np
import pytest
import torch
import yaml
from recipes import TINY_MODEL
from runs import write_run
from torch import nn

from imitate.config import Preprocessing, Recipe, TextLevel
from imitate.data.augment import evaluation_view
from imitate.data.corpus import Corpus
from imitate.errors import UserError
from imitate.inference.encoder import Encoder, ImitateEncoder, Pixels, load_encoder, load_folder
from imitate.inference.gallery import image_vectors
from imitate.inference.predictor import Predictor, load
from imitate.models.imitate import freeze_all, seeded_model
from imitate.models.text import LsaTextEncoder

TEXT = LsaTextEncoder.fit(["left effusion", "right opacity", "clear lungs", "large heart", "no effusion"], width=3)


def encoder(**changes: object) -> ImitateEncoder:
    config = TINY_MODEL.model_copy(update={"text_width": TEXT.width, **changes})
    model = seeded_model(config, pretrained=False, seed=0)
    freeze_all(model)
    return ImitateEncoder("tiny", model, TEXT)


def pixels(count: int = 3) -> torch.Tensor:
    return torch.randint(0, 256, (count, 36, 36), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_a_model_of_swapped_sections_is_the_same_in_embeddings_gallery_predictor_and_probabilities():
    plain, swapped = encoder(), encoder(texts="swapped")
    seen, other = plain.embed_images(pixels()), swapped.embed_images(pixels())
    assert torch.equal(seen["findings"], other["impression"]) and torch.equal(seen["impression"], other["findings"])
    predictors = Predictor(plain), Predictor(swapped)
    image, prompts = pixels()[0].numpy(), {"Effusion": "effusion"}
    for branch, opposite in (("findings", "impression"), ("impression", "findings"), ("both", "both")):
        tables = [
            each.classify(image, prompts, branch=name)
            for each, name in zip(predictors, (branch, opposite), strict=True)
        ]
        np.testing.assert_allclose(*tables, rtol=1e-5)
        maps = [
            each.heatmap(image, "left effusion", branch=name)
            for each, name in zip(predictors, (branch, opposite), strict=True)
        ]
        np.testing.assert_allclose(*maps, atol=1e-4)


def texts(*pairs: tuple[str, str]) -> tuple[TextLevel, ...]:
    """Of pairs of a text and its branch."""
    return tuple(TextLevel.model_validate({"text": text, "branch": branch}) for text, branch in pairs)


@pytest.mark.parametrize(
    ("pairs", "swapped"),
    [
        ([("impression", "findings"), ("report", "impression")], True),
        ([("sentences", "findings"), ("findings", "impression")], True),
        ([("impression", "findings"), ("findings", "impression"), ("report", "findings")], True),
        ([("findings", "findings"), ("report", "impression")], False),
        ([("impression", "findings"), ("impression", "impression")], False),
        ([("findings", "findings"), ("impression", "findings"), ("findings", "impression")], False),
        ([("report", "findings"), ("sentences", "impression")], False),
    ],
)
def test_sections_are_swapped_where_a_branch_learned_the_others_and_none_its_own(pairs, swapped):
    plain, other = (encoder(**each).embed_images(pixels()) for each in ({}, {"texts": texts(*pairs)}))
    for section, opposite in (("findings", "impression"), ("impression", "findings")):
        assert torch.equal(other[section], plain[opposite if swapped else section])


def test_one_image_embedding_is_meant_by_every_branch():
    one = encoder(levels=(), keep=(), texts="report")
    seen = one.vectors_of_images(pixels().numpy())
    assert list(seen) == ["image"] and one.whole_reports
    findings, impression, both = (image_vectors(seen, branch) for branch in ("findings", "impression", "both"))
    assert np.array_equal(findings, impression)
    assert np.allclose(both @ both.T, findings @ findings.T, atol=1e-6)


def test_vectors_are_of_length_one_and_texts_may_be_missing():
    made = encoder()
    for vectors in (*made.embed_images(pixels()).values(), made.embed_texts(["left effusion"])):
        assert torch.allclose(vectors.norm(dim=1), torch.ones(len(vectors)), atol=1e-5)
    plain = Encoder("pixels", Pixels(), TINY_MODEL)
    assert plain.embed_texts(["a"]) is None and plain.embed_reports(["a"]) is None and not plain.has_text
    assert plain.features(pixels()).pooled.shape == (3, 24 * 24)
    untaught = encoder(reads_text=False, objective="simclr")
    assert untaught.embed_texts(["left effusion"]) is None and not untaught.has_text


def test_reports_are_embedded_as_they_are_stored_whether_a_cache_keeps_them_or_not(tmp_path):
    run = load_folder(write_run(tmp_path))
    texts = Corpus.open(tmp_path / "data").text("findings").dropna().tolist()[:4]
    kept = load_folder(tmp_path / "run", cache=tmp_path / "cache")
    first = kept.embed_reports(texts)
    assert torch.equal(first, run.embed_reports(texts)) and list((tmp_path / "cache/text").rglob("*.npy"))
    assert torch.equal(first, load_folder(tmp_path / "run", cache=tmp_path / "cache").embed_reports(texts))
    assert not (tmp_path / "run" / "text_cache").exists()
    assert torch.allclose(first, run.embed_texts(texts), atol=1e-2)


def test_of_a_run_that_was_killed_it_is_said_that_its_model_is_of_before(tmp_path, caplog):
    run = write_run(tmp_path)
    load_folder(run)
    assert "has not finished" not in caplog.text
    (tmp_path / "run" / "starts.jsonl").write_text('{"step": 0, "total": 9}\n')
    (tmp_path / "run" / "metrics.jsonl").write_text('{"step": 5}\n{"step": 9, "lo')
    load_folder(run)
    assert "has not finished, it is at step 5 of 9: the model of its last validation is used" in caplog.text


def test_an_encoder_is_known_by_its_weights_text_encoder_and_preprocessing():
    identity = encoder().identity
    assert identity == encoder().identity and len(identity) == 64
    other = encoder()
    with torch.no_grad():
        next(other.model.parameters()).view(-1)[0] += 1e-6
    assert len({identity, other.identity, encoder(std=(1.0, 1.0, 1.0)).identity}) == 3
    assert ImitateEncoder("tiny", encoder().model).identity != identity
    renamed = encoder()
    renamed.name = "other"
    assert renamed.identity == identity


def test_the_temperature_of_training_is_kept_with_the_model_and_is_the_default(tmp_path):
    run = write_run(tmp_path, temperature=0.5)
    predictor = load(str(run))
    assert predictor.encoder.temperature == 0.5
    image, prompts = (
        np.array(Corpus.open(tmp_path / "data").images[0]),
        {"Left": {"positive": "left", "negative": "right"}},
    )
    default, same, published = (
        float(predictor.classify(image, prompts, temperature=each).iloc[0, 0]) for each in (None, 0.5, 0.07)
    )
    assert default == same != published


def test_channels_and_range_are_the_encoders():
    wanted = Preprocessing(prepared_size=36, image_size=32, range=(-1024, 1024), mean=(0.0,), std=(1.0,))
    view = evaluation_view(pixels(), wanted)
    assert view.shape == (3, 1, 32, 32) and wanted.channels == 1
    torch.testing.assert_close(view[:, 0], pixels()[:, 2:34, 2:34] / 255 * 2048 - 1024)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return Corpus.open(write_run(tmp_path_factory.mktemp("encoder")).parent / "data")


@pytest.mark.parametrize("model", ["pixels", "timm:test_resnet", "imagenet"])
def test_encoders_of_images_alone_are_loaded_by_name(data, monkeypatch, model):
    built = []

    def build(name, **options):
        built.append((name, options))
        return nn.Flatten()

    monkeypatch.setattr("imitate.inference.encoder.ImageEncoder", build)
    found = load_encoder(model, data=data)
    assert (found.name, found.preprocessing.prepared_size, found.temperature) == (model, 36, 0.07)
    assert not found.has_text and found.lacks == f"{model} has no text encoder"
    assert found.preprocessing.mean[0] == (0.5 if model == "timm:test_resnet" else 0.485)
    name = {"timm:test_resnet": "test_resnet", "imagenet": "resnet50"}.get(model)
    assert built == ([(name, {"pretrained": True, "options": {}, "size": 31, "channels": 3})] if name else [])


@pytest.mark.parametrize(
    "model, like, message",
    [
        ("resnet18", None, "no model at resnet18: for the network of timm, write timm:resnet18"),
        ("someone/model", None, "a repository of the hub is hf-hub:someone/model"),
        ("runs/absent", None, "no model at runs/absent: there is no such folder"),
        ("timm:hf-hub:someone/model", None, "timm:hf-hub:someone/model: .* must be the name of a timm network"),
        ("timm:resnet1888", None, "timm has no network 'resnet1888'; it has for instance resnet18"),
        ("random", "resnet18", "--like resnet18: .*for the network of timm, write timm:resnet18"),
        ("random", "nonsense", "--like nonsense: give a run, a recipe or timm:NAME"),
    ],
)
def test_a_bare_string_is_a_path_or_a_word_and_older_names_get_a_hint(data, monkeypatch, model, like, message):
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: pytest.fail("asked the hub"))
    with pytest.raises(UserError, match=message):
        load_encoder(model, like=like, data=data)
    assert load_encoder("random", like="timm:test_resnet", data=data).backbone == "test_resnet"


def test_a_repository_of_the_hub_is_loaded_by_its_name(data, monkeypatch):
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(data.root.parent / "run"))
    found = load_encoder("hf-hub:someone/model@v1", data=data)
    assert found.name == "hf-hub:someone/model@v1" and found.has_text


def test_text_is_computed_where_the_model_is(tmp_path, monkeypatch):
    moves = []
    monkeypatch.setattr("imitate.inference.encoder.place", lambda encoder, device: moves.append(device))
    encoder().to("cpu").embed_texts(["left effusion"])
    assert moves == ["cpu"]


@pytest.mark.parametrize("objective, has_text", [("clip", True), ("imitate", True), ("simclr", False)])
def test_random_weights_like_a_recipe_are_those_that_pre_training_starts_from(data, tmp_path, objective, has_text):
    recipe = Recipe(model=TINY_MODEL, pretrained=False, text="lsa-8", objective={"name": objective})
    path = tmp_path / f"{objective}.yaml"
    path.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    found = load_encoder("random", like=str(path), data=data, seed=3)
    assert isinstance(found, ImitateEncoder)
    assert found.has_text == has_text and found.model.config.reads_text == has_text
    built = recipe.resolved().model.model_copy(update={"text_width": found.model.config.text_width})
    start = seeded_model(built, pretrained=False, seed=3).state_dict()
    assert ("aggregation.cls_token" in start) == (objective == "imitate")
    assert start.keys() == found.model.state_dict().keys()
    assert all(torch.equal(value, start[name]) for name, value in found.model.state_dict().items())


def test_reports_are_embedded_by_the_statistics_of_their_section():
    apart, shared = encoder(text_statistics="section"), encoder()
    apart.model.load_state_dict(shared.model.state_dict(), strict=False)
    for norm in (apart.model.text_head[1], apart.model.text_head[4]):
        norm.section_mean[1] += 0.3
    texts = ["left effusion", "clear lungs"]
    plain = shared.embed_reports(texts, "findings")
    assert torch.allclose(apart.embed_reports(texts, "findings"), plain)
    assert torch.allclose(apart.embed_reports(texts, "report"), plain)
    assert not torch.allclose(apart.embed_reports(texts, "impression"), plain, atol=0.01)
