"""Against loops over single queries, and simulation."""

import numpy as np
import pytest
import torch

from imitate.tasks import retrieval
from imitate.tasks import retrieval_ranking as ranking
from imitate.tasks.retrieval_ranking import Side


def _sides(seed: int = 0, *, images: int = 30, texts: int = 12, decimals: int = 6) -> tuple[Side, Side]:
    generator = np.random.default_rng(seed)
    text = np.concatenate([np.arange(texts), generator.integers(0, texts, images - texts)])
    classes = np.eye(4)[generator.integers(0, 4, images)]
    of_text = np.zeros((texts, 4))
    np.maximum.at(of_text, text, classes)
    vectors = [torch.from_numpy(generator.normal(size=(n, 3)).round(decimals)) for n in (images, texts)]
    return (
        Side(vectors[0].float(), torch.from_numpy(text), torch.from_numpy(classes).float()),
        Side(vectors[1].float(), torch.arange(texts), torch.from_numpy(of_text).float()),
    )


def _naive(queries: Side, gallery: Side, candidates: np.ndarray | None = None) -> dict[str, list[float]]:
    """Sort for each query, only the candidates where they are given; no ties."""
    found: dict[str, list[float]] = {}
    for i in range(len(queries.text)):
        similarity = [float(queries.vectors[i] @ vector) for vector in gallery.vectors]
        among = range(len(similarity)) if candidates is None else np.flatnonzero(candidates[i]).tolist()
        order = sorted(among, key=lambda j: -similarity[j])
        first = next(place for place, j in enumerate(order) if gallery.text[j] == queries.text[i])
        good = [bool((gallery.classes[j] * queries.classes[i]).any()) for j in order]
        for k in (k for k in (1, 5, 10) if k <= len(similarity)):
            found.setdefault(f"recall@{k}", []).append(float(first < k))
            found.setdefault(f"precision@{k}", []).append(sum(good[:k]) / k)
        others = len(order) - 1
        found.setdefault("percentile", []).append((others - first) / others if others else np.nan)
    return found


@pytest.mark.parametrize("cells", [2**22, 40])
def test_equals_sorting_in_both_directions(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "CELLS", cells)
    images, texts = _sides()
    for queries, gallery in ((images, texts), (texts, images)):
        found, expected = ranking.query_metrics(ranking.rank(queries, gallery)), _naive(queries, gallery)
        assert set(found) == set(expected)
        for name in expected:
            np.testing.assert_allclose(found[name], expected[name], atol=1e-6, err_msg=name)


def test_ties_count_by_the_mean_over_their_orders() -> None:
    images, texts = _sides(decimals=0)
    found = ranking.query_metrics(ranking.rank(images, texts))
    generator = np.random.default_rng(1)
    sums = {name: np.zeros(len(images.text)) for name in found}
    for _ in range(150):
        noise = [
            torch.from_numpy(generator.permutation(len(side.text)) * 1e-5)[:, None].float() for side in (images, texts)
        ]
        extended = texts._replace(vectors=torch.cat([texts.vectors, noise[1]], 1))
        queries = images._replace(vectors=torch.cat([images.vectors, torch.ones(len(images.text), 1)], 1))
        for name, values in _naive(queries, extended).items():
            sums[name] += np.array(values) / 150
    for name, column in found.items():
        np.testing.assert_allclose(column, sums[name], atol=0.2, err_msg=name)
        assert column.mean() == pytest.approx(sums[name].mean(), abs=0.03), name


def test_chance_is_the_level_of_random_vectors_and_of_a_model_that_distinguishes_nothing() -> None:
    images, texts = _sides()
    for queries, gallery in ((images, texts), (texts, images)):
        chance = ranking.query_metrics(ranking.at_random(ranking.rank(queries, gallery)))
        constant = gallery._replace(vectors=torch.ones_like(gallery.vectors))
        tied = ranking.query_metrics(ranking.rank(queries, constant))
        generator = torch.Generator().manual_seed(0)
        many = [
            ranking.query_metrics(
                ranking.rank(
                    queries._replace(vectors=torch.randn(len(queries.text), 32, generator=generator)),
                    gallery._replace(vectors=torch.randn(len(gallery.text), 32, generator=generator)),
                )
            )
            for _ in range(300)
        ]
        for name, column in chance.items():
            np.testing.assert_allclose(tied[name], column, err_msg=name)
            simulated = np.mean([each[name].mean() for each in many])
            assert simulated == pytest.approx(column.mean(), abs=0.03), name


def test_unknown_classes_leave_precision_undefined_and_are_never_relevant() -> None:
    images, texts = _sides()
    images.classes[0] = 0
    texts.classes[1] = 0
    ranks = ranking.rank(images, texts)
    assert np.isnan(ranks.precision[1][0]) and np.isnan(ranks.relevant[0])
    assert not np.isnan(ranks.precision[1][1:]).any()
    assert (ranks.relevant[1:] <= 11).all()
    without = ranking.rank(*(side._replace(classes=side.classes[:, :0]) for side in (images, texts)))
    assert without.precision == {}


def _of_patients(patients: int) -> tuple[Side, Side, np.ndarray]:
    """Both sides, and which image and text are candidates of each other, one pair at a time."""
    images, texts = _sides(images=30, texts=12)
    patient = np.random.default_rng(7).integers(0, patients, 30)
    sides = [
        side._replace(patients=retrieval._patients(row, patient))
        for side, row in ((images, np.arange(30)), (texts, images.text.numpy()))
    ]
    candidates = np.ones((30, 12), bool)
    for i, text in np.ndindex(30, 12):
        own = int(images.text[i]) == text
        others = [j for j in range(30) if int(images.text[j]) == text and patient[j] == patient[i]]
        candidates[i, text] = own or not others
    return sides[0], sides[1], candidates


@pytest.mark.parametrize("cells", [2**22, 40])
@pytest.mark.parametrize("patients", [2, 6, 20])
def test_what_else_is_of_the_patient_is_no_candidate(
    patients: int, cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With few patients, a query can have fewer candidates than the metrics count to."""
    monkeypatch.setattr(ranking, "CELLS", cells)
    monkeypatch.setattr(ranking, "LEAST", 7)
    images, texts, candidates = _of_patients(patients)
    assert (~candidates).sum() > 0
    for queries, gallery, allowed in ((images, texts, candidates), (texts, images, candidates.T)):
        ranks = ranking.rank(queries, gallery)
        assert ranks.pool.tolist() == allowed.sum(1).tolist()
        found, expected = ranking.query_metrics(ranks), _naive(queries, gallery, allowed)
        assert set(found) == set(expected)
        for name in expected:
            np.testing.assert_allclose(found[name], expected[name], atol=1e-6, err_msg=name)
        chance = ranking.query_metrics(ranking.at_random(ranks))
        constant = gallery._replace(vectors=torch.ones_like(gallery.vectors))
        for name, column in ranking.query_metrics(ranking.rank(queries, constant)).items():
            np.testing.assert_allclose(column, chance[name], atol=1e-6, err_msg=name)


def test_shuffled_images_bring_their_patients() -> None:
    images, texts, _ = _of_patients(6)
    order = torch.from_numpy(np.random.default_rng(4).permutation(30))
    shuffled = images._replace(vectors=images.vectors[order])
    same = images.taken(torch.argsort(order))
    _, forward = ranking.rank_each([(images, texts), (same, texts)])
    _, backward = ranking.rank_each([(texts, images), (texts, same)])
    for found, expected in (
        (forward.taken(order.numpy()), ranking.rank(shuffled, texts)),
        (backward, ranking.rank(texts, shuffled)),
    ):
        for ours, theirs in zip(
            ranking.query_metrics(found).values(), ranking.query_metrics(expected).values(), strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("cells", [2**22, 40])
def test_several_assignments_are_ranked_in_one_pass(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "CELLS", cells)
    images, texts = _sides()
    order = torch.from_numpy(np.random.default_rng(4).permutation(30))
    back = torch.argsort(order)
    shuffled = images._replace(vectors=images.vectors[order])
    same = images._replace(text=images.text[back], classes=images.classes[back])
    first, forward = ranking.rank_each([(images, texts), (same, texts)])
    _, backward = ranking.rank_each([(texts, images), (texts, same)])
    for found, expected in (
        (first, ranking.rank(images, texts)),
        (forward.taken(order.numpy()), ranking.rank(shuffled, texts)),
        (backward, ranking.rank(texts, shuffled)),
    ):
        for ours, theirs in zip(
            ranking.query_metrics(found).items(), ranking.query_metrics(expected).items(), strict=True
        ):
            assert ours[0] == theirs[0]
            np.testing.assert_array_equal(ours[1], theirs[1])
