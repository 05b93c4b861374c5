"""The total loss against a loop, and two processes against one."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from batches import batch
from recipes import TINY_MODEL as MODEL
from recipes import tiny_recipe
from torch import nn
from torch.nn import functional as F

from imitate.config import ImitateOptions, Recipe
from imitate.data.augment import warp
from imitate.models.imitate import Imitate, seeded_model
from imitate.training.draws import draw_step, move
from imitate.training.pretraining import Pretraining


def recipe(batch: int = 8, **objective) -> Recipe:
    return tiny_recipe(batch_size=batch).model_copy(update={"objective": ImitateOptions(**objective)})


def naive_terms(module: Pretraining, sample, draw) -> dict[str, float]:
    """The published loss as written: one sample pair at a time; only the sample's own section decides its presence."""
    model, settings = module.model, module.options
    embedded = {"findings": [], "impression": [], "m2": []}
    for v in range(settings.views):
        features = model.image(warp(sample["images"], draw.views[v], model.config).double())
        embedded["findings"].append(model.findings_head(model.aggregation(features.levels, draw.channels_text[v])))
        embedded["m2"].append(model.findings_head(model.aggregation(features.levels, draw.channels_views[v])))
        embedded["impression"].append(model.impression_head(features.pooled))

    def contrast(x, y, text, tau, keep, prior=True):
        x, y = F.normalize(x, dim=1).detach().numpy(), F.normalize(y, dim=1).detach().numpy()
        loss = 0.0
        for a, b in ((x, y), (y, x)):
            for i in keep:
                logits = np.array([a[i] @ b[j] / tau for j in keep])
                log_p = logits - np.log(np.exp(logits).sum())
                for j, value in zip(keep, log_p, strict=True):
                    p = max(0.0, np.corrcoef(text[i], text[j])[0, 1]) if i != j else 0.0
                    loss -= ((i == j) + (tau * (1 - np.exp(-0.2 * p)) if prior else 0.0)) * value
        return loss / len(keep)

    terms = {}
    for name in ("findings", "impression"):
        keep = np.flatnonzero(sample[f"has_{name}"].numpy())
        text = sample[name].double()
        projected = torch.zeros(len(text), 16, dtype=torch.float64)
        projected[keep] = model.text_head(text[keep])  # statistics of the present texts
        text = text.numpy()
        terms[name] = sum(contrast(view, projected, text, 0.07, keep) for view in embedded[name])
        if settings.views == 2 and settings.visual_visual:
            first, second = embedded["m2" if name == "findings" else name]
            terms[f"views_{name}"] = 2 * contrast(first, second, text, 0.2, keep, prior=name == "impression")
    return terms


@pytest.mark.parametrize(
    "missing_findings, missing_impression, views", list(itertools.product([(), (0, 3)], [(), (5,)], [1, 2]))
)
def test_total_loss_equals_a_loop_in_float64(missing_findings, missing_impression, views):
    settings = recipe(views=views)
    module = Pretraining(seeded_model(MODEL, pretrained=False, seed=0).double(), settings.objective)
    sample = batch(findings=missing_findings, impression=missing_impression)
    draw = draw_step(module.model, settings, step=4)
    ours = module(sample, draw)
    theirs = naive_terms(module, sample, draw)
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert ours[name].item() == pytest.approx(float(theirs[name]), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("missing", [dict(findings=range(8)), dict(impression=range(8))])
def test_a_batch_without_a_section_trains_the_other(missing):
    settings = recipe()
    module = Pretraining(seeded_model(MODEL, pretrained=False, seed=0), settings.objective)
    terms = module(batch(**missing), draw_step(module.model, settings, step=0))
    torch.stack(list(terms.values())).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in module.parameters() if p.grad is not None)
    absent = next(iter(missing))
    assert terms[absent].item() == 0 and terms[f"views_{absent}"].item() == 0


def test_the_draw_depends_on_seed_and_step_alone_and_replays():
    settings = recipe()
    module = Pretraining(seeded_model(MODEL, pretrained=False, seed=0), settings.objective)
    first, second, other = (draw_step(module.model, settings, step=step) for step in (3, 3, 4))
    assert torch.equal(first.views[1].homography, second.views[1].homography)
    assert not torch.equal(first.views[1].homography, other.views[1].homography)
    assert not torch.equal(first.channels_text[0][3], first.channels_views[0][3])
    a, b = (module(batch(), draw) for draw in (first, second))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_own_rows_of_a_draw_are_those_of_the_whole_and_move_in_one_piece():
    settings = recipe()
    settings = settings.model_copy(update={"model": MODEL.model_copy(update={"channel_draw": "sample"})})
    model = seeded_model(settings.model, pretrained=False, seed=0)
    whole = draw_step(model, settings, step=3)
    for own in (slice(0, 3), slice(3, 8)):
        found = move(draw_step(model, settings, step=3, part=own), torch.device("cpu"))
        for ours, theirs in zip(found.views, whole.views, strict=True):
            for value, expected in zip(ours, theirs, strict=True):
                assert value.dtype == expected.dtype and torch.equal(value, expected[own])
        for ours, theirs in zip(found[1:3], whole[1:3], strict=True):
            for value, expected in zip(itertools.chain(*ours), itertools.chain(*theirs), strict=True):
                assert value.dtype == expected.dtype and torch.equal(value, expected[own])


@pytest.mark.parametrize("texts, rows", [("sections", [0, 1]), ("swapped", [0, 1]), ("report", [])])
def test_statistics_of_a_section_are_those_of_its_texts_in_either_branch(texts, rows):
    settings = recipe()
    config = MODEL.model_copy(update={"text_statistics": "section", "texts": texts})
    module = Pretraining(seeded_model(config, pretrained=False, seed=0), settings.objective)
    sample, norm = batch(), module.model.text_head[1]
    module(sample, draw_step(module.model, settings, step=0))
    for row, name in zip(rows, ("findings", "impression"), strict=False):
        expected = module.model.text_head[0](sample[name]).mean(0) * norm.momentum
        torch.testing.assert_close(norm.section_mean[row], expected)
    assert norm.section_mean.any() == bool(rows)


def _frozen_norms(model: nn.Module) -> nn.Module:
    """Normalisation in eval mode: gloo has no synchronised BatchNorm for the backbone."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    return model


def _synchronised_heads(model: Imitate) -> Imitate:
    """Heads that train on the statistics of the global batch, over a backbone whose normalisation is in eval mode."""
    _frozen_norms(model.image)
    model.image.synchronise = lambda: None
    model.synchronise()
    return model


def _gradients(rank: int, world: int, settings: Recipe, norms=_frozen_norms) -> dict[str, torch.Tensor]:
    module = Pretraining(norms(seeded_model(MODEL, pretrained=False, seed=0).double()), settings.objective)
    share = settings.training.batch_size // world
    part = slice(rank * share, (rank + 1) * share)
    wrapped = nn.parallel.DistributedDataParallel(module) if world > 1 else module
    sample = batch(settings.training.batch_size, findings=(1, 6), impression=(2,))
    draw = draw_step(module.model, settings, step=2, part=part)
    terms = wrapped({name: value[part] for name, value in sample.items()}, draw)
    loss = torch.stack(list(terms.values())).sum()
    loss.backward()
    return {"loss": loss.detach(), **{name: p.grad for name, p in module.named_parameters() if p.grad is not None}}


def _worker(rank: int, world: int, settings: Recipe, folder: Path, norms=_frozen_norms) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world)
    torch.save(_gradients(rank, world, settings, norms), folder / f"rank{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.parametrize("norms", [_frozen_norms, _synchronised_heads])
def test_two_processes_have_the_loss_and_gradient_of_one(tmp_path, norms):
    settings = recipe()
    mp.start_processes(_worker, (2, settings, tmp_path, norms), nprocs=2, start_method="fork")
    alone = _gradients(0, 1, settings, norms)
    for rank in range(2):
        shared = torch.load(tmp_path / f"rank{rank}.pt", weights_only=True)
        assert shared.keys() == alone.keys()
        for name, value in alone.items():
            torch.testing.assert_close(shared[name], value, rtol=1e-9, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")


def test_per_rank_negatives_differ_from_global_ones(tmp_path):
    settings = recipe(negatives="rank")
    mp.start_processes(_worker, (2, settings, tmp_path), nprocs=2, start_method="fork")
    losses = [float(torch.load(tmp_path / f"rank{r}.pt", weights_only=True)["loss"]) for r in range(2)]
    assert float(_gradients(0, 1, settings)["loss"]) > max(losses)


def _chunked(chunk: int | None, *, norms=_frozen_norms, choice="replacement") -> tuple[Pretraining, torch.Tensor]:
    settings = recipe()
    settings = settings.model_copy(update={"model": MODEL.model_copy(update={"channel_draw": choice})})
    model = norms(seeded_model(settings.model, pretrained=False, seed=0).double())
    module = Pretraining(model, settings.objective, chunk=chunk)
    sample = batch(findings=(1, 6), impression=(2,))
    loss = torch.stack(list(module(sample, draw_step(module.model, settings, step=2)).values())).sum()
    return module, loss


@pytest.mark.parametrize("chunk, choice", [(3, "replacement"), (4, "distinct"), (3, "sample"), (8, "sample")])
def test_chunks_have_the_loss_and_gradient_of_the_whole_batch(chunk, choice):
    """The heads' normalisation trains, over the whole batch; the backbone's is in eval mode, else it sees a chunk."""

    def norms(model: Imitate) -> Imitate:
        _frozen_norms(model.image)
        return model

    (whole, expected), (parts, loss) = (_chunked(size, norms=norms, choice=choice) for size in (None, chunk))
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    expected.backward()
    loss.backward()
    for (name, ours), theirs in zip(parts.named_parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-9, atol=1e-11, msg=lambda m, n=name: f"{n}: {m}")
    for ours, theirs in zip(parts.buffers(), whole.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_computing_a_chunk_again_leaves_the_running_statistics_alone():
    module, loss = _chunked(4, norms=lambda model: model)
    before = {name: buffer.clone() for name, buffer in module.model.image.named_buffers()}
    assert {int(value) for name, value in before.items() if name.endswith("num_batches_tracked")} == {4}
    loss.backward()
    assert all(torch.equal(buffer, before[name]) for name, buffer in module.model.image.named_buffers())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.model.image.parameters())


def test_chunks_keep_a_fraction_of_the_memory_until_backward():
    def kept(chunk: int | None) -> int:
        held = {}

        def hold(tensor: torch.Tensor) -> torch.Tensor:
            held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(hold, lambda tensor: tensor):
            module, _ = _chunked(chunk)
        weights = {p.untyped_storage().data_ptr() for p in module.parameters()}
        return sum(size for pointer, size in held.items() if pointer not in weights)

    assert kept(2) < kept(None) / 5


ALL = range(8)
DEGENERATE = {
    "no findings": batch(findings=ALL),
    "no impression": batch(impression=ALL),
    "no text at all": batch(findings=ALL, impression=ALL),
    "one sample with findings": batch(findings=range(1, 8)),
    "one sample": batch(1),
    "identical texts": {**batch(), "findings": torch.ones(8, 12).cumsum(1), "impression": torch.ones(8, 12).cumsum(1)},
    "constant texts": {**batch(), "findings": torch.full((8, 12), 0.3), "impression": torch.zeros(8, 12)},
    "identical images": {**batch(), "images": torch.full((8, 36, 36), 7, dtype=torch.uint8)},
    "black images": {**batch(), "images": torch.zeros(8, 36, 36, dtype=torch.uint8)},
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_batches_have_finite_losses_and_gradients(name):
    sample, settings = DEGENERATE[name], recipe(max(2, len(DEGENERATE[name]["images"])))
    if len(sample["images"]) == 1:  # a single sample needs more than one position in the deepest level
        settings = settings.model_copy(
            update={"model": MODEL.model_copy(update={"prepared_size": 72, "image_size": 64})}
        )
        sample = {**sample, "images": torch.randint(0, 256, (1, 72, 72), dtype=torch.uint8)}
    module = Pretraining(seeded_model(settings.model, pretrained=False, seed=0), settings.objective)
    part = slice(len(sample["images"]))
    terms = module(sample, draw_step(module.model, settings, step=0, part=part))
    torch.stack([*terms.values()]).sum().backward()
    norm = nn.utils.get_total_norm([p.grad for p in module.parameters() if p.grad is not None])
    assert all(torch.isfinite(term) for term in terms.values()) and torch.isfinite(norm), f"norm {norm}"
    assert all(torch.isfinite(buffer).all() for buffer in module.buffers())


@pytest.mark.parametrize("objective", [{}, {"identical": "ignored"}, {"identical": "one"}, {"kernel": "sigmoid"}])
def test_samples_without_any_text_have_the_visual_terms_alone(objective):
    """With texts that are all unlike, the visual terms are those of plain InfoNCE over all samples."""
    settings = recipe(**objective)
    module = Pretraining(seeded_model(MODEL, pretrained=False, seed=0).double(), settings.objective)
    none, draw = range(8), draw_step(module.model, settings, step=4)
    bare, some = (module(batch(findings=missing, impression=missing), draw) for missing in (none, (6, 7)))
    assert bare["findings"] == bare["impression"] == 0 and some["findings"] > 0
    seen = [module.model.image(warp(batch()["images"], view, module.model.config).double()) for view in draw.views]
    a, b = (F.normalize(module.model.impression_head(each.pooled), dim=1) for each in seen)
    logits, own = a @ b.T / 0.2, torch.arange(8)
    expected = 2 * (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own))
    assert torch.allclose(bare["views_impression"], expected) and bare["views_findings"] > 0
    assert not torch.allclose(some["views_impression"], module(batch(), draw)["views_impression"])
    sum(some.values()).backward()
