"""Each process computes its own rows of the loss: the same numbers, less memory, and no more calls than today."""

import json
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from recipes import TINY_MODEL as MODEL
from recipes import tiny_recipe
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from imitate.config import OPTIONS, ImitateConfig, Recipe, TextLevel
from imitate.losses.sigmoid import sigmoid_loss
from imitate.models.heads import PresentBatchNorm
from imitate.models.imitate import seeded_model
from imitate.training.draws import draw_step
from imitate.training.objectives import training_module

BATCH = 8
OBJECTIVES = [
    {},
    {"identical": "ignored"},
    {"identical": "one", "prior_weight": 0.7},
    {"normalise_targets": True, "kernel": "sigmoid"},
    {"visual_visual": False, "kernel": "none"},
    {"views": 1},
    {"identical": "positive", "learn_temperature": True, "visual_visual": 0.5},
    {"prior_mass": 0.3, "prior_centred": True},
    {"contrast": "sigmoid", "kernel": "none", "identical": "positive", "bias": -1.0},
    {"model": {"texts": "both", "aggregation": "spatial"}},
    {"model": {"texts": (TextLevel(text="report", branch="findings", weight=0.5),), "aggregation": "pooled"}},
    {"name": "clip", "identical": "positive", "learn_temperature": True, "visual_visual": 1.0},
    {"name": "clip", "contrast": "sigmoid", "identical": "positive"},
    {"name": "convirt", "identical": "ignored"},
]


GROUNDED = {"grounding": 0.5, "visual_visual": 0, "kernel": "none", "model": {"aggregation": "spatial"}}


class Calls(TorchDispatchMode):
    """Counts operators, and collects the shapes of the matrices that they return."""

    def __init__(self) -> None:
        super().__init__()
        self.operators: Counter[str] = Counter()
        self.shapes: set[tuple[int, ...]] = set()

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        found = operator(*args, **(kwargs or {}))
        self.operators[operator.namespace] += 1
        if isinstance(found, torch.Tensor):
            self.shapes.add(tuple(found.shape))
        return found


def batch(part: slice) -> dict[str, torch.Tensor]:
    """Two samples have one text, one has no findings, one no impression and one neither."""
    generator = torch.Generator().manual_seed(1)
    texts = torch.randn(2, BATCH, 12, generator=generator, dtype=torch.float64)
    texts[:, 6] = texts[:, 1]
    flags = torch.ones(2, BATCH, dtype=torch.bool)
    flags[0, 3] = flags[1, 5] = flags[0, 7] = flags[1, 7] = False
    texts *= flags.unsqueeze(2)
    images = torch.randint(0, 256, (BATCH, 36, 36), dtype=torch.uint8, generator=generator)
    whole = dict(images=images, findings=texts[0], impression=texts[1], has_findings=flags[0], has_impression=flags[1])
    whole |= dict(report=texts[0] + texts[1], has_report=flags[0] | flags[1])
    return {name: rows[part] for name, rows in whole.items()}


def recipe_of(objective: dict[str, Any]) -> Recipe:
    """With these options and, among them, those of the model."""
    options = {"name": "imitate", **objective}
    model = {**MODEL.model_dump(), "token_width": 8, **options.pop("model", {})}
    settings = tiny_recipe(batch_size=BATCH).model_copy(update={"model": ImitateConfig(**model)})
    return settings.model_copy(update={"objective": OPTIONS[options["name"]](**options)}).resolved()


def pretraining(settings: Recipe) -> nn.Module:
    """The heads' normalisation sees the batch, the backbone's is in eval mode."""
    module = training_module(seeded_model(settings.model, pretrained=False, seed=0), settings.objective).double()
    module.model.image.eval()
    for norm in module.modules():
        if isinstance(norm, PresentBatchNorm):
            norm.synchronised = True
    return module


def gradients(
    objective: dict[str, Any], rank: int, world: int, *, part: slice | None = None
) -> dict[str, torch.Tensor]:
    """The terms, and the gradient of every weight, of a process's part of the batch or of the one that is given."""
    settings = recipe_of(objective)
    module = pretraining(settings)
    if "grounding" in objective:  # whose halves are then those of the batch
        module.eval()
    part = part or slice(rank * BATCH // world, (rank + 1) * BATCH // world)
    wrapped = nn.parallel.DistributedDataParallel(module) if world > 1 else module
    terms = wrapped(batch(part), draw_step(module.model, settings, step=2, part=part))
    sum(terms.values()).backward()
    found = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    return {**{f"term {name}": value.detach() for name, value in terms.items()}, **found}


def calls(rank: int, world: int, settings: Recipe | None = None) -> Calls:
    """Of one step, beyond those of the backbone alone."""
    settings = settings or tiny_recipe(batch_size=BATCH)
    module = pretraining(settings)
    part = slice(rank * BATCH // world, (rank + 1) * BATCH // world)
    sample, draw = batch(part), draw_step(module.model, settings, step=2, part=part)
    sum(module(sample, draw).values()).backward()  # what is kept from the first step is not counted
    with Calls() as counted:
        sum(module(sample, draw).values()).backward()
    images = torch.rand(len(sample["images"]), 3, 32, 32, dtype=torch.float64)
    with Calls() as backbone:
        for _ in range(2):
            features = module.model.image(images)
            sum(level.sum() for level in (*features.levels, features.pooled)).backward()
    counted.operators -= backbone.operators
    return counted


def _worker(rank: int, world: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world)
    found = [gradients(objective, rank, world) for objective in (*OBJECTIVES, GROUNDED)]
    counted = calls(rank, world)
    torch.save((found, dict(counted.operators), sorted(counted.shapes)), folder / f"rank{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """What each of two processes found."""
    folder = tmp_path_factory.mktemp("shared")
    mp.start_processes(_worker, (2, folder), nprocs=2, start_method="fork")
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("number", range(len(OBJECTIVES)), ids=[str(each) for each in OBJECTIVES])
def test_own_rows_sum_to_the_loss_and_gradient_of_one_process(shared, number):
    alone = gradients(OBJECTIVES[number], 0, 1)
    for found, _, _ in shared:
        assert found[number].keys() == alone.keys()
        for name, value in alone.items():
            tight = dict(rtol=1e-12, atol=1e-12) if name.startswith("term") else dict(rtol=1e-9, atol=1e-11)
            torch.testing.assert_close(found[number][name], value, **tight, msg=lambda m, n=name: f"{n}: {m}")


def test_each_process_contrasts_texts_with_its_own_positions(shared):
    halves = [gradients(GROUNDED, 0, 1, part=part) for part in (slice(0, BATCH // 2), slice(BATCH // 2, BATCH))]
    for name in ("term grounding", "model.aggregation.place_head.weight"):
        expected = (halves[0][name] + halves[1][name]) / 2
        assert expected.abs().max() > 1e-3
        for found, _, _ in shared:
            torch.testing.assert_close(found[-1][name], expected, rtol=1e-9, atol=1e-12)


GOLDEN = json.loads((Path(__file__).parents[1] / "golden/objective.json").read_text())


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: str(case["objective"]))
def test_the_published_objective_is_that_of_the_code_before_objectives_were_opened(shared, case):
    """Terms and gradient in float64, made with the code of that commit, in one process and in two."""
    number = OBJECTIVES.index(case["objective"])
    for found in (gradients(case["objective"], 0, 1), *(found[number] for found, _, _ in shared)):
        terms = {name.removeprefix("term "): value for name, value in found.items() if name.startswith("term")}
        assert {name: value.item() for name, value in terms.items()} == pytest.approx(case["terms"], rel=1e-12)
        norms = [value.norm() for name, value in found.items() if not name.startswith("term")]
        assert torch.stack(norms).norm().item() == pytest.approx(case["gradient norm"], rel=1e-9)


def test_no_process_computes_the_whole_matrix(shared):
    for _, _, shapes in shared:
        assert (BATCH // 2, BATCH) in shapes and (BATCH, BATCH) not in shapes


@pytest.mark.parametrize("objective", [{"kernel": "none", "views": 1}, {"name": "clip", "views": 1}], ids=str)
@pytest.mark.parametrize("identical", [{}, {"identical": "positive"}], ids=str)
def test_a_sigmoid_loss_keeps_no_matrix_of_all_pairs(monkeypatch, objective, identical):
    for module in ("pretraining", "baselines"):
        monkeypatch.setattr(f"imitate.training.{module}.sigmoid_loss", partial(sigmoid_loss, columns=5))
    seen = calls(0, 1, recipe_of({"contrast": "sigmoid", **objective, **identical})).shapes
    assert (BATCH, 5) in seen and (BATCH, 3) in seen and (BATCH, BATCH) not in seen


def test_a_step_has_no_more_collectives_and_operators_than_it_needs(shared):
    """What grows here costs every step on every GPU: raise a bound only for what is worth that.

    Collectives: one forward and one backward for each of the heads' 16 normalisations, one for texts and flags, and
    for embeddings and terms one forward and one backward. Of the operators, a fiftieth is room for versions of torch.
    """
    assert {operators["c10d"] for _, operators, _ in shared} == {2 * 16 + 1 + 2 + 2}
    assert max(operators["aten"] for _, operators, _ in shared) <= 2_935
    assert calls(0, 1).operators["aten"] <= 2_805
