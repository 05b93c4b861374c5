from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from imitate.config import ImitateConfig
from imitate.data.augment import evaluation_view
from imitate.data.corpus import Corpus
from imitate.errors import UserError
from imitate.inference.encoder import Encoder
from imitate.models.types import ImageFeatures
from imitate.tasks.base import Budget
from imitate.tasks.features import pooled_features

CONFIG = ImitateConfig(prepared_size=10, image_size=8)
ROWS = np.arange(260)[::-2].copy()


class Small(nn.Module):
    """A normalised linear map of the pixels that counts the images it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(3 * 64, 6)
        self.norm = nn.BatchNorm1d(6)
        self.seen = 0

    def forward(self, images: Tensor) -> ImageFeatures:
        self.seen += len(images)
        return ImageFeatures([], self.norm(self.map(images.flatten(1))))


def wrapped(encoder: Small, config: ImitateConfig = CONFIG) -> Encoder:
    return Encoder("small", encoder, config)


@pytest.fixture
def data() -> Corpus:
    images = np.random.default_rng(0).integers(0, 256, (260, 10, 10), dtype=np.uint8)
    meta: dict[str, Any] = {"fingerprint": "a"}
    return Corpus(
        Path("folder"),
        meta,
        pd.DataFrame({"split": ["train"] * 260, "image_id": [f"i{i}" for i in range(260)]}),
        images,
        None,
    )


def test_features_are_those_of_the_encoder_in_evaluation_mode(data: Corpus) -> None:
    encoder = Small()
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    found = pooled_features(wrapped(encoder), data, ROWS, Budget())
    assert all(torch.equal(before[name], tensor) for name, tensor in encoder.state_dict().items())
    assert encoder.training
    encoder.eval()
    with torch.no_grad():
        expected = encoder(evaluation_view(torch.from_numpy(data.images[ROWS]), CONFIG)).pooled
    torch.testing.assert_close(found, expected)


def test_the_cache_serves_the_same_question_only(data: Corpus, tmp_path: Path) -> None:
    encoder, budget = Small(), Budget(cache=tmp_path)
    first = pooled_features(wrapped(encoder), data, ROWS, budget)
    assert torch.equal(first, pooled_features(wrapped(encoder), data, ROWS, budget))
    assert encoder.seen == len(ROWS)
    data.meta["fingerprint"] = "b"
    pooled_features(wrapped(encoder), data, ROWS, budget)
    assert encoder.seen == 2 * len(ROWS)
    pooled_features(
        wrapped(encoder, CONFIG.model_copy(update={"image_size": 8, "mean": (0.5,) * 3})), data, ROWS, budget
    )
    assert encoder.seen == 3 * len(ROWS)
    nn.init.ones_(encoder.norm.running_var).mul_(2)
    changed = pooled_features(wrapped(encoder), data, ROWS, budget)
    assert encoder.seen == 4 * len(ROWS)
    assert not torch.equal(first, changed)


def test_every_image_is_encoded_once_for_all_fractions_and_folds(data: Corpus, tmp_path: Path) -> None:
    encoder, budget = Small(), Budget(cache=tmp_path)
    some, more = ROWS[:9], np.arange(260)
    first = pooled_features(wrapped(encoder), data, some, budget)
    found = pooled_features(wrapped(encoder), data, more, budget)
    assert encoder.seen == 260
    torch.testing.assert_close(found[some], first)
    torch.testing.assert_close(found, pooled_features(wrapped(encoder), data, more, Budget()))
    seen = encoder.seen
    data.meta["fingerprint"] = "fold3-a"
    assert torch.equal(pooled_features(wrapped(encoder), data, ROWS, budget), found[ROWS.copy()])
    assert encoder.seen == seen


def test_damaged_weights_are_an_error_of_the_user(data: Corpus) -> None:
    encoder = Small()
    nn.init.constant_(encoder.map.bias, float("nan"))
    with pytest.raises(UserError, match="small gives features that are not finite"):
        pooled_features(wrapped(encoder), data, ROWS, Budget())
