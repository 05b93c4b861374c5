from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from imitate.config import ImitateConfig
from imitate.data.corpus import Corpus
from imitate.errors import UserError
from imitate.inference.encoder import Encoder
from imitate.models.image import ImageEncoder
from imitate.tasks.base import Budget
from imitate.tasks.dense import identity, looked_at, pyramid, whole_images
from imitate.tasks.options import Dense

CONFIG = ImitateConfig(backbone="resnet10t", prepared_size=80, image_size=64)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder("tiny", ImageEncoder("resnet10t"), CONFIG)


@pytest.fixture
def data() -> Corpus:
    images, masks = np.zeros((3, 80, 80), np.uint8), np.zeros((3, 80, 80), np.uint8)
    images[1, :4] = 255  # at the border, which a centre crop would lose
    masks[1, :4] = 1
    table = pd.DataFrame({"image_id": ["a", "b", "c"], "patient": ["p", "q", "q"], "split": "test"})
    return Corpus(Path("memory"), {"size": 80}, table, images, masks)


def test_the_border_is_seen_and_the_mask_stays_on_it(encoder: Encoder, data: Corpus) -> None:
    view = whole_images(encoder, data, Budget(), Dense())
    gray, masks = view.gray(np.array([1, 0])), view.masks(np.array([1, 0]))
    assert gray.shape == masks.shape == (2, 64, 64)
    assert not gray[1].any()
    assert gray[0, 0].min().item() == pytest.approx(1)
    assert masks[0].mean().item() == pytest.approx(4 / 80, rel=0.02)
    torch.testing.assert_close(gray, masks)
    torch.testing.assert_close(
        view.images(np.array([0]))[0, :, 0, 0], -torch.tensor(CONFIG.mean) / torch.tensor(CONFIG.std)
    )


@pytest.mark.parametrize("size", [80, 96])
def test_another_input_size(encoder: Encoder, data: Corpus, size: int) -> None:
    view = whole_images(encoder, data, Budget(), Dense(image_size=size))
    assert view.gray(np.array([1])).shape == view.masks(np.array([1])).shape == (1, size, size)


def test_the_mode_says_what_moves_and_the_encoder_is_copied(encoder: Encoder) -> None:
    assert pyramid(encoder, Budget(), Dense()).adaptation == "frozen"
    assert pyramid(encoder, Budget(mode="paper"), Dense()).adaptation == "drifting"
    trained = pyramid(encoder, Budget(mode="paper"), Dense(freeze=False))
    assert trained.adaptation == "trained"
    next(trained.parameters()).data.fill_(7)
    assert not (next(encoder.image.parameters()) == 7).all()


def test_a_size_that_the_network_does_not_take_is_reported() -> None:
    encoder = ImageEncoder("vit_tiny_patch16_224", options={"img_size": 64})
    with pytest.raises(UserError, match="vit_tiny_patch16_224 does not accept images of 96 px"):
        pyramid(Encoder("vit", encoder, CONFIG), Budget(), Dense(image_size=96))


def test_identity_can_be_saved_without_pickle(data: Corpus, tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", **identity(data, np.array([2, 0]), Budget(mode="paper")))
    with np.load(tmp_path / "rows.npz", allow_pickle=False) as rows:
        assert rows["image_id"].tolist() == ["c", "a"]
        assert rows["patient"].tolist() == ["q", "p"]
        assert rows["paper"].all()


def test_an_encoder_without_maps_is_refused() -> None:
    with pytest.raises(UserError, match="pixels has no feature maps to segment or detect with: give a network"):
        pyramid(Encoder("pixels", torch.nn.Identity(), CONFIG), Budget(), Dense())


def test_images_that_nobody_annotated_leave_the_splits(data: Corpus) -> None:
    assert looked_at(data) is data
    table = data.table.assign(annotated=pd.array([True, None, False], dtype="boolean"))
    found = looked_at(Corpus(data.root, data.meta, table, data.images, data.masks))
    assert found.rows("test").tolist() == [0, 1] and len(found) == 3
    every = Corpus(data.root, data.meta, data.table.assign(annotated=True), data.images, data.masks)
    assert looked_at(every) is every
