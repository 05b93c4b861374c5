import pytest
import torch
from recipes import TINY_MODEL

from imitate.config import TrainingConfig
from imitate.models.imitate import seeded_model
from imitate.training.optim import build_optimizer, learning_rate, parameter_groups


def test_schedule_is_torchs_cosine_over_the_true_steps():
    training = TrainingConfig(learning_rate=2e-4, final_learning_rate=1e-8)
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([parameter], lr=2e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50, eta_min=1e-8)
    for step in range(50):
        assert learning_rate(step, total=50, training=training) == pytest.approx(
            optimizer.param_groups[0]["lr"], rel=1e-6
        )
        optimizer.step()
        schedule.step()


def test_warmup_rises_to_the_peak_and_the_end_is_low():
    training = TrainingConfig(learning_rate=1.0, final_learning_rate=0.0, warmup_steps=4)
    rates = [learning_rate(step, total=20, training=training) for step in range(21)]
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0] and rates[20] == pytest.approx(0)
    assert all(a >= b for a, b in zip(rates[4:], rates[5:], strict=False))


def test_decay_spares_norms_biases_and_embeddings_unless_as_published():
    model = seeded_model(TINY_MODEL, pretrained=False, seed=0)
    decayed, spared = parameter_groups(model, weight_decay=0.05, everything=False)
    assert decayed["weight_decay"] == 0.05 and spared["weight_decay"] == 0
    assert all(p.ndim > 1 for p in decayed["params"])
    ids = {id(p) for p in spared["params"]}
    assert id(model.aggregation.positional_embedding) in ids and id(model.image.network.bn1.weight) in ids
    assert len(decayed["params"]) + len(spared["params"]) == len(list(model.parameters()))
    (group,) = parameter_groups(model, weight_decay=0.05, everything=True)
    assert len(group["params"]) == len(list(model.parameters()))
    assert build_optimizer(model, TrainingConfig()).defaults["betas"] == (0.9, 0.999)
