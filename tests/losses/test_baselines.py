"""Each objective against a loop over pairs in float64, written from its paper's equation."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from imitate.losses import baselines
from imitate.losses.baselines import CONVIRT_WEIGHT, MFLAG_WEIGHT, alignment, info_nce, nt_xent, orthogonality
from imitate.losses.similarities import Rows


def sample(seed: int, batch: int = 7, width: int = 5) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [generator.normal(size=(batch, width)) for _ in range(2)]


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def naive_direction(x, y, tau: float, keep: list[int]) -> float:
    """ConVIRT, equation 2: -log exp(<x_i, y_i> / tau) / sum_k exp(<x_i, y_k> / tau), mean over i."""
    each = [
        math.exp(cosine(x[i], y[i]) / tau) / sum(math.exp(cosine(x[i], y[k]) / tau) for k in keep) for i in keep
    ]  # fmt: skip
    return -sum(map(math.log, each)) / len(keep)


@pytest.mark.parametrize("missing", [(), (0, 4)])
@pytest.mark.parametrize("weight, tau", [(0.5, 0.07), (CONVIRT_WEIGHT, 0.1)])
def test_info_nce_weighs_its_two_directions(missing, weight, tau):
    x, y = sample(1)
    keep = [i for i in range(7) if i not in missing]
    present = torch.tensor([i in keep for i in range(7)])
    expected = weight * naive_direction(x, y, tau, keep) + (1 - weight) * naive_direction(y, x, tau, keep)
    assert float(info_nce(torch.tensor(x), torch.tensor(y), tau, present, weight)) == pytest.approx(expected, rel=1e-12)


def test_info_nce_without_a_report_is_zero_and_gives_no_gradient():
    x = torch.randn(4, 3, requires_grad=True)
    loss = info_nce(x, torch.randn(4, 3), 0.07, torch.zeros(4, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0 and not x.grad.any()


def test_nt_xent_is_the_mean_over_all_views():
    """SimCLR, equation 1, over the 2N views; the pairs are (k, k + N)."""
    a, b = sample(2)
    views, n, tau = np.concatenate([a, b]), len(a), 0.2
    total = 0.0
    for i in range(2 * n):
        others = sum(math.exp(cosine(views[i], views[k]) / tau) for k in range(2 * n) if k != i)
        total -= math.log(math.exp(cosine(views[i], views[(i + n) % (2 * n)]) / tau) / others)
    assert float(nt_xent(torch.tensor(a), torch.tensor(b), tau)) == pytest.approx(total / (2 * n), rel=1e-12)


def test_alignment_is_the_squared_distance_of_unit_vectors_both_ways():
    x, y = sample(3)
    keep = [0, 2, 3, 5, 6]
    units = [[v[i] / np.linalg.norm(v[i]) for i in keep] for v in (x, y)]
    expected = sum(2 * np.square(u - v).sum() for u, v in zip(*units, strict=True)) / len(keep)
    present = torch.tensor([i in keep for i in range(7)])
    assert float(alignment(torch.tensor(x), torch.tensor(y), present)) == pytest.approx(expected, rel=1e-12)


def test_orthogonality_is_the_distance_of_the_gram_matrix_from_the_identity():
    features = sample(4)[0]
    total = 0.0
    for i in range(5):
        for j in range(5):
            entry = sum(row[i] * row[j] for row in features) / len(features)
            total += (1 - entry) ** 2 if i == j else MFLAG_WEIGHT * entry**2
    assert float(orthogonality(torch.tensor(features))) == pytest.approx(total / 2, rel=1e-12)
    whitened = np.linalg.qr(features)[0] * math.sqrt(len(features))
    assert float(orthogonality(torch.tensor(whitened))) == pytest.approx(0, abs=1e-20)


def test_the_published_weights_and_clips_as_the_default():
    assert (CONVIRT_WEIGHT, MFLAG_WEIGHT) == (0.75, 0.0051)
    x, y = (torch.tensor(each) for each in sample(4))
    present = torch.ones(len(x), dtype=torch.bool)
    torch.testing.assert_close(info_nce(x, y, 0.07, present), info_nce(y, x, 0.07, present), rtol=1e-12, atol=0)


def test_alignment_of_one_present_pair_is_that_pairs():
    x, y = (torch.tensor(each) for each in sample(5))
    present = torch.arange(len(x)) == 2
    alone = alignment(x[2:3], y[2:3], torch.ones(1, dtype=torch.bool))
    torch.testing.assert_close(alignment(x, y, present), alone, rtol=1e-12, atol=0)
    assert float(alone) == pytest.approx(4 - 4 * cosine(x[2].numpy(), y[2].numpy()), rel=1e-12)


def test_the_parts_of_the_processes_sum_to_the_loss():
    x, y = (torch.tensor(each) for each in sample(6))
    present = torch.tensor([True, False, True, True, True, False, True])
    rows, count = [F.normalize(each, dim=1) for each in (x, y)], present.sum()
    named, compared, aligned = [], [], []
    for own in (slice(0, 3), slice(3, 7)):
        first, second = (Rows(each[own], each) for each in rows)
        named.append(baselines.info_nce_part(first, second, 0.1, present, 0.75, own))
        compared.append(baselines.nt_xent_part(first, second, 0.2, own))
        aligned.append(alignment(x[own], y[own], present[own], count))
    exact = {"rtol": 1e-12, "atol": 0}
    torch.testing.assert_close(sum(named), info_nce(x, y, 0.1, present, 0.75), **exact)
    torch.testing.assert_close(sum(compared), nt_xent(x, y, 0.2), **exact)
    torch.testing.assert_close(sum(aligned), alignment(x, y, present), **exact)
    gram = x.T @ x
    torch.testing.assert_close(orthogonality(x[:3], 2, lambda _: gram * 6 / 7), orthogonality(x), **exact)
