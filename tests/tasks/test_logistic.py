import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from imitate.tasks import logistic
from imitate.tasks.logistic import logistic_path, standardise

DECAYS = (0.3, 0.03, 0.003)


def correlated(rows: int, width: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(rows, width, generator=generator) * torch.logspace(0, -2, width)
    features = torch.relu(mixed @ torch.randn(width, width, generator=generator) + 0.3)
    standardise(features)
    return features


def test_standardise_uses_the_reference_and_silences_constant_columns() -> None:
    reference = torch.tensor([[1.0, 5.0], [3.0, 5.0]])
    other = torch.tensor([[5.0, 7.0]])
    standardise(reference, other)
    assert reference.tolist() == [[-1, 0], [1, 0]]
    assert other.tolist() == [[3, 0]]


def test_binary_minimum_is_that_of_scikit_learn() -> None:
    features = correlated(400, 30)
    target = (features[:, :2] + torch.randn(400, 2, generator=torch.Generator().manual_seed(1)) > 0.5).float()
    for decay, linear in logistic_path(features, target, decays=DECAYS, exclusive=False):
        ours = linear(features).numpy()
        for i in range(2):
            theirs = LogisticRegression(C=1 / (decay * 400), tol=1e-8, max_iter=1000)
            theirs.fit(features.numpy(), target[:, i].numpy())
            np.testing.assert_allclose(ours[:, i], theirs.decision_function(features.numpy()), atol=0.02)


def test_softmax_minimum_is_that_of_scikit_learn() -> None:
    features = correlated(300, 20)
    classes = features[:, :3].argmax(1)
    target = torch.nn.functional.one_hot(classes, 3).float()
    for decay, linear in logistic_path(features, target, decays=DECAYS, exclusive=True):
        theirs = LogisticRegression(C=1 / (decay * 300), tol=1e-8, max_iter=1000).fit(features.numpy(), classes.numpy())
        ours = linear(features).softmax(1).numpy()
        np.testing.assert_allclose(ours, theirs.predict_proba(features.numpy()), atol=0.01)


def test_an_unknown_label_counts_as_if_the_image_were_absent() -> None:
    features = correlated(200, 10)
    target = (features[:, :2] > 0.2).float()
    target[50:, 1] = float("nan")
    ((_, whole),) = logistic_path(features, target, decays=[0.1], exclusive=False)
    ((_, part),) = logistic_path(features[:50], target[:50, 1:], decays=[0.1], exclusive=False)
    torch.testing.assert_close(whole.weight[1:], part.weight, atol=2e-3, rtol=0)


def test_more_columns_than_images_and_a_class_with_one_label_stay_finite() -> None:
    features = correlated(20, 64)
    target = torch.stack([(features[:, 0] > 0).float(), torch.zeros(20), torch.full((20,), torch.nan)], 1)
    for _, linear in logistic_path(features, target, decays=(1.0, 1e-4), exclusive=False):
        assert linear(features).isfinite().all()
        assert (linear(features)[:, 1] < 0).all()


def test_weaker_decay_fits_the_training_images_better() -> None:
    features = correlated(200, 50)
    target = torch.randint(0, 2, (200, 1), generator=torch.Generator().manual_seed(2)).float()
    losses = [
        torch.nn.functional.binary_cross_entropy_with_logits(linear(features), target).item()
        for _, linear in logistic_path(features, target, decays=DECAYS, exclusive=False)
    ]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] - losses[-1] > 0.05


@pytest.mark.parametrize("exclusive", [False, True])
def test_without_signal_the_bias_is_the_class_rate(exclusive: bool) -> None:
    features = torch.zeros(100, 4)
    target = torch.nn.functional.one_hot(torch.tensor([0] * 70 + [1] * 20 + [2] * 10), 3).float()
    ((_, linear),) = logistic_path(features, target, decays=[0.1], exclusive=exclusive)
    logits = linear(features[:1])
    probabilities = logits.softmax(1) if exclusive else logits.sigmoid()
    torch.testing.assert_close(probabilities, torch.tensor([[0.7, 0.2, 0.1]]), atol=2e-3, rtol=0)


def test_an_unreached_minimum_is_said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    features = correlated(200, 50)
    target = (features[:, :1] > 0.2).float()
    list(logistic_path(features, target, decays=(1e-4,), exclusive=False))
    assert not caplog.records
    monkeypatch.setattr(logistic, "ITERATIONS", 3)
    list(logistic_path(features, target, decays=(1e-4,), exclusive=False))
    assert "weight decay 0.0001: not converged after 3 iterations" in caplog.text


def test_a_weak_decay_reaches_its_minimum_on_data_that_can_be_separated() -> None:
    features = correlated(300, 60, seed=3)
    target = (features[:, :1] > 0.3).float()
    ((_, linear),) = logistic_path(features, target, decays=(1e-4,), exclusive=False)
    theirs = LogisticRegression(C=1 / (1e-4 * 300), tol=1e-10, max_iter=20_000)
    theirs.fit(features.numpy().astype(np.float64), target[:, 0].numpy())
    expected = theirs.decision_function(features.numpy())
    np.testing.assert_allclose(linear(features)[:, 0].numpy(), expected, atol=0.03 * np.abs(expected).max())
