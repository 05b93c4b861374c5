"""SigLIP's loss against two loops over the pairs."""

import math

import pytest
import torch
from torch.nn import functional as F

from imitate.losses.sigmoid import sigmoid_loss
from imitate.losses.similarities import Rows


def looped(x, y, temperature, bias, present, positive) -> float:
    x, y = F.normalize(x, dim=1), F.normalize(y, dim=1)
    total = 0.0
    for i in range(len(x)):
        for j in range(len(y)):
            if present[i] and present[j]:
                z = 1 if i == j or positive[i, j] else -1
                total += math.log1p(math.exp(-z * (float(x[i] @ y[j]) / temperature + bias)))
    return total / max(int(present.sum()), 1)


@pytest.mark.parametrize("columns", [1, 3, 7, 100])
@pytest.mark.parametrize("alike", [False, True])
def test_sigmoid_loss_equals_a_loop(columns, alike):
    torch.manual_seed(0)
    x, y = torch.randn(2, 7, 5, dtype=torch.float64)
    present = torch.tensor([True, True, False, True, True, True, True])
    positive = torch.zeros(7, 7, dtype=torch.bool)
    if alike:
        positive[0, 3] = positive[3, 0] = True
    numbers = torch.tensor([4, 1, 2, 4, 0, 5, 6]) if alike else None
    found = sigmoid_loss(Rows(x, x), Rows(y, y), 0.1, -3.0, present, numbers=numbers, columns=columns)
    assert found.item() == pytest.approx(looped(x, y, 0.1, -3.0, present, positive), rel=1e-12)


def test_its_gradient_is_that_of_the_whole_matrix_also_of_temperature_and_bias():
    torch.manual_seed(0)
    values = [torch.randn(6, 4, dtype=torch.float64), torch.randn(6, 4, dtype=torch.float64)]
    scale, bias = torch.tensor(0.2, dtype=torch.float64), torch.tensor(-1.0, dtype=torch.float64)
    found = []
    for whole in (False, True):
        x, y, t, b = inputs = [each.clone().requires_grad_() for each in (*values, scale, bias)]
        if whole:
            z = 2 * torch.eye(6) - 1
            logits = F.normalize(x, dim=1) @ F.normalize(y, dim=1).T / t + b
            loss = -F.logsigmoid(z * logits).sum() / 6
        else:
            loss = sigmoid_loss(Rows(x, x), Rows(y, y), t, b, torch.ones(6, dtype=torch.bool), columns=4)
        found.append([loss, *torch.autograd.grad(loss, inputs)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_own_rows_add_up_to_the_whole():
    torch.manual_seed(0)
    x, y = F.normalize(torch.randn(2, 8, 4, dtype=torch.float64), dim=2)
    present = torch.tensor([True] * 7 + [False])
    whole = sigmoid_loss(Rows(x, x), Rows(y, y), 0.1, -2.0, present)
    parts = [
        sigmoid_loss(Rows(x[own], x), Rows(y[own], y), 0.1, -2.0, present, own) for own in (slice(0, 3), slice(3, 8))
    ]
    torch.testing.assert_close(torch.stack(parts).sum(), whole)


def test_no_block_is_wider_than_its_columns(monkeypatch):
    seen = []
    softplus = F.softplus
    monkeypatch.setattr(F, "softplus", lambda logits: seen.append(logits.shape) or softplus(logits))
    x = torch.randn(10, 4)
    sigmoid_loss(Rows(x, x), Rows(x, x), 0.1, -10.0, torch.ones(10, dtype=torch.bool), columns=4)
    assert seen == [(10, 4), (10, 4), (10, 2)]


def test_nothing_present_is_no_loss():
    x = torch.randn(3, 4)
    assert sigmoid_loss(Rows(x, x), Rows(x, x), 0.1, -10.0, torch.zeros(3, dtype=torch.bool)) == 0
