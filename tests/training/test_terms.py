"""Every setting of the opened objective against loops over pairs of samples."""

import math

import numpy as np
import pytest
import torch
from batches import batch
from recipes import TINY_MODEL, tiny_recipe
from torch.nn import functional as F

from imitate.config import OPTIONS, ImitateConfig, ImitateOptions, TextLevel
from imitate.data.augment import warp
from imitate.losses import baselines as losses
from imitate.models.imitate import seeded_model
from imitate.training import baselines, pretraining
from imitate.training.draws import draw_step
from imitate.training.objectives import training_module
from imitate.training.optim import parameter_groups

KEEP = [0, 1, 2, 4, 5, 6, 7]  # samples with findings


def built(model=None, **options):
    """A module in float64, a batch in which two reports are alike, and a draw."""
    config = ImitateConfig(**{**TINY_MODEL.model_dump(), "token_width": 8, **(model or {})})
    name = options.get("name", "imitate")
    recipe = tiny_recipe().model_copy(update={"model": config, "objective": OPTIONS[name](**options)}).resolved()
    module = training_module(seeded_model(recipe.model, pretrained=False, seed=0), recipe.objective).double()
    sample = batch(findings=(3,))
    for text in ("findings", "impression", "report"):
        sample[text][6] = sample[text][1]
    return module, sample, draw_step(module.model, recipe, step=2)


def embeddings(module, sample, draw):
    """Of each view, by branch; the model has no channels to draw."""
    model, found = module.model, {"findings": [], "impression": []}
    for view in draw.views:
        impression, findings = model.aggregate(model.image(warp(sample["images"], view, model.config).double()))
        found["findings"].append(model.project_findings(findings))
        found["impression"].append(model.impression_head(impression))
    return found


def cosines(x, y) -> np.ndarray:
    return (F.normalize(x, dim=1) @ F.normalize(y, dim=1).T).detach().numpy()


def correlations(text, keep, centred=False) -> np.ndarray:
    rows = text.numpy()[keep].astype(float)
    rows = rows - rows.mean(0) if centred else rows
    return np.maximum(np.corrcoef(rows), 0) * (1 - np.eye(len(keep)))


def cross_entropy(x, y, target, tau, keep, fractions=(1, 1)) -> float:
    total = 0.0
    for logits, wanted, fraction in zip((cosines(x, y), cosines(y, x)), (target, target.T), fractions, strict=True):
        for a, i in enumerate(keep):
            row = np.array([logits[i, j] / tau for j in keep])
            row = row - math.log(np.exp(row).sum())
            total -= fraction * sum(wanted[a, b] * row[b] for b in range(len(keep)))
    return total / len(keep)


def projected(module, sample, name):
    return module.model.encode_text(sample[name].double(), sample[f"has_{name}"], name)


POOLED = {"aggregation": "pooled"}
LIKE = np.eye(7)
LIKE[1, 5] = LIKE[5, 1] = 1  # samples 1 and 6


@pytest.mark.parametrize(
    "options, target",
    [
        ({}, lambda p: np.eye(7) + 0.07 * (1 - np.exp(-0.2 * p))),
        ({"identical": "positive", "kernel": "none"}, lambda p: LIKE / LIKE.sum(1, keepdims=True)),
        ({"prior_mass": 0.4}, lambda p: _with_mass(1 - np.exp(-0.2 * p), 0.4)),
        ({"prior_weight": 2, "prior_centred": True}, lambda p: np.eye(7) + 2 * (1 - np.exp(-0.2 * p))),
        ({"learn_temperature": True}, lambda p: np.eye(7) + 0.07 * (1 - np.exp(-0.2 * p))),
    ],
    ids=["published", "positive", "mass", "centred", "learned"],
)
def test_a_text_term_equals_a_loop(options, target):
    module, sample, draw = built(POOLED, **options)
    terms = module(sample, draw)
    if "learn_temperature" in options:
        module.log_temperature.data.fill_(math.log(0.11))
        terms = module(sample, draw)
    tau = 0.11 if "learn_temperature" in options else 0.07
    prior = correlations(sample["findings"], KEEP, options.get("prior_centred", False))
    views, text = embeddings(module, sample, draw)["findings"], projected(module, sample, "findings")
    wanted = target(prior)
    rows = [wanted, wanted.T] if "prior_mass" not in options else [wanted, wanted]
    expected = sum(
        cross_entropy(view, text, rows[0], tau, KEEP, (1, 0)) + cross_entropy(view, text, rows[1].T, tau, KEEP, (0, 1))
        for view in views
    )
    assert terms["findings"].item() == pytest.approx(expected, rel=1e-9)


def _with_mass(softened, mass):
    return (1 - mass) * np.eye(7) + mass * softened / softened.sum(1, keepdims=True)


def test_any_texts_have_a_weighted_term_each():
    texts = (
        TextLevel(text="findings", branch="findings", weight=0.5),
        TextLevel(text="sentences", branch="findings", weight=2),
        TextLevel(text="report", branch="impression"),
    )
    module, sample, draw = built({**POOLED, "texts": texts}, kernel="none", visual_visual=0.25)
    terms, found = module(sample, draw), embeddings(module, sample, draw)
    assert list(terms) == [
        "findings_findings",
        "findings_sentences",
        "impression",
        "views_findings",
        "views_impression",
    ]
    for name, level in zip(terms, texts, strict=False):
        keep = KEEP if level.text == "findings" else list(range(8))
        text = projected(module, sample, level.text)
        expected = sum(cross_entropy(view, text, np.eye(len(keep)), 0.07, keep) for view in found[level.branch])
        assert terms[name].item() == pytest.approx(level.weight * expected, rel=1e-9)
    for branch, views in found.items():
        expected = 0.25 * cross_entropy(views[0], views[1], np.eye(8), 0.2, list(range(8)))
        assert terms[f"views_{branch}"].item() == pytest.approx(expected, rel=1e-9)


def test_each_branch_has_its_weight_of_the_views():
    module, sample, draw = built(POOLED, kernel="none", visual_visual=(0.25, 0.5))
    both = module(sample, draw)
    for weights, left in (((0, 1.0), "views_impression"), ((0.5, 0), "views_findings")):
        module, sample, draw = built(POOLED, kernel="none", visual_visual=weights)
        terms = module(sample, draw)
        assert [name for name in terms if name.startswith("views")] == [left]
        assert terms[left].item() == pytest.approx(2 * both[left].item(), rel=1e-12)


def test_a_second_draw_of_channels_is_projected_only_for_the_views_of_the_findings():
    counts = {}
    for weights in ((0, 1.0), (1.0, 0)):
        module, sample, draw = built({}, kernel="none", visual_visual=weights)
        passes: list[None] = []
        module.model.findings_head.register_forward_hook(lambda *_, seen=passes: seen.append(None))
        module(sample, draw)
        counts[weights] = len(passes)
    assert counts == {(0, 1.0): 2, (1.0, 0): 4}


def test_the_prior_may_be_made_of_other_vectors_than_the_texts():
    module, sample, draw = built(POOLED, prior="lsa-8")
    same = module(sample, draw)["findings"]
    sample["prior_findings"] = sample["prior_impression"] = torch.zeros(8, 5)
    assert module(sample, draw)["findings"] < same, "constant vectors resemble nothing"
    sample["prior_findings"], sample["prior_impression"] = sample["findings"], sample["impression"]
    torch.testing.assert_close(module(sample, draw)["findings"], same)


@pytest.mark.parametrize("name", ["clip", "convirt"])
@pytest.mark.parametrize("identical", ["negative", "positive", "ignored"])
def test_captions_of_one_text(name, identical):
    module, sample, draw = built(name=name, identical=identical, temperature_text=0.1)
    fractions = (0.5, 0.5) if name == "clip" else (0.75, 0.25)
    text, views = projected(module, sample, "report"), embeddings(module, sample, draw)["impression"]
    alike = np.eye(8)
    alike[1, 6] = alike[6, 1] = 1
    every = list(range(8))
    if identical == "ignored":
        expected = sum(_without(view, text, alike - np.eye(8), fractions) for view in views)
    else:
        target = np.eye(8) if identical == "negative" else alike / alike.sum(1, keepdims=True)
        expected = sum(cross_entropy(view, text, target, 0.1, every, fractions) for view in views)
    assert module(sample, draw)["caption"].item() == pytest.approx(expected, rel=1e-9)


def _without(x, y, ignored, fractions):
    total = 0.0
    for logits, fraction in zip((cosines(x, y), cosines(y, x)), fractions, strict=True):
        for i in range(8):
            row = np.array([logits[i, j] / 0.1 for j in range(8) if not ignored[i, j]])
            total -= fraction * (logits[i, i] / 0.1 - math.log(np.exp(row).sum()))
    return total / 8


def pairwise(x, y, right, keep) -> float:
    logits = cosines(x, y) / 0.1 - 2
    losses = np.log1p(np.exp(np.where(right, -logits, logits)))
    return losses[np.ix_(keep, keep)].sum() / len(keep)


@pytest.mark.parametrize("identical", ["negative", "positive"])
@pytest.mark.parametrize("name", ["clip", "imitate"])
def test_the_sigmoid_decides_each_pair_and_texts_of_one_content_are_right_where_asked(name, identical):
    options = {"contrast": "sigmoid", "bias": -2, "temperature_text": 0.1}
    text, branch = ("report", "impression") if name == "clip" else ("findings", "findings")
    if name == "imitate":
        options["kernel"] = "none"
        identical = "kernel" if identical == "negative" else identical
    module, sample, draw = built(POOLED, name=name, identical=identical, **options)
    right = np.eye(8, dtype=bool)
    right[1, 6] = right[6, 1] = identical == "positive"
    read = projected(module, sample, text)
    expected = sum(
        pairwise(view, read, right, KEEP if name == "imitate" else list(range(8)))
        for view in embeddings(module, sample, draw)[branch]
    )
    term = module(sample, draw)["caption" if name == "clip" else "findings"]
    assert term.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", ["imitate", "clip", "simclr"])
def test_losses_have_single_precision_whatever_autocast_would_make_of_them(monkeypatch, name):
    """In bfloat16 a cosine is off by up to 0.004, which the temperature makes 0.06."""
    module, sample, draw = built(POOLED, name=name)
    exact, single = module(sample, draw), module.float()(sample, draw)
    for term, value in exact.items():
        assert single[term].dtype == torch.float32 and single[term].item() == pytest.approx(value.item(), rel=1e-5)
    seen: list[torch.dtype] = []
    entropy = F.cross_entropy

    def noting(function):
        def similarities(*given):
            found = function(*given)
            seen.extend(each.dtype for each in found)
            return found

        return similarities

    def cross_entropy(logits, *given, **settings):  # of the views in SimCLR
        seen.append(logits.dtype)
        return entropy(logits, *given, **settings)

    for of in (baselines, pretraining, losses):
        monkeypatch.setattr(of, "similarities", noting(of.similarities))
    monkeypatch.setattr(F, "cross_entropy", cross_entropy)
    with torch.autocast("cpu", torch.bfloat16):
        assert (torch.ones(1, 1) @ torch.ones(1, 1)).dtype == torch.bfloat16
        terms = module(sample, draw)
    assert seen and {*seen} == {torch.float32} == {term.dtype for term in terms.values()}


def test_slip_is_clip_and_simclr_on_the_same_views():
    module, sample, draw = built(name="clip", visual_visual=0.5, temperature_views=0.3)
    plain = built(name="clip")[0]
    terms = module(sample, draw)
    first, second = embeddings(module, sample, draw)["impression"]
    both, total = torch.cat([first, second]), 0.0
    every = cosines(both, both) / 0.3
    for i in range(16):
        others = [every[i, j] for j in range(16) if j != i]
        total -= every[i, (i + 8) % 16] - math.log(np.exp(others).sum())
    assert terms["views"].item() == pytest.approx(0.5 * total / 16, rel=1e-9)
    torch.testing.assert_close(terms["caption"], plain(sample, draw)["caption"])


def test_a_branch_without_a_text_is_neither_trained_nor_compared():
    module, sample, draw = built({**POOLED, "texts": (TextLevel(text="report", branch="findings"),)})
    terms = module(sample, draw)
    assert list(terms) == ["findings", "views_findings"]
    sum(terms.values()).backward()
    trained = {name for name, p in module.named_parameters() if p.requires_grad}
    assert not any(name.startswith("model.impression_head") for name in trained)
    assert all(p.grad is not None for name, p in module.named_parameters() if name in trained)


def test_a_learned_temperature_stays_within_its_bounds_and_is_not_decayed():
    module, sample, draw = built(POOLED, learn_temperature=True)
    sum(module(sample, draw).values()).backward()
    assert module.log_temperature.grad.abs() > 0
    groups = parameter_groups(module, weight_decay=0.1, everything=True)
    assert any(p is module.log_temperature for p in groups[-1]["params"]) and groups[-1]["weight_decay"] == 0
    for value, expected in ((-9.0, 0.01), (3.0, 1.0), (math.log(0.2), 0.2)):
        module.log_temperature.data.fill_(value)
        module.after_step()
        assert float(module.temperature.detach()) == pytest.approx(expected)
        module.log_temperature.grad = None
        sum(module(sample, draw).values()).backward()
        assert module.log_temperature.grad.abs() > 0  # it can leave a bound


@pytest.mark.parametrize(
    "options, message",
    [
        ({"kernel": "none", "prior_mass": 0.1}, "prior_mass has no effect where kernel is none"),
        ({"prior_mass": 0.1, "prior_weight": 1}, "prior_weight has no effect where prior_mass is given"),
        (
            {"identical": "positive", "normalise_targets": True},
            "normalise_targets has no effect where identical is positive",
        ),
        ({"visual_visual": (0, 0), "temperature_views": 0.1}, "temperature_views has no effect where no views"),
        ({"visual_visual": (0, 1), "views": 1}, "visual_visual compares two views, not 1"),
        ({"bias": -5}, "bias has no effect where contrast is softmax"),
        ({"contrast": "sigmoid"}, "contrast sigmoid classifies each pair on its own: it needs kernel none"),
        ({"visual_visual": 0, "temperature_views": 0.1}, "temperature_views has no effect where no views are compared"),
        ({"name": "clip", "temperature_views": 0.1}, "temperature_views has no effect where visual_visual is 0"),
        ({"name": "clip", "visual_visual": 1, "views": 1}, "visual_visual compares two views, not 1"),
        ({"name": "clip", "contrast": "sigmoid", "identical": "ignored"}, "identical ignored needs contrast softmax"),
        ({"name": "convirt", "contrast": "sigmoid"}, "contrast sigmoid has no directions for convirt to weight"),
    ],
)
def test_options_without_effect_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        OPTIONS[str(options.get("name", "imitate"))](**options)


def test_the_switch_of_version_01_is_a_weight():
    assert [ImitateOptions.model_validate({"visual_visual": each}).visual_visual for each in (True, False, 0.5)] == [
        2,
        0,
        0.5,
    ]
