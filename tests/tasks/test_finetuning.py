from typing import Any

import numpy as np
import pytest
import torch
from bfloat16 import autocast_on_cpu, is_rounded
from labelled_images import BLOCKS, independent, one_of_three, prepared, resnet, same, state
from sklearn.metrics import f1_score, roc_auc_score
from torch import Tensor

from imitate.data.corpus import Corpus
from imitate.errors import UserError
from imitate.inference.encoder import Encoder
from imitate.tasks import finetuning
from imitate.tasks.base import Budget
from imitate.tasks.classification import Classification, LinearClassification, loss
from imitate.tasks.finetuning import Classifier, FinetuneClassification
from imitate.tasks.fitting import Fit


def measured(task: Classification, data: Corpus, encoder: Encoder) -> dict[str, float]:
    return task.measure(task.predict(encoder, data, Budget()))


def test_pixels_cannot_be_fine_tuned() -> None:
    with pytest.raises(UserError, match="blocks has no weights to fine-tune: give a network"):
        FinetuneClassification().predict(BLOCKS, prepared(independent()), Budget())


def test_fine_tuning_beats_the_probe_and_leaves_the_encoder_alone() -> None:
    encoder, data = resnet(), prepared(independent(2), contrast=8)
    before = state(encoder.image)
    encoder.image.requires_grad_(False)
    task = FinetuneClassification(learning_rate=0.01, batch_size=20, epochs=10)
    tuned = measured(task, data, encoder)["auroc"]
    assert tuned > 0.95
    assert tuned > measured(LinearClassification(), data, encoder)["auroc"] + 0.03
    assert same(before, state(encoder.image))
    assert not any(parameter.requires_grad for parameter in encoder.image.parameters())


def test_fine_tuning_trains_in_bfloat16_and_scores_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    autocast_on_cpu(monkeypatch)
    seen = []
    monkeypatch.setattr(finetuning, "loss", lambda logits, *rest: seen.append(logits) or loss(logits, *rest))
    found = FinetuneClassification(batch_size=40, epochs=1).predict(resnet(), prepared(independent(2)), Budget())
    assert {logits.dtype for logits in seen} == {torch.bfloat16}
    assert found["score"].dtype == np.float32 and not is_rounded(torch.from_numpy(found["score"]))


def test_fine_tuning_is_deterministic_by_seed() -> None:
    task, data = FinetuneClassification(batch_size=40, epochs=1), prepared(independent(2))
    first, second, other = (task.predict(resnet(), data, Budget(seed=seed))["score"] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


def test_what_a_protocol_asks_for_reaches_the_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict = {}

    def fit(model: Classifier, **given: object) -> Fit:
        seen.update(given, std=float(model.head.weight.detach().std()), value=validated(given["validate"]))
        return Fit([0.0], 0)

    @torch.no_grad()
    def validated(validate: Any) -> Any:
        return validate()

    monkeypatch.setattr(finetuning, "fit", fit)
    settings = {"encoder_rate": 0.1, "clip_gradient": 1.0, "period": 30, "head_std": 2e-5, "monitor": "auroc"}
    FinetuneClassification(**settings).predict(resnet(), prepared(independent(2)), Budget())
    assert (seen["encoder_rate"], seen["clip"], seen["period"]) == (0.1, 1.0, 30)
    assert seen["std"] == pytest.approx(2e-5, rel=0.5) and -1 <= seen["value"][0] < 0 < seen["value"][1]
    FinetuneClassification().predict(resnet(), prepared(independent(2)), Budget())
    assert (seen["encoder_rate"], seen["clip"], seen["period"]) == (1.0, None, 0)
    assert seen["std"] == pytest.approx(0.02, rel=0.5) and isinstance(seen["value"], float)


def test_the_monitored_auroc_is_the_mean_over_classes_with_both_labels() -> None:
    target = torch.tensor([[1.0, 0, 1], [0, 1, 1], [1, torch.nan, 1], [0, 0, 1]])
    scores = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    known = [0, 1, 3]
    expected = (roc_auc_score(target[:, 0], scores[:, 0]) + roc_auc_score(target[known, 1], scores[known, 1])) / 2
    assert finetuning._macro_auroc(scores, target) == pytest.approx(expected)
    assert np.isnan(finetuning._macro_auroc(scores[:, 2:], target[:, 2:]))


def test_f1_is_that_of_probabilities_above_a_half_and_has_no_chance() -> None:
    data, task = prepared(independent(2), contrast=0.5), LinearClassification()
    run = task.predict(BLOCKS, data, Budget())
    found = task.measure(run)
    each = [f1_score(run["target"][:, i], run["score"][:, i] > 0) for i in range(2)]
    assert [found["f1/Edema"], found["f1/Mass"], found["f1"]] == pytest.approx([*each, np.mean(each)])
    assert 0 < found["f1"] < 1 and "f1" not in task.chance(run)
    run = task.predict(BLOCKS, prepared(one_of_three()), Budget())
    assert "f1" not in task.measure(run)  # of classes that exclude each other the highest score decides


def test_resized_views_are_parts_of_an_image_and_their_mirror_images() -> None:
    ramp = torch.arange(40, dtype=torch.uint8)[None, None] * 5
    seen = []
    view = finetuning.resized_view(
        ramp.expand(400, 40, 40).contiguous(), BLOCKS.preprocessing, torch.Generator().manual_seed(0)
    )
    plain: Tensor = view[:, 0] * BLOCKS.preprocessing.std[0] + BLOCKS.preprocessing.mean[0]
    for image in plain * 255 / 5:
        assert image.std(0).max() < 1e-3  # rows are equal: nothing is rotated
        assert image.min() >= -1e-3 and image.max() <= 39 + 1e-3
        seen.append(float(image[0, -2] - image[0, 1]) / 29)  # image pixels a pixel of the view
    slopes = np.array(seen)
    assert 0.4 < (slopes < 0).mean() < 0.6 and 0.25 < np.abs(slopes).min() < 0.5 and 1.1 < np.abs(slopes).max() < 1.26
