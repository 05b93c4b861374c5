"""What all encoders have in common, and that a model of swapped sections is the same one everywhere."""

import numpy as np
import pytest
import torch
from recipes import TINY_MODEL
from runs import write_run
from torch import nn

from imitate.config import Preprocessing
from imitate.data.augment import evaluation_view
from imitate.data.corpus import Corpus
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


def test_one_image_embedding_is_meant_by_every_branch():
    one = encoder(levels=(), keep=(), texts="report")
    seen = one.embed_images(pixels())
    assert list(seen) == ["image"] and one.whole_reports
    findings, impression, both = (image_vectors(seen, branch) for branch in ("findings", "impression", "both"))
    assert torch.equal(findings, impression)
    assert torch.allclose(both @ both.T, findings @ findings.T, atol=1e-6)


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


@pytest.mark.parametrize("model", ["pixels", "test_resnet"])
def test_encoders_of_images_alone_are_loaded_by_name(tmp_path, monkeypatch, model):
    monkeypatch.setattr("imitate.inference.encoder._pretrained", lambda config: nn.Flatten())
    data = Corpus.open(write_run(tmp_path).parent / "data")
    found = load_encoder(model, data=data)
    assert (found.name, found.preprocessing.prepared_size, found.temperature) == (model, 36, 0.07)
    assert not found.has_text and found.lacks == f"{model} has no text encoder"
