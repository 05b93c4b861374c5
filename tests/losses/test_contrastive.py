"""CICL against a loop over pairs, written from the formula."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from imitate.losses.contrastive import (
    Targets,
    cicl,
    clinical_prior,
    identical_texts,
    soft_cross_entropy,
    soft_targets,
    soften,
)
from imitate.losses.similarities import Rows, similarities

KERNELS = ("exp", "gaussian", "laplacian", "sigmoid", "none")


def naive_kernel(p: float, kernel: str, lam: float) -> float:
    return {
        "exp": 1 - math.exp(-lam * p),
        "gaussian": math.exp(-(p**2) / 2) / math.sqrt(2 * math.pi),
        "laplacian": math.exp(-abs(p)) / 2,
        "sigmoid": 1 / (1 + math.exp(-p)),
        "none": 0.0,
    }[kernel]


def naive_cicl(x, y, text, kernel, lam, tau, present):
    """Both directions, one pair at a time, over the present samples only."""
    keep = [i for i, here in enumerate(present) if here]
    if not keep:
        return 0.0
    x, y = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, y))
    total = 0.0
    for swapped in (False, True):
        for i in keep:
            a = y[i] if swapped else x[i]
            others = x if swapped else y
            scores = {j: float(a @ others[j]) / tau for j in keep}
            log_sum = math.log(sum(math.exp(s) for s in scores.values()))
            for j in keep:
                p = 0.0 if i == j else max(0.0, float(np.corrcoef(text[i], text[j])[0, 1]))
                target = (1.0 if i == j else 0.0) + tau * naive_kernel(p, kernel, lam)
                total -= target * (scores[j] - log_sum)
    return total / len(keep)


def sample(seed: int, batch: int = 6):
    generator = np.random.default_rng(seed)
    return [generator.normal(size=(batch, width)) for width in (8, 8, 12)]


def ours(x, y, text, kernel, lam, tau, present):
    softened = soften(clinical_prior(torch.tensor(text)), kernel, kernel_lambda=lam)
    return cicl(torch.tensor(x), torch.tensor(y), softened, tau, torch.tensor(present))


@pytest.mark.parametrize(
    "kernel, tau, missing", list(itertools.product(KERNELS, (0.07, 0.2, 1.0), ((), (0,), (1, 4, 5), tuple(range(6)))))
)
def test_equals_a_loop_over_pairs(kernel, tau, missing):
    x, y, text = sample(KERNELS.index(kernel) + int(100 * tau))
    present = [i not in missing for i in range(6)]
    found = ours(x, y, text, kernel, 0.2, tau, present)
    assert float(found) == pytest.approx(naive_cicl(x, y, text, kernel, 0.2, tau, present), abs=1e-11, rel=1e-11)


def test_absent_rows_get_no_gradient():
    x, y, text = sample(3)
    x = torch.tensor(x, requires_grad=True)
    present = torch.tensor([True, False, True, True, False, True])
    cicl(
        x, torch.tensor(y), soften(clinical_prior(torch.tensor(text)), "exp", kernel_lambda=0.2), 0.07, present
    ).backward()
    assert torch.equal(x.grad.abs().sum(1) > 0, present)


def test_prior_is_the_rectified_correlation():
    text = np.random.default_rng(0).normal(size=(7, 20))
    expected = np.maximum(np.corrcoef(text), 0)
    np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(clinical_prior(torch.tensor(text)), expected, atol=1e-12)


@pytest.mark.parametrize("text", [torch.ones(4, 6), torch.zeros(4, 6), torch.randn(1, 6).expand(4, 6) * 1e-12])
def test_degenerate_texts_give_finite_targets_and_gradients(text):
    x, y = torch.randn(4, 5, requires_grad=True), torch.randn(4, 5)
    loss = cicl(x, y, soften(clinical_prior(text), "exp", kernel_lambda=0.2), 0.07, torch.ones(4, dtype=torch.bool))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(x.grad).all()


def test_an_identical_text_raises_the_target_as_published():
    """At tau .07 and lambda .2 it is .0127 beside 1 for the pair: the prior is multiplied by the temperature."""
    prior = clinical_prior(torch.randn(1, 9, dtype=torch.float64).expand(2, 9))
    assert float(0.07 * soften(prior, "exp", kernel_lambda=0.2)[0, 1]) == pytest.approx(0.07 * (1 - math.exp(-0.2)))


@given(seed=st.integers(0, 10**6), kernel=st.sampled_from(KERNELS), tau=st.sampled_from([0.07, 0.5]))
@settings(max_examples=40, deadline=None)
def test_invariances(seed, kernel, tau):
    """The batch's order, the embeddings' scale and the two sides' order do not matter."""
    x, y, text = sample(seed)
    generator = np.random.default_rng(seed)
    order = generator.permutation(6)
    present = [bool(value) for value in generator.random(6) < 0.7]
    loss = float(ours(x, y, text, kernel, 0.2, tau, present))
    permuted = [bool(present[i]) for i in order]
    scale = generator.uniform(0.1, 10, size=(6, 1))
    assert float(ours(x[order], y[order], text[order], kernel, 0.2, tau, permuted)) == pytest.approx(loss)
    assert float(ours(x * scale, y, text, kernel, 0.2, tau, present)) == pytest.approx(loss)
    assert float(ours(y, x, text, kernel, 0.2, tau, present)) == pytest.approx(loss)


def naive_row(scores: list[float], target: list[float]) -> float:
    log_sum = math.log(sum(math.exp(score) for score in scores))
    return -sum(t * (score - log_sum) for t, score in zip(target, scores, strict=True))


@pytest.mark.parametrize("weight, normalised, ignore", itertools.product((None, 1.0), (False, True), (False, True)))
def test_other_targets_equal_a_loop(weight, normalised, ignore):
    """The ablation's: a factor of its own, rows that sum to one, pairs of one text excluded from the matrices."""
    x, y, text = sample(7)
    text[4] = text[1]
    present = [i != 5 for i in range(6)]
    ignored = identical_texts(torch.tensor(text)) if ignore else None
    softened = soften(clinical_prior(torch.tensor(text)), "exp", kernel_lambda=0.2)
    tensors = (torch.tensor(x), torch.tensor(y), softened, 0.3, torch.tensor(present))
    found = float(cicl(*tensors, Targets(weight, normalised, ignored)))
    x, y = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, y))
    total = 0.0
    for a, b in ((x, y), (y, x)):
        for i in range(5):
            others = [j for j in range(5) if not (ignore and {i, j} == {1, 4})]
            factor = 0.3 if weight is None else weight
            target = [1.0 if i == j else factor * (1 - math.exp(-0.2 * naive_prior(text, i, j))) for j in others]
            target = [t / sum(target) for t in target] if normalised else target
            total += naive_row([float(a[i] @ b[j]) / 0.3 for j in others], target)
    assert found == pytest.approx(total / 5, rel=1e-12)


def naive_prior(text, i: int, j: int) -> float:
    return max(0.0, float(np.corrcoef(text[i], text[j])[0, 1]))


def test_identical_texts_are_pairs_of_different_samples():
    text = torch.tensor([[1.0, 2], [1, 3], [1, 2], [0, 0]])
    expected = torch.zeros(4, 4, dtype=torch.bool)
    expected[0, 2] = expected[2, 0] = True
    assert torch.equal(identical_texts(text), expected)


@pytest.mark.parametrize("normalised", [False, True])
def test_the_parts_of_the_processes_sum_to_the_loss(normalised):
    x, y, text = (torch.tensor(each) for each in sample(9))
    text[4] = text[1]
    present = torch.tensor([True, True, False, True, True, True])
    softened, ignored = soften(clinical_prior(text), "exp", kernel_lambda=0.2), identical_texts(text)
    whole = cicl(x, y, softened, 0.3, present, Targets(None, normalised, ignored))
    a, b = (F.normalize(each, dim=1) for each in (x, y))
    total = torch.zeros(())
    for own in (slice(0, 2), slice(2, 6)):
        assert torch.equal(identical_texts(text, own), ignored[own])
        part = soften(clinical_prior(text, own), "exp", kernel_lambda=0.2)
        torch.testing.assert_close(part, softened[own], rtol=1e-12, atol=1e-15)
        targets = Targets(None, normalised, identical_texts(text, own))
        wanted = soft_targets(part, 0.3, present, targets, own=own)
        total = total + soft_cross_entropy(similarities(Rows(a[own], a), Rows(b[own], b), 0.3), wanted)
    torch.testing.assert_close(total, whole, rtol=1e-12, atol=0)


def test_the_prior_keeps_its_digits_under_autocast():
    text = torch.randn(8, 64, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        found = clinical_prior(text)
    assert found.dtype == torch.float32 and torch.equal(found, clinical_prior(text))
