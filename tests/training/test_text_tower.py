"""A text encoder that learns with the model: its gradient, on two processes, killed, and what else stays as it was."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from batches import batch
from folders import write_folder
from jobs import metrics, start
from recipes import TINY_MODEL, tiny_recipe
from text_models import texts, write_bert
from torch import nn
from torch.nn import functional as F

from imitate.config import CaptionOptions, ImitateOptions, Recipe
from imitate.data.augment import warp
from imitate.models.imitate import Imitate, seeded_model
from imitate.models.text import fit_or_load, load_text_encoder
from imitate.models.text_tower import TextTower
from imitate.training import loop
from imitate.training.baselines import Caption
from imitate.training.draws import draw_step
from imitate.training.loop import fit
from imitate.training.pretraining import Pretraining
from imitate.training.text_tower import Reading

MODEL = TINY_MODEL.model_copy(update={"text_width": 16})


@pytest.fixture(scope="module")
def bert(tmp_path_factory) -> Path:
    return write_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_folder(tmp_path_factory.mktemp("tower") / "data", n=60)


def frozen_norms(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    return model


def reading(bert: Path, step: type, options, *, config=MODEL, chunk: int | None = None) -> Reading:
    tower = TextTower(fit_or_load(f"hf:{bert}:mean", []), layers=1).double()
    model = frozen_norms(seeded_model(config, pretrained=False, seed=0).double())
    return Reading(tower, step(model, options), chunk=chunk)


def sample(module: Reading) -> dict[str, torch.Tensor]:
    """Eight samples; the first lacks its findings, the last its impression and report."""
    found = batch(8, findings=(0,), impression=(7,))
    for first, name in enumerate(("findings", "impression", "report")):
        pieces = module.tower.pieces.encode(texts(40)[8 * first : 8 * first + 8])[:, :16]
        found[name] = pieces * found[f"has_{name}"].unsqueeze(1)
    return {name: value for name, value in found.items() if "sentences" not in name}


def gradients(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight.grad for name, weight in module.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("chunk", [None, 3])
def test_the_gradient_is_that_of_a_plain_bert_before_the_loss(bert, chunk):
    from transformers import AutoModel, AutoTokenizer

    options = CaptionOptions(name="clip", views=1)
    config = MODEL.model_copy(update=options.model)
    module = reading(bert, Caption, options, config=config, chunk=chunk)
    given = {**sample(module), "has_report": torch.ones(8, dtype=torch.bool)}
    given["report"] = module.tower.pieces.encode(texts(8))[:, :16]
    recipe = tiny_recipe().model_copy(update={"objective": options, "model": config})
    draw = draw_step(module.step.model, recipe, step=1)
    loss = module(given, draw)["caption"]
    loss.backward()

    plain, tokenizer = AutoModel.from_pretrained(bert).double().eval(), AutoTokenizer.from_pretrained(bert)
    model = module.step.model
    vectors = torch.stack(
        [plain(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0) for text in texts(8)]
    )
    text = F.normalize(model.text_head(vectors))
    image = F.normalize(
        model.impression_head(model.image(warp(given["images"], draw.views[0], config).double()).pooled)
    )
    logits, own = image @ text.T / 0.07, torch.arange(8)
    expected = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
    assert loss.item() == pytest.approx(expected.item(), rel=1e-9)
    wanted = torch.autograd.grad(expected, list(plain.encoder.layer[1].parameters()))
    for name, grad, theirs in zip(plain.encoder.layer[1].state_dict(), own_grads(module), wanted, strict=True):
        torch.testing.assert_close(grad, theirs, rtol=1e-8, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}")


def own_grads(module: Reading) -> list[torch.Tensor]:
    return [weight.grad for weight in module.tower.parameters() if weight.requires_grad]


def test_the_prior_is_a_constant_that_the_encoder_cannot_learn_to_please(bert, monkeypatch):
    options = ImitateOptions(views=1)
    recipe = tiny_recipe().model_copy(update={"objective": options, "model": MODEL})
    found = []
    for constant in (False, True):
        module = reading(bert, Pretraining, options)
        if constant:
            original = module.step._prior
            monkeypatch.setattr(module.step, "_prior", lambda text, *rest, own=original: own(text.detach(), *rest))
        terms = module(sample(module), draw_step(module.step.model, recipe, step=1))
        torch.stack(list(terms.values())).sum().backward()
        found.append(own_grads(module))
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True)) and all(grad.any() for grad in found[0])


def shared(rank: int, world: int, bert: Path, options) -> dict[str, torch.Tensor]:
    module = reading(bert, Pretraining, options)
    recipe = tiny_recipe().model_copy(update={"objective": options, "model": MODEL})
    part = slice(rank * 8 // world, (rank + 1) * 8 // world)
    wrapped = nn.parallel.DistributedDataParallel(module) if world > 1 else module
    draw = draw_step(module.step.model, recipe, step=2, part=part)
    terms = wrapped({name: value[part] for name, value in sample(module).items()}, draw)
    torch.stack(list(terms.values())).sum().backward()
    return gradients(module)


def worker(rank: int, world: int, bert: Path, options, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world)
    torch.save(shared(rank, world, bert, options), folder / f"rank{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def test_two_processes_have_the_gradient_of_one(tmp_path, bert):
    options = ImitateOptions()
    mp.start_processes(worker, (2, bert, options, tmp_path), nprocs=2, start_method="fork")
    alone = shared(0, 1, bert, options)
    assert any(name.startswith("tower.") for name in alone)
    for rank in range(2):
        found = torch.load(tmp_path / f"rank{rank}.pt", weights_only=True)
        assert found.keys() == alone.keys()
        for name, value in alone.items():
            torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")


def trained(bert: Path, **training: object) -> Recipe:
    values = tiny_recipe().model_dump()
    settings = {**values["training"], "text_layers": 1, "text_learning_rate": 1e-2, **training}
    return Recipe.model_validate({**values, "text": f"hf:{bert}:mean", "training": settings})


def test_steps_change_the_chosen_layers_and_the_run_keeps_them(tmp_path, bert, data):
    embedded = []

    def validate(model: Imitate) -> dict[str, float]:
        embedded.append(job.tower.encoder().encode(["left effusion"]))
        return {"recall": 1.0 / len(embedded)}

    job = start(tmp_path / "run", data, trained(bert, snapshot_every=4), validate)
    before = {name: weight.clone() for name, weight in job.tower.state_dict().items()}
    assert fit(job) and len(embedded) == 2
    changed = {name for name, weight in job.tower.state_dict().items() if not torch.equal(weight, before[name])}
    assert changed == job.tower.learned().keys() and len(changed) == 16
    for folder, expected in (("model", embedded[1]), ("best", embedded[0]), ("snapshots/step-0000004", embedded[0])):
        assert torch.equal(load_text_encoder(tmp_path / "run" / folder / "text").encode(["left effusion"]), expected)
    assert not torch.equal(*embedded)


def test_killed_in_any_step_the_text_encoder_continues_bit_for_bit(tmp_path, bert, data, monkeypatch):
    recipe = trained(bert, checkpoint_every=1, ema_decay=0.9)
    assert fit(start(tmp_path / "whole", data, recipe))
    original, kill_at = loop._agreed, {1, 5}

    def killed(job, *args):
        if job.step in kill_at:
            kill_at.remove(job.step)
            raise SystemError("killed before this step is saved")
        return original(job, *args)

    monkeypatch.setattr(loop, "_agreed", killed)
    for _ in range(2):
        with pytest.raises(SystemError):
            fit(start(tmp_path / "broken", data, recipe))
    assert fit(start(tmp_path / "broken", data, recipe))
    for file in ("model.safetensors", "text/model.safetensors"):
        assert (tmp_path / "broken/model" / file).read_bytes() == (tmp_path / "whole/model" / file).read_bytes()
    assert metrics(tmp_path / "broken") == metrics(tmp_path / "whole")


def test_the_text_encoder_has_a_rate_of_its_own(tmp_path, bert, data):
    job = start(tmp_path / "run", data, trained(bert, learning_rate=1e-3, text_learning_rate=1e-4))
    _, optimizer = loop._set_up(job)
    own = {id(weight) for weight in job.tower.parameters()}
    scales = {group["scale"] for group in optimizer.param_groups if id(group["params"][0]) in own}
    assert [*scales] == [pytest.approx(0.1)] and optimizer.param_groups[0]["scale"] == 1
    assert sum(len(group["params"]) for group in optimizer.param_groups if group["scale"] != 1) == 16
