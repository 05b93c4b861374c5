"""Runs that start from other weights, by the command itself."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from folders import write_folder
from jobs import metrics, start
from recipes import tiny_recipe
from runs import pretrain
from safetensors.torch import load_file
from text_models import write_bert

from imitate.config import Recipe
from imitate.data.sampler import BatchReader
from imitate.inference.export import export_model
from imitate.models.text import load_text_encoder
from imitate.training.checkpoint import load_checkpoint
from imitate.training.draws import draw_step
from imitate.training.objectives import training_module

OBJECTIVE = {"contrast": "sigmoid", "kernel": "none", "learn_temperature": True}


def write_recipe(path: Path, **changes: object) -> Path:
    """Sigmoid contrast has two weights beside the model's: temperature and bias."""
    settings = tiny_recipe(learning_rate=0.02, epochs=1).model_dump(mode="json", exclude_unset=True)
    path.write_text(yaml.safe_dump({**settings, "objective": OBJECTIVE, **changes}))
    return path


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A prepared folder, a recipe, and a run that has finished."""
    root = tmp_path_factory.mktemp("from")
    write_folder(root / "data", n=60)
    recipe = write_recipe(root / "recipe.yaml", model={**tiny_recipe().model.model_dump(mode="json", exclude_unset=True),
                                                       "mean": [0.4] * 3, "std": [0.3] * 3})  # fmt: skip
    assert pretrain(recipe, root / "data", root / "first") == 0
    return root


def continued(root: Path, out: Path, *more: str, recipe: Path | None = None) -> int:
    return pretrain(recipe or root / "recipe.yaml", root / "data", out, "--init", str(root / "first"), *more)


def recorded(out: Path) -> dict:
    return json.loads((out / "init.json").read_text())


def test_the_losses_of_a_run_that_is_continued_begin_where_the_sources_end(root, tmp_path):
    """The first loss is that of the source's weights, heads, temperature and bias on the first batch."""
    assert continued(root, tmp_path / "second", "--training.steps", "1") == 0
    recipe = Recipe.model_validate(yaml.safe_load((root / "recipe.yaml").read_text()))
    job, state = start(tmp_path / "job", root / "data", recipe), load_checkpoint(root / "first")
    assert isinstance(job.reader, BatchReader)
    step = training_module(job.model, recipe.objective).train()
    batch, draw = job.reader(job.order.batch(0), 0), draw_step(job.model, recipe, step=0)
    fresh = {name: term.item() for name, term in step(batch, draw).items()}
    job.model.load_state_dict(state["model"])
    step.load_state_dict(state["objective"], strict=False)
    terms = {name: term.item() for name, term in step(batch, draw).items()}
    (row,) = [row for row in metrics(tmp_path / "second") if "loss" in row]
    assert {name: row[name] for name in terms} == pytest.approx(terms, rel=1e-6)
    assert all(abs(terms[name] - fresh[name]) > 1e-3 for name in ("findings", "impression"))
    found = recorded(tmp_path / "second")
    assert not found["fresh"] and not found["unused"] and found["loaded"]["objective"] == 2
    assert found["text"] == load_text_encoder(root / "first" / "text").name
    settings = yaml.safe_load((tmp_path / "second" / "config.yaml").read_text())
    assert settings["init"] == str(root / "first") and settings["model"]["mean"] == [0.4] * 3
    (begun,) = (json.loads(line) for line in (tmp_path / "second" / "starts.jsonl").read_text().splitlines())
    assert begun["weights"] == str(root / "first")


def test_a_run_that_has_begun_needs_its_source_no_more_and_takes_no_other(root, tmp_path, capsys):
    source, out = tmp_path / "source", tmp_path / "run"
    shutil.copytree(root / "first", source)
    bare = write_recipe(tmp_path / "bare.yaml")  # which says nothing of mean and std
    command = (bare, root / "data", out, "--init", str(source), "--training.steps")
    assert pretrain(*command, "2") == 0
    shutil.rmtree(source)
    assert pretrain(*command, "3", "--continue-with", "training.steps=3") == 0
    assert [row["step"] for row in metrics(out) if "loss" in row] == [1, 2, 3]
    assert yaml.safe_load((out / "config.yaml").read_text())["model"]["mean"] == [0.4] * 3
    assert pretrain(bare, root / "data", out, "--init", str(root / "first"), "--training.steps", "3") == 2
    assert "holds a run with different settings: init is" in capsys.readouterr().err
    plain = tmp_path / "plain"  # which began without
    assert pretrain(bare, root / "data", plain, "--training.steps", "1") == 0
    assert continued(root, plain, "--training.steps", "1", recipe=bare) == 2
    assert "holds a run with different settings: init is None there" in capsys.readouterr().err
    assert pretrain(bare, root / "data", tmp_path / "other", *command[3:], "1") == 2
    assert "no model at" in capsys.readouterr().err and not (tmp_path / "other").exists()


def test_the_image_encoder_that_is_frozen_stays_the_sources_bit_by_bit(root, tmp_path):
    out = tmp_path / "frozen"
    assert continued(root, out, "--training.freeze", "image") == 0
    theirs, ours = (load_file(folder / "model" / "model.safetensors") for folder in (root / "first", out))
    moved = {name for name, tensor in ours.items() if not torch.equal(tensor, theirs[name])}
    assert moved and not any(name.startswith("image.") for name in moved)
    assert {name.partition(".")[0] for name in moved} == {
        "aggregation",
        "findings_head",
        "impression_head",
        "text_head",
    }
    state = load_checkpoint(out)["optimizer"]
    learned = sum(not name.startswith("image.") and "running" not in name and "num_" not in name for name in ours)
    assert len(state["state"]) == learned + 2  # with temperature and bias


def test_an_export_is_a_source_with_and_without_its_text_encoder(root, tmp_path):
    for name in ("whole", "images"):
        export_model(str(root / "first"), tmp_path / name, images_only=name == "images")
        out = tmp_path / f"from-{name}"
        command = (root / "recipe.yaml", root / "data", out, "--init", str(tmp_path / name), "--training.steps", "1")
        assert pretrain(*command, "--training.learning_rate", "1e-12", "--training.final_learning_rate", "0") == 0
        found, theirs = recorded(out), load_file(root / "first" / "model" / "model.safetensors")
        ours = load_file(out / "model" / "model.safetensors")
        for part in ("image.network.conv1", "findings_head.0"):
            assert torch.allclose(ours[f"{part}.weight"], theirs[f"{part}.weight"], atol=1e-6)
        assert (found["text"] is not None) == (name == "whole")
        assert found["fresh"]["objective.bias"] == "the source has none"


def test_a_text_encoder_that_learned_goes_on_learning_from_where_it_was(root, tmp_path):
    bert = write_bert(tmp_path / "bert")
    changes = {"text": f"hf:{bert}:mean", "objective": {}}
    recipe = write_recipe(tmp_path / "recipe.yaml", **changes)
    first, second = tmp_path / "first", tmp_path / "second"
    layers = ("--training.text_layers", "1", "--training.text_learning_rate", "0.01")
    assert pretrain(recipe, root / "data", first, *layers) == 0
    assert pretrain(recipe, root / "data", second, "--init", str(first), *layers) == 0
    learned, starts, ends = (load_text_encoder(each) for each in
                             (first / "model" / "text", second / "text", second / "model" / "text"))  # fmt: skip
    assert starts.identity == learned.identity != ends.identity and ends.name == learned.name
    assert recorded(second)["text"] == learned.name and "text_head" in recorded(second)["loaded"]
    other = write_recipe(tmp_path / "other.yaml", text="lsa-8", objective={})
    assert pretrain(other, root / "data", tmp_path / "third", "--init", str(first), "--training.steps", "1") == 0
    assert recorded(tmp_path / "third")["text"] is None and "text_head" in recorded(tmp_path / "third")["fresh"]
