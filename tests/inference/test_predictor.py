import logging
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from example import Listed
from folders import WORDS, write_folder
from PIL import Image
from runs import write_run
from torch.nn.functional import cosine_similarity, normalize

import imitate
from imitate.data.augment import evaluation_view
from imitate.data.corpus import Corpus
from imitate.data.pixels import to_prepared
from imitate.errors import UserError
from imitate.inference.heatmap import heatmap
from imitate.inference.predictor import Predictor, load
from imitate.models.imitate import Imitate
from imitate.models.text import load_text_encoder

BRANCHES = ["both", "findings", "impression"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("inference")
    write_run(root)
    return root


@pytest.fixture(scope="module")
def predictor(root) -> Predictor:
    return load(root / "run")


@pytest.fixture(scope="module")
def images(root) -> list[np.ndarray]:
    """Ready to be prepared into what they are: no border, full contrast, the model's size."""
    images = np.array(Corpus.open(root / "data").images)
    images[:, 0, 0], images[:, -1, -1], images[:, 0, -1] = 255, 1, 0
    images[:, :, 0] = images[:, :, 0].clip(1)
    images[:, 1, 1] = 0
    return list(images)


def branches(root, pixels: np.ndarray, text: str) -> dict[str, float]:
    """The plain way: model, view, cosine."""
    model = Imitate.from_pretrained(root / "run" / "model")
    encoded = load_text_encoder(root / "run" / "text").encode([text])
    with torch.inference_mode():
        seen = model.encode_image(evaluation_view(torch.from_numpy(pixels[None]), model.config))
        read = model.encode_text(encoded)
    cosines = {each: cosine_similarity(getattr(seen, each), read).item() for each in ("findings", "impression")}
    return cosines | {"both": sum(cosines.values()) / 2}


def test_public_names_are_the_door():
    assert imitate.load is load and imitate.Predictor is Predictor and imitate.Imitate is Imitate


@pytest.mark.parametrize("branch", BRANCHES)
def test_probability_is_a_softmax_over_the_two_sides_cosines(root, predictor, images, branch):
    seen = predictor.read(images[3])
    assert np.array_equal(seen.pixels, images[3])
    prompts = {"Effusion": {"positive": "left effusion", "negative": "clear lungs"}}
    table = predictor.classify(seen, prompts, branch=branch, temperature=0.2)
    sides = torch.tensor([branches(root, images[3], text)[branch] for text in ("left effusion", "clear lungs")])
    assert table.loc["image", "Effusion"] == pytest.approx((sides / 0.2).softmax(0)[0].item(), abs=1e-5)


def test_an_ensemble_is_the_unit_vector_in_the_middle(root, predictor, images):
    texts = ["left effusion", "small opacity"]
    model = Imitate.from_pretrained(root / "run" / "model")
    encoded = load_text_encoder(root / "run" / "text").encode(texts)
    with torch.inference_mode():
        middle = normalize(normalize(model.encode_text(encoded)).mean(0), dim=0)
    image = torch.from_numpy(predictor.embed_images(images[0], branch="findings")[0])
    clear = torch.from_numpy(predictor.embed_texts("clear", branch="findings")[0])
    expected = ((image @ middle - image @ clear) / 0.07).sigmoid().item()
    table = predictor.classify(images[0], {"A": {"positive": texts, "negative": "clear"}}, branch="findings")
    assert table.iloc[0, 0] == pytest.approx(expected, abs=1e-5)


def test_thousands_are_read_a_batch_at_a_time_and_give_what_each_gives_alone(predictor, images):
    read_so_far, read_at_batch = [], []

    def sources():
        for image in images * 30:
            read_so_far.append(None)
            yield image

    watch = predictor.encoder.model.image.register_forward_hook(lambda *_: read_at_batch.append(len(read_so_far)))
    table = predictor.classify(sources(), {"Effusion": "effusion", "Edema": "edema"})
    watch.remove()
    assert table.shape == (1200, 2) and table.index.name == "image" and list(table.index[:2]) == ["0", "1"]
    assert read_at_batch[:3] == [64, 128, 192] and read_at_batch[-1] == 1200
    alone = predictor.classify(images[7], {"Edema": "edema"})
    assert table["Edema"].iloc[7] == pytest.approx(alone["Edema"].iloc[0], abs=1e-6)


@pytest.mark.parametrize("branch", BRANCHES)
def test_embeddings_multiply_to_the_branchs_cosine(root, predictor, images, branch):
    seen = predictor.embed_images(images[:2], branch=branch)
    read = predictor.embed_texts(["left effusion"], branch=branch)
    assert np.allclose(np.linalg.norm(seen, axis=1), 1, atol=1e-6)
    assert np.allclose(np.linalg.norm(read, axis=1), 1, atol=1e-6)
    expected = [branches(root, image, "left effusion")[branch] for image in images[:2]]
    assert np.allclose(seen @ read[0], expected, atol=1e-5)


@pytest.mark.parametrize("branch", BRANCHES)
def test_retrieval_finds_what_the_embeddings_say(root, predictor, images, branch):
    texts = ["left effusion", "clear lungs", "right opacity"]
    found = predictor.retrieve(image=images[0], index=texts, k=2, branch=branch)
    cosines = predictor.embed_texts(texts, branch=branch) @ predictor.embed_images(images[0], branch=branch)[0]
    assert found["text"].tolist() == [texts[i] for i in np.argsort(-cosines)[:2]]
    assert np.allclose(found["similarity"], np.sort(cosines)[::-1][:2], atol=1e-6)
    found = predictor.retrieve(text="left effusion", index=images[:4], k=1, branch=branch)
    cosines = (
        predictor.embed_images(images[:4], branch=branch) @ predictor.embed_texts("left effusion", branch=branch)[0]
    )
    assert found.loc[0, "image"] == str(cosines.argmax())


def test_a_prepared_folder_is_searched_for_reports_and_for_images(root, predictor):
    data = Corpus.open(root / "data")
    pixels = predictor.embed_texts("left effusion", branch="impression")[0]
    found = predictor.retrieve(text="left effusion", index=root / "data", k=3, branch="impression")
    view = evaluation_view(torch.from_numpy(np.array(data.images)), predictor.encoder.preprocessing)
    with torch.inference_mode():
        assert isinstance(predictor.encoder.model, Imitate)
        cosines = normalize(predictor.encoder.model.encode_image(view).impression).numpy() @ pixels
    assert found["image_id"].tolist() == data.table["image_id"].iloc[np.argsort(-cosines)[:3]].tolist()
    again = predictor.retrieve(text="left effusion", index=str(root / "data"), k=3, branch="impression")
    pd.testing.assert_frame_equal(found, again)
    near = predictor.retrieve(image=np.array(data.images[5]), index=data, k=40, branch="impression")
    assert near["impression"].is_unique and near["images"].sum() == data.has("impression").sum()
    assert near["similarity"].is_monotonic_decreasing


@pytest.mark.parametrize("branch", BRANCHES)
def test_a_map_is_the_density_over_the_original_image_its_height_1_what_speaks_against_0(root, predictor, branch):
    small = np.array(Corpus.open(root / "data").images[2])
    large = np.zeros((160, 200), np.uint8)
    large[20:140, 40:180] = np.asarray(Image.fromarray(small).resize((140, 120)))
    view = evaluation_view(torch.from_numpy(predictor.read(large).pixels[None]), predictor.encoder.preprocessing)
    highest = {}
    for text in WORDS:
        heat = predictor.heatmap(large, text, branch=branch)
        assert heat.shape == (160, 200) and heat.dtype == np.float32 and heat.min() == 0
        assert not heat[:20].any() and not heat[:, :40].any() and not heat[140:].any() and not heat[:, 180:].any()
        read = torch.from_numpy(predictor.embed_texts(text, branch="findings"))
        density = heatmap(predictor.encoder, view, read, branch)[0].numpy()
        highest[text] = (heat.max(), density.max())
        if density.max() > 0:
            seen = np.zeros((36, 36), np.float32)
            seen[2:34, 2:34] = density.clip(0)
            seen = np.asarray(Image.fromarray(seen).resize((140, 120), Image.Resampling.BILINEAR))
            assert np.allclose(heat[20:140, 40:180], seen / seen.max(), atol=0.02)
    assert {height for height, density in highest.values() if density > 0} == {1.0}
    assert not any(height for height, density in highest.values() if density <= 0)


def test_gradients_and_modes_are_left_alone(predictor, images):
    predictor.heatmap(images[0], "left effusion")
    model = predictor.encoder.model
    assert isinstance(model, Imitate) and not model.training
    assert all(p.grad is None and not p.requires_grad for p in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def test_a_model_within_a_run_and_a_hub_id_load_as_the_run_does(root, predictor, images, monkeypatch):
    expected = predictor.embed_images(images[0])
    assert np.array_equal(load(root / "run" / "model").embed_images(images[0]), expected)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(root / "run"))
    fetched = load("hf-hub:someone/model@v1")
    assert fetched.encoder.name == "hf-hub:someone/model@v1" and np.array_equal(
        fetched.embed_images(images[0]), expected
    )


def test_a_model_fed_with_padded_images_pads(tmp_path):
    predictor = load(write_run(tmp_path, resize="letterbox"))
    wide = np.random.default_rng(0).integers(1, 255, (40, 120), np.uint8)
    seen = predictor.read(wide)
    assert not seen.pixels[:10].any() and seen.pixels[18].any()


def test_a_model_of_images_without_their_extremes_reads_images_so(tmp_path):
    predictor = load(write_run(tmp_path, percentiles=(1, 99)))
    image = np.random.default_rng(0).integers(50, 80, (64, 64), np.uint8)
    image[0, 0] = 255
    size = predictor.encoder.preprocessing.prepared_size
    expected = to_prepared(image, size, percentiles=(1, 99))[0]
    assert np.array_equal(predictor.read(image).pixels, expected) and expected.mean() > 90


def test_without_a_text_encoder_images_are_embedded_and_the_rest_is_reported(tmp_path, images):
    run = write_run(tmp_path)
    (run / "text" / "text.json").unlink()
    predictor = load(run)
    assert predictor.embed_images(images[:2]).shape == (2, 32)
    asks = (
        lambda: predictor.classify(images, {"Edema": "edema"}),
        lambda: predictor.retrieve(image=images[0], index=tmp_path / "data"),
        lambda: predictor.retrieve(text="edema", index=tmp_path / "data"),
        lambda: predictor.heatmap(images[0], "edema"),
        lambda: predictor.embed_texts("edema"),
    )
    for ask in asks:
        with pytest.raises(UserError, match="has no text encoder, and can only embed images"):
            ask()


def test_mistakes_are_reported_in_one_line(root, predictor, images, tmp_path):
    mistakes = {
        "no model at .*absent": lambda: load(tmp_path / "absent"),
        "give at least one": lambda: predictor.embed_images([]),
        "text 1 is empty": lambda: predictor.heatmap(images[0], " "),
        "knows no word of 'qwerty'": lambda: predictor.heatmap(images[0], "qwerty"),
        "text 2 is empty": lambda: predictor.embed_texts(["edema", ""]),
        "temperature 0 must be above": lambda: predictor.classify(images[0], {"Edema": "edema"}, temperature=0),
        "either an image, .* or a text": lambda: predictor.retrieve(index=root / "data"),
        "k 0 must": lambda: predictor.retrieve(text="edema", index=root / "data", k=0),
        "prepared folder .* does not exist": lambda: predictor.retrieve(text="edema", index=tmp_path / "none"),
        "holds images of 40 px, but this model needs 36": lambda: predictor.retrieve(
            text="edema", index=write_folder(tmp_path / "other", size=40)
        ),
        "cannot use .*notes.txt: not a DICOM": lambda: predictor.read(root / "notes.txt"),
    }
    (root / "notes.txt").write_text("not an image at all")
    for message, mistake in mistakes.items():
        with pytest.raises(UserError, match=message) as reported:
            mistake()
        assert "\n" not in str(reported.value)


def test_a_run_of_another_version_is_reported(tmp_path):
    run = write_run(tmp_path)
    config = run / "model" / "config.json"
    text = config.read_text()
    config.write_text(text.replace('"format_version": 1', '"format_version": 3'))
    with pytest.raises(UserError, match="format version 3, not 1: read it with the version"):
        load(run)
    config.write_text(text.replace('"grid"', '"mesh"'))
    with pytest.raises(UserError, match="config.json: unknown key 'mesh'"):
        load(run)


def test_words_that_are_not_known_are_warned_of(predictor, images, caplog):
    with caplog.at_level(logging.WARNING):
        predictor.heatmap(images[0], "left hydrothorax")
    assert "ignores words that it does not know: hydrothorax" in caplog.text


def test_with_skip_each_image_has_its_row_and_the_unusable_ones_their_reason(root, predictor, images, tmp_path):
    (tmp_path / "b.png").write_bytes(b"broken")
    for name, image in (("a.png", images[0]), ("c.png", images[1])):
        Image.fromarray(image).save(tmp_path / name)
    asked = {"Effusion": "effusion", "Edema": "edema"}
    table = predictor.classify(tmp_path, asked, errors="skip")
    names = [str(tmp_path / name) for name in ("a.png", "b.png", "c.png")]
    assert table.index.tolist() == names and table.index.name == "image"
    assert table["reason"].tolist() == [None, "not a DICOM, PNG or JPEG file", None]
    assert table.iloc[1, :2].isna().all() and table.attrs["calibration"] == dict.fromkeys(asked, "uncalibrated")
    good = predictor.classify([names[0], names[2]], asked)
    np.testing.assert_allclose(table.iloc[[0, 2], :2].astype(float), good, atol=1e-6)
    assert "reason" not in good
    for call in (predictor.classify, predictor.similarity):
        with pytest.raises(UserError, match="b.png: not a DICOM, PNG or JPEG file"):
            call(tmp_path, asked if call == predictor.classify else "effusion")
    none = predictor.classify([tmp_path / "b.png"], asked, errors="skip")
    assert none[["Effusion", "Edema"]].isna().all(axis=None) and len(none) == 1
    vectors = predictor.embed_images(tmp_path, errors="skip")
    assert np.isnan(vectors[1]).all() and np.allclose(vectors[[0, 2]], predictor.embed_images(images[:2]), atol=1e-5)
    assert predictor.embed_images([tmp_path / "b.png"], errors="skip").shape == (1, vectors.shape[1])
    for single in (predictor.read, lambda image: predictor.heatmap(image, "edema"), predictor.preprocess):
        with pytest.raises(UserError, match="a folder, not a file"):
            single(tmp_path)


def test_phrases_without_names_are_their_own(predictor, images):
    named = predictor.classify(images[:2], {"edema": "edema", "left effusion": "left effusion"})
    pd.testing.assert_frame_equal(predictor.classify(images[:2], ["edema", "left effusion"]), named)
    pd.testing.assert_frame_equal(predictor.classify(images[:2], "edema"), named[["edema"]], check_like=True)


@pytest.mark.parametrize("branch", BRANCHES)
def test_similarity_is_a_table_of_cosines(predictor, images, branch):
    texts = ["left effusion", "clear lungs"]
    table = predictor.similarity(np.stack(images[:5]), texts, branch=branch)
    assert table.columns.tolist() == texts and table.index.tolist() == list("01234")
    expected = predictor.embed_images(images[:5], branch=branch) @ predictor.embed_texts(texts, branch=branch).T
    np.testing.assert_allclose(table, expected, atol=1e-6)
    assert predictor.similarity(images[0], texts[0], branch=branch).shape == (1, 1)


def test_a_predictor_says_what_it_is(root, predictor, tmp_path):
    text = repr(predictor)
    assert text == (
        f"Predictor(model='{root / 'run'}', backbone='resnet18', image='32 px', text='lsa-8', calibration='none', "
        "device='cpu')"
    ).replace("resnet18", predictor.encoder.backbone).replace("lsa-8", predictor.text.name)
    assert "<td>32 px</td>" in predictor._repr_html_()
    mute = write_run(tmp_path)
    (mute / "text" / "text.json").unlink()
    assert "text='none'" in repr(load(mute))


def test_preprocess_gives_what_the_network_reads_and_works_in_the_workers_of_a_loader(
    root, predictor, images, tmp_path
):
    paths = []
    for number, image in enumerate(images[:4]):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(image).save(paths[-1])
    preprocess = predictor.preprocess
    assert preprocess(images[0]).shape == (3, 32, 32) and preprocess(images[0]).dtype == torch.float32
    dataset = Listed(paths, pickle.loads(pickle.dumps(preprocess)))
    (batch,) = torch.utils.data.DataLoader(dataset, batch_size=4, num_workers=1)
    assert len(pickle.dumps(preprocess)) < 2000 and torch.equal(batch[0], preprocess(Image.fromarray(images[0])))
    module = Imitate.from_pretrained(root / "run")
    with torch.inference_mode():
        seen = module(batch)
    both = np.hstack([seen.findings, seen.impression]) / np.sqrt(2)
    np.testing.assert_allclose(predictor.embed_images(paths), both, atol=1e-5)
    with pytest.raises(UserError, match="absent.png: missing file"):
        preprocess(tmp_path / "absent.png")


def test_a_map_that_is_not_finite_is_refused(predictor, images, monkeypatch):
    monkeypatch.setattr("imitate.inference.heatmap.map_of", lambda *given: np.full((32, 32), np.nan, np.float32))
    with pytest.raises(UserError, match="gives heat-maps that are not finite: its weights are unusable"):
        predictor.heatmap(images[0], "left effusion")
