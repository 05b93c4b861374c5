import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from imitate.data.corpus import Corpus
from imitate.errors import UserError
from imitate.models.image import ImageEncoder
from imitate.tasks.base import Budget
from imitate.tasks.finetuning import Classifier
from imitate.tasks.fitting import (
    Fit,
    FitError,
    _rate,
    batches,
    fit,
    frozen,
    parameter_groups,
    parts,
    pixels,
    seeded,
    training_rows,
)
from imitate.tasks.options import Fitting

INPUTS = torch.randn(100, 5, generator=torch.Generator().manual_seed(0))
OUTPUTS = INPUTS.sum(1, keepdim=True)


def prepared(splits: dict[str, int], *, images_a_patient: int = 2) -> Corpus:
    split = np.repeat(list(splits), list(splits.values()))
    table = pd.DataFrame({"split": split, "patient": [f"p{i // images_a_patient}" for i in range(len(split))]})
    images = np.arange(len(split) * 16, dtype=np.uint32).astype(np.uint8).reshape(-1, 4, 4)
    return Corpus(Path("folder"), {"classes": [], "fingerprint": "f" * 64}, table, images, None)


def regress(
    model: nn.Module, *, seed: int = 0, values: list | None = None, nothing: float | None = None, **settings: object
) -> Fit:
    def step(chosen: np.ndarray, generator: torch.Generator) -> Tensor:
        noise = 0.1 * torch.randn(len(chosen), 5, generator=generator)
        return mse_loss(model(INPUTS[chosen] + noise), OUTPUTS[chosen])

    def validate() -> float | tuple[float, float]:
        return values.pop(0) if values is not None else float(mse_loss(model(INPUTS[80:]), OUTPUTS[80:]))

    chosen = Fitting.model_validate({"learning_rate": 0.05, "batch_size": 16, "epochs": 30, **settings})
    return fit(
        model,
        settings=chosen,
        budget=Budget(seed=seed),
        rows=np.arange(80),
        step=step,
        validate=validate,
        nothing=nothing,
    )


def linear() -> nn.Module:
    with seeded(3):
        return nn.Sequential(nn.Linear(5, 8), nn.Dropout(0.1), nn.Linear(8, 1))


def test_fit_learns() -> None:
    history = regress(linear()).history
    assert min(history) < 0.1 * history[0]


def test_one_seed_one_result_and_the_global_generator_goes_on() -> None:
    models = [linear(), linear(), linear()]
    before = torch.get_rng_state()
    for model, seed in zip(models, (0, 0, 1), strict=True):
        torch.rand(seed + 1)
        regress(model, seed=seed, epochs=2)
    first, second, other = (nn.utils.parameters_to_vector(model.parameters()) for model in models)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    torch.set_rng_state(before)
    expected = torch.rand(3)
    torch.set_rng_state(before)
    regress(linear(), epochs=1)
    assert torch.equal(torch.rand(3), expected)


def test_the_training_images_are_no_test() -> None:
    data = prepared({"train": 20, "val": 6, "test": 4})
    with pytest.raises(UserError, match="the task trains on split train.*--folds 5"):
        parts(data, Budget(), test="train")


def test_the_best_epoch_comes_back_and_patience_ends_the_fit() -> None:
    model, alone = linear(), linear()
    found = regress(model, values=[3.0, 1.0, 2.0, float("nan"), 1.5, 0.0], patience=3)
    assert found == Fit(history=pytest.approx([3.0, 1.0, 2.0, float("nan"), 1.5], nan_ok=True), epoch=1)
    regress(alone, epochs=2, patience=3)
    for ours, theirs in zip(model.state_dict().values(), alone.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)


def test_patience_starts_with_the_first_value_that_says_something() -> None:
    """Ten epochs without a hit would end a detector's fit before it finds anything."""
    values = [0.0] * 7 + [-0.3, -0.2, -0.1, 0.0, -0.4]
    assert regress(linear(), values=list(values), patience=2).epoch == 0
    found = regress(linear(), values=list(values), patience=2, nothing=0.0)
    assert found.epoch == 7 and found.history == values[:10]


def test_equal_values_are_distinguished_by_the_second_one() -> None:
    pairs = [(0.0, 3.0), (0.0, 2.0), (0.0, 2.5), (-0.2, 9.0), (-0.2, 8.0), (-0.2, 8.5), (-0.1, 0.0)]
    found = regress(linear(), values=list(pairs), epochs=7)
    assert found.epoch == 4 and found.history == [value for value, _ in pairs]
    assert regress(linear(), values=list(pairs[:3]), epochs=3).epoch == 1


def test_a_value_whose_loss_is_not_finite_does_not_count() -> None:
    """Scores that are NaN have an AUROC of .5, and an empty segmentation a Dice."""
    assert regress(linear(), values=[(-0.5, math.nan), (-0.4, 1.0), (-0.9, math.inf)], epochs=3).epoch == 1
    with pytest.raises(FitError, match="no validation metric was finite in 2 epochs"):
        regress(linear(), values=[(-0.5, math.nan)] * 2, epochs=2)


def test_a_fit_that_never_has_a_value_is_an_error_of_the_user() -> None:
    with pytest.raises(FitError, match="no validation metric was finite in 2 epochs: lower learning_rate"):
        regress(linear(), values=[float("nan"), float("inf")], epochs=2)


def test_too_few_images_for_a_batch() -> None:
    with pytest.raises(FitError, match="80 training images make no batch of 81: raise --fraction or lower batch_size"):
        regress(linear(), batch_size=81)


def test_every_epoch_takes_each_image_once_in_an_order_of_its_own() -> None:
    model, seen = nn.Linear(5, 1), []

    def step(chosen: np.ndarray, generator: torch.Generator) -> Tensor:
        seen.append(chosen)
        return model(INPUTS[chosen]).mean()

    rows = np.arange(10, 18)
    fit(
        model,
        settings=Fitting(batch_size=4, epochs=2),
        budget=Budget(),
        rows=rows,
        step=step,
        validate=lambda: 0.0,
    )
    first, second = np.concatenate(seen[:2]), np.concatenate(seen[2:])
    assert sorted(first) == sorted(second) == rows.tolist()
    assert first.tolist() != second.tolist()


def test_the_schedule_warms_up_and_anneals(monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []

    class Recorder(torch.optim.AdamW):
        def step(self, *arguments: object) -> None:
            rates.append(self.param_groups[0]["lr"])

    monkeypatch.setattr(torch.optim, "AdamW", Recorder)
    regress(nn.Linear(5, 1), schedule="cosine", warmup=0.2, epochs=10, learning_rate=1.0)
    assert rates[:3] == pytest.approx([0.1, 0.2, 0.3])
    assert max(rates) == pytest.approx(1, abs=0.01)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0, abs=1e-6)


RESNET = ("resnet18", {"channels": [8, 8, 8, 8], "layers": [1, 1, 1, 1]})
RESNET_BLOCKS = {"conv1": 5, "bn1": 5, **{f"layer{i}": 5 - i for i in range(1, 5)}}  # how often .5 counts
VIT = ("vit_tiny_patch16_224", {"depth": 4, "img_size": 32})
VIT_BLOCKS = {"cls_token": 5, "pos_embed": 5, "patch_embed": 5, **{f"blocks.{i}": 4 - i for i in range(4)}, "norm": 1}


@pytest.mark.parametrize(("network", "blocks"), [(RESNET, RESNET_BLOCKS), (VIT, VIT_BLOCKS)], ids=["resnet", "vit"])
def test_each_block_of_the_encoder_has_its_own_rate(network: tuple, blocks: dict[str, int]) -> None:
    """The head has the whole rate, the last block half of it, the stem the least; biases and norms decay nowhere."""
    name, options = network
    encoder = ImageEncoder(name, options=options)
    model = Classifier(encoder, encoder.width, 3)
    settings = Fitting(learning_rate=1.0, layer_decay=0.5, weight_decay=0.1)
    groups = parameter_groups(model, settings)
    found = {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    assert len(found) == sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    for path, parameter in model.named_parameters():
        inside = path.removeprefix("encoder.network.")
        times = [count for prefix, count in blocks.items() if inside == prefix or inside.startswith(f"{prefix}.")]
        expected = 1.0 if inside == path else 0.5 ** times[0]
        spared = parameter.ndim == 1 or inside in ("cls_token", "pos_embed")
        assert found[id(parameter)] == (pytest.approx(expected), 0.0 if spared else 0.1), path
    (group,) = parameter_groups(model, Fitting(learning_rate=0.2, weight_decay=0.1), mode="paper")  # as published
    assert (group["lr"], group["weight_decay"]) == (0.2, 0.1) and len(group["params"]) == len(found)


def test_frozen_keeps_weights_and_statistics_and_gives_the_modes_back() -> None:
    encoder = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4))
    encoder[0].bias.requires_grad_(False)
    encoder[0].eval()
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    with pytest.raises(RuntimeError, match="inside"), frozen(encoder):
        assert not encoder(INPUTS).requires_grad
        raise RuntimeError("inside")
    assert all(torch.equal(before[name], tensor) for name, tensor in encoder.state_dict().items())
    assert [module.training for module in encoder.modules()] == [True, False, True]
    assert [parameter.requires_grad for parameter in encoder[0].parameters()] == [True, False]


def test_a_fraction_of_the_training_images_still_chooses_on_the_whole_validation_split(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level("INFO"):
        found = parts(prepared({"train": 40, "val": 6, "test": 4}), Budget(fraction=0.1))
    assert (len(found.train), len(found.validation)) == (4, 6)
    assert "4 images train; all 6 validation images choose among epochs" in caplog.text


def test_parts_follow_the_splits() -> None:
    found = parts(prepared({"train": 6, "val": 2, "test": 4}), Budget())
    assert [part.tolist() for part in found] == [[0, 1, 2, 3, 4, 5], [6, 7], [8, 9, 10, 11]]


@pytest.mark.parametrize(("splits", "test"), [({"train": 40, "val": 6}, "val"), ({"train": 40, "test": 6}, "test")])
def test_without_a_val_split_of_its_own_a_fifth_of_the_patients_validates(splits: dict[str, int], test: str) -> None:
    data = prepared(splits)
    found = parts(data, Budget(), test=test)
    patients = data.table["patient"].to_numpy()
    assert found.test.tolist() == list(range(40, 46))
    assert len(found.validation) == 8
    assert sorted([*found.train, *found.validation]) == list(range(40))
    assert not set(patients[found.train]) & set(patients[found.validation])


def test_a_single_training_patient_cannot_be_split() -> None:
    with pytest.raises(UserError, match="1 training patient cannot be split"):
        parts(prepared({"train": 2, "test": 2}), Budget())


def test_a_fraction_is_of_patients_nested_and_kept_in_the_cache(tmp_path: Path) -> None:
    data = prepared({"train": 80, "test": 2})
    tenth = training_rows(data, Budget(fraction=0.1))
    half = training_rows(data, Budget(fraction=0.5, cache=tmp_path))
    assert len(data.table.iloc[tenth]["patient"].unique()) == 4
    assert len(tenth) == 8
    assert set(tenth) < set(half)
    (stored,) = (tmp_path / "subsets").iterdir()
    stored.write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match="damaged"):
        training_rows(data, Budget(fraction=0.5, cache=tmp_path))


def test_paper_draws_images_as_pandas_does_and_ignores_the_seed() -> None:
    data = prepared({"val": 4, "train": 50})
    expected = data.table[data.table["split"] == "train"].sample(frac=0.2, random_state=42).index
    for seed in (0, 1):
        drawn = training_rows(data, Budget(fraction=0.2, mode="paper", seed=seed))
        assert drawn.tolist() == expected.tolist()


def test_batches_and_pixels() -> None:
    rows = np.array([2, 0, 1, 4, 3])
    assert [piece.tolist() for piece in batches(rows, 2)] == [[2, 0], [1, 4], [3]]
    assert [piece.tolist() for piece in batches(rows, 2, drop_last=True)] == [[2, 0], [1, 4]]
    data = prepared({"train": 5})
    assert torch.equal(pixels(data, rows[:2], "cpu"), torch.from_numpy(data.images[[2, 0]]))


def test_of_two_patients_one_validates() -> None:
    found = parts(prepared({"train": 4, "test": 2}), Budget(), test="test")
    assert (len(found.train), len(found.validation), len(found.test)) == (2, 2, 2)


def test_an_encoder_has_its_own_rate_and_gradients_are_clipped(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = ImageEncoder(RESNET[0], options=RESNET[1])
    groups = parameter_groups(Classifier(encoder, 8, 3), Fitting(learning_rate=1.0, weight_decay=0), encoder_rate=0.1)
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    inside = {id(p) for p in encoder.parameters()}
    assert len(rates) > len(inside) and all(
        rate == pytest.approx(0.1 if p in inside else 1.0) for p, rate in rates.items()
    )
    norms: list[float] = []
    model = nn.Linear(5, 1)
    step = torch.optim.AdamW.step

    def noting(optimizer: torch.optim.AdamW, *given: object) -> object:
        norms.append(float(torch.cat([p.grad.flatten() for p in model.parameters()]).norm()))
        return step(optimizer, *given)

    monkeypatch.setattr(torch.optim.AdamW, "step", noting)
    for clip in (None, 0.01):
        fit(
            model, settings=Fitting(batch_size=16, epochs=1), budget=Budget(), rows=np.arange(80), clip=clip,
            step=lambda chosen, _: mse_loss(model(INPUTS[chosen]), OUTPUTS[chosen]), validate=lambda: 0.0,
        )  # fmt: skip
    assert min(norms[:5]) > 0.1 and norms[5:] == pytest.approx([0.01] * 5, rel=1e-3)


def test_a_schedule_of_fewer_steps_rises_again() -> None:
    """As a published one does, whose cosine has a length of its own: warm-up, down to nothing, and up."""
    settings = Fitting(schedule="cosine", warmup=0.2)
    rates = [_rate((done + 1) / 10, settings) for done in range(18)]
    assert rates[1] == pytest.approx(1.0) and rates[9] == pytest.approx(0, abs=1e-9)
    assert rates[17] == pytest.approx(1.0)


def test_a_budget_has_the_best_value_of_each_fit() -> None:
    reported: list[float] = []
    values: list = [3.0, 1.0, 2.0, (5.0, 1.0), (4.0, 1.0), (4.0, 2.0)]
    for _ in range(2):
        fit(
            nn.Linear(5, 1), settings=Fitting(batch_size=16, epochs=3), budget=Budget(validated=reported),
            rows=np.arange(80), step=lambda *_: torch.zeros((), requires_grad=True), validate=lambda: values.pop(0),
        )  # fmt: skip
    assert reported == [1.0, 4.0]
