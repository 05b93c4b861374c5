"""The baselines' steps: their terms, what they train, and two processes against one."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from recipes import tiny_recipe
from torch import nn

from imitate.config import OPTIONS, Recipe
from imitate.data.augment import warp
from imitate.losses.baselines import CONVIRT_WEIGHT, alignment, info_nce, nt_xent, orthogonality
from imitate.models.imitate import seeded_model
from imitate.training.baselines import Caption
from imitate.training.draws import draw_step
from imitate.training.objectives import training_module
from imitate.training.pretraining import Pretraining

TERMS = {"clip": ["caption"], "convirt": ["caption"], "mflag": ["alignment", "orthogonality"], "simclr": ["views"]}


def recipe(name: str, **objective) -> Recipe:
    settings = OPTIONS[name](name=name, **objective)
    return tiny_recipe().model_copy(update={"objective": settings}).resolved()


def batch():
    generator = torch.Generator().manual_seed(1)
    present = torch.tensor([i != 3 for i in range(8)])
    text = torch.randn(8, 12, generator=generator, dtype=torch.float64) * present.unsqueeze(1)
    images = torch.randint(0, 256, (8, 36, 36), dtype=torch.uint8, generator=generator)
    return dict(images=images, report=text, has_report=present)


def module(settings: Recipe) -> Any:
    model = seeded_model(settings.model, pretrained=False, seed=0)
    return training_module(model, settings.objective).double()


@pytest.mark.parametrize("name", TERMS)
def test_the_terms_are_the_losses_summed_over_the_views(name):
    settings = recipe(name)
    step, sample = module(settings), batch()
    draw = draw_step(step.model, settings, step=2)
    found = step(sample, draw)
    model, present = step.model, sample["has_report"]
    features = [model.image(warp(sample["images"], view, model.config).double()) for view in draw.views]
    seen = [model.impression_head(each.pooled) for each in features]
    text = model.text_head(sample["report"], present)
    weight = CONVIRT_WEIGHT if name == "convirt" else 0.5
    expected = {
        "caption": sum(info_nce(view, text, 0.07, present, weight) for view in seen),
        "alignment": sum(alignment(view, text, present) for view in seen),
        "orthogonality": sum(orthogonality(each.pooled) for each in features),
        "views": nt_xent(seen[0], seen[1], 0.2),
    }
    assert list(found) == TERMS[name]
    for key, value in found.items():
        assert value.item() == pytest.approx(expected[key].item(), rel=1e-9)


@pytest.mark.parametrize("name", TERMS)
def test_every_trainable_weight_gets_a_gradient(name):
    """So that a data-parallel wrapper, which waits for all of them, works."""
    settings = recipe(name)
    step = module(settings)
    torch.stack(list(step(batch(), draw_step(step.model, settings, step=0)).values())).sum().backward()
    assert [n for n, p in step.named_parameters() if p.requires_grad and p.grad is None] == []
    assert any(p.requires_grad for p in step.model.text_head.parameters()) == (name != "simclr")


def test_imitate_and_the_baselines_see_the_same_views_and_start_from_the_same_encoder():
    ours, theirs = recipe("imitate"), recipe("clip")
    steps = [module(settings) for settings in (ours, theirs)]
    assert type(steps[0]) is Pretraining and type(steps[1]) is Caption
    a, b = (draw_step(step.model, settings, step=7) for step, settings in zip(steps, (ours, theirs), strict=True))
    for one, other in zip(a.views, b.views, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(one, other, strict=True))
    first, second = (step.model.image.state_dict() for step in steps)
    assert all(torch.equal(first[key], second[key]) for key in first)


def _gradients(name: str, rank: int, world: int) -> dict[str, torch.Tensor]:
    settings = recipe(name)
    step = module(settings)
    for part in step.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.eval()
    share = 8 // world
    mine = slice(rank * share, (rank + 1) * share)
    wrapped = nn.parallel.DistributedDataParallel(step) if world > 1 else step
    terms = wrapped({k: v[mine] for k, v in batch().items()}, draw_step(step.model, settings, step=1, part=mine))
    torch.stack(list(terms.values())).sum().backward()
    return {key: p.grad for key, p in step.named_parameters() if p.grad is not None}


def _worker(rank: int, folder) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.save({name: _gradients(name, rank, 2) for name in TERMS}, folder / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def test_two_processes_have_the_gradient_of_one(tmp_path):
    mp.start_processes(_worker, (tmp_path,), nprocs=2, start_method="fork")
    both = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for name in TERMS:
        for key, value in _gradients(name, 0, 1).items():
            for shared in both:
                np.testing.assert_allclose(shared[name][key], value, rtol=1e-8, atol=1e-10, err_msg=f"{name} {key}")
