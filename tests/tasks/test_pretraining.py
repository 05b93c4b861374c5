"""How a run is begun and continued."""

import json
import math
import platform
from collections import Counter
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
import yaml
from folders import write_folder
from jobs import metrics
from recipes import TINY_MODEL, tiny_recipe
from runs import pretrain

from imitate.config import OPTIONS, ImitateConfig, Recipe
from imitate.data.corpus import Corpus
from imitate.data.text_cache import TextCache, corpus
from imitate.errors import UserError
from imitate.inference.encoder import ImitateEncoder, load_encoder
from imitate.models.imitate import Imitate, parameter_count, seeded_model
from imitate.models.text import fit_or_load
from imitate.tasks import pretraining, pretraining_plan, retrieval
from imitate.tasks.base import Budget
from imitate.tasks.pretraining import VALIDATION
from imitate.tasks.retrieval import Retrieval
from imitate.training import precision


def test_a_run_continues_without_asking_for_weights_and_with_what_is_said_to_change(tmp_path, monkeypatch, capsys):
    """After a loss that was not finite the same command alone would meet the same loss again."""
    data, out, asked = write_folder(tmp_path / "data", n=60), tmp_path / "run", list[bool]()
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(tiny_recipe(epochs=1).model_dump(mode="json")))
    built = pretraining.seeded_model

    def build(config: ImitateConfig, *, pretrained: bool, seed: int) -> Imitate:
        asked.append(pretrained)
        return built(config, pretrained=False, seed=seed)

    monkeypatch.setattr(pretraining, "seeded_model", build)
    weights = ("--settings", "pretrained=true")
    assert pretrain(recipe, data, out, *weights) == 0
    other = ("--continue-with", "training.learning_rate=1e-5", "training.epochs=2")
    assert pretrain(recipe, data, out, *weights, *other) == 0
    assert asked == [True, False] and {row["step"] for row in metrics(out)} == set(range(1, 9))
    first, second = (json.loads(line) for line in (out / "starts.jsonl").read_text().splitlines())
    assert (first["step"], second["step"], first["changed"]) == (0, 4, [])
    assert second["changed"] == ["training.epochs is 1 there and 2 here",
                                 "training.learning_rate is 0.001 there and 1e-05 here"]  # fmt: skip
    assert first["weights"] == "resnet18.a1_in1k" and first["torch"] == torch.__version__.partition("+")[0]
    assert pretrain(recipe, data, out, *weights) == 2
    assert "training.learning_rate is 1e-05 there and 0.001 here. Choose another --out, or" in capsys.readouterr().err
    assert pretrain(recipe, data, out, "--continue-with", "text=lsa-4") == 2
    assert "--continue-with text: only settings of training can change when a run continues" in capsys.readouterr().err


def test_a_validation_ranks_once_each_way_and_has_the_metrics_of_the_task(tmp_path, monkeypatch):
    data = Corpus.open(write_folder(tmp_path / "data", n=60))
    encoder = ImitateEncoder("run", seeded_model(TINY_MODEL.model_copy(update={"text_width": 8}), pretrained=False, seed=0),
                             fit_or_load("lsa-8", corpus(data)))  # fmt: skip
    ranked, budget = Counter[str](), Budget()
    ranking = retrieval.rank_each
    monkeypatch.setattr(retrieval, "rank_each", lambda sides: (ranked.update(all=len(sides)), ranking(sides))[1])
    found = VALIDATION.measure(VALIDATION.predict(encoder, data, budget))
    assert ranked["all"] == 3 * 2  # both, findings, impression
    whole = Retrieval(split="val")
    assert found == whole.measure(whole.predict(encoder, data, budget))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ((1.0,), "--weights has 1 values for 2 folders"),
        ((1.0, 0.0), "--weights 0: weights must be above 0"),
        ((-1.0, 1.0), "--weights -1: weights must be above 0"),
        ((1.0, math.inf), "--weights inf: weights must be above 0"),
        ((math.nan, 1.0), "--weights nan: weights must be above 0"),
    ],
)
def test_weights_are_one_above_0_for_each_folder(weights, message):
    with pytest.raises(UserError, match=message):
        pretraining_plan.check_weights(weights, folders=2)
    for right in ((), (1.0, 0.5)):
        pretraining_plan.check_weights(right, folders=2)


@pytest.mark.parametrize(
    ("objective", "compares"),
    [
        ({"name": "imitate"}, True),
        ({"name": "imitate", "visual_visual": 0}, False),
        ({"name": "imitate", "visual_visual": (0, 0.5)}, True),
        ({"name": "imitate", "views": 1}, False),
        ({"name": "clip"}, False),
        ({"name": "clip", "visual_visual": 0.5}, True),
        ({"name": "mflag"}, False),
    ],
)
def test_views_are_compared_where_there_are_two_and_a_term(objective, compares):
    assert OPTIONS[objective["name"]](**objective).compares_views is compares


@pytest.mark.parametrize(
    ("objective", "setting"),
    [
        ({}, ""),
        ({"negatives": "rank"}, "objective.negatives=rank"),
        ({"grounding": 0.5}, "objective.grounding"),
        ({"grounding": 0.5, "negatives": "rank"}, "objective.negatives=rank"),
        ({"name": "simclr"}, ""),
    ],
)
def test_negatives_of_rank_and_grounding_contrast_within_a_process(objective, setting):
    recipe = Recipe(model={"aggregation": "spatial"}, objective=objective)
    assert pretraining._contrasts_within(recipe) == setting


def test_a_run_with_grounding_does_not_continue_with_another_number_of_processes(tmp_path, capsys):
    data, out, recipe = write_folder(tmp_path / "data"), tmp_path / "run", tmp_path / "recipe.yaml"
    spatial = {**TINY_MODEL.model_dump(mode="json"), "aggregation": "spatial", "token_width": 16}
    settings = {**tiny_recipe(epochs=1).model_dump(mode="json"), "model": spatial, "objective": {"grounding": 1}}
    recipe.write_text(yaml.safe_dump(settings))
    assert pretrain(recipe, data, out) == 0
    starts = out / "starts.jsonl"
    starts.write_text(starts.read_text().replace('"processes": 1', '"processes": 2'))
    assert pretrain(recipe, data, out) == 2
    reported = "was trained by 2 processes, not 1; with objective.grounding their number decides the negatives"
    assert reported in capsys.readouterr().err


def test_a_run_folder_has_an_encoder_where_it_is_complete(tmp_path):
    assert not pretraining._has_encoder(tmp_path)
    (tmp_path / "text.json").touch()
    assert pretraining._has_encoder(tmp_path)


def test_a_start_says_what_it_runs_on(monkeypatch):
    fabric = SimpleNamespace(device=torch.device("cpu"), world_size=3)
    recipe, model = tiny_recipe(), seeded_model(TINY_MODEL, pretrained=False, seed=0)
    found = pretraining._facts(fabric, recipe, model)
    assert (found["processes"], found["weights"], found["python"]) == (3, "random", platform.python_version())
    kind = platform.processor() or platform.machine()
    assert (
        found["device"] == f"cpu ({kind})" and {"time", "imitate", "commit", "torch", "timm", "numpy"} <= found.keys()
    )
    downloaded = recipe.model_copy(update={"pretrained": True})
    assert pretraining._facts(fabric, downloaded, model)["weights"] == "resnet18.a1_in1k"
    half = tiny_recipe(precision="bf16-mixed")
    for can, used in ((True, "bf16-mixed"), (False, "32-true")):
        monkeypatch.setattr(precision, "multiplies_bfloat16", lambda can=can: can)
        assert pretraining._facts(fabric, half, model)["precision"] == used
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "abacus")
    assert pretraining._facts(fabric, recipe, model)["device"] == "cpu (abacus)"
    monkeypatch.setattr(platform, "processor", lambda: "slide rule")
    assert pretraining._facts(fabric, recipe, model)["device"] == "cpu (slide rule)"


def test_a_run_that_continues_on_a_cpu_without_bfloat16_says_so(tmp_path, caplog, monkeypatch):
    """The recipe is the same, the arithmetic is not."""
    data, out, recipe = write_folder(tmp_path / "data"), tmp_path / "run", tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(tiny_recipe(epochs=1, precision="bf16-mixed").model_dump(mode="json")))
    for can in (True, False):
        monkeypatch.setattr(precision, "multiplies_bfloat16", lambda can=can: can)
        assert pretrain(recipe, data, out) == 0
    assert "continues under different conditions: precision was bf16-mixed and is 32-true" in caplog.text
    starts = [json.loads(line) for line in (out / "starts.jsonl").read_text().splitlines()]
    assert [each["precision"] for each in starts] == ["bf16-mixed", "32-true"]


def test_a_validation_is_of_all_and_of_each_folder_with_reports_to_find(monkeypatch, caplog):
    class Found:
        def predict(self, encoder: Any, data: Any, budget: Budget) -> Any:
            assert budget.device == "cpu"
            return data

        def measure(self, data: Any) -> dict[str, float]:
            return {"recall": data.reports / 10}

    monkeypatch.setattr(pretraining, "VALIDATION", Found())
    monkeypatch.setattr(pretraining, "_distinct_reports", lambda data: data.reports)
    monkeypatch.setattr(pretraining, "ImitateEncoder", lambda *of: of)
    parts = [SimpleNamespace(name=name, reports=count) for name, count in (("a", 1), ("b", 2))]
    texts = Mock(spec=TextCache, encoder=None)

    def validation(reports: int) -> Any:
        return pretraining._validation(Mock(spec=Corpus, reports=reports, parts=parts), texts, None, "cpu")

    assert validation(3)(Mock(spec=Imitate)) == {"recall": 0.3, "b/recall": 0.2} and not caplog.records
    assert validation(1) is None and caplog.messages == ["no validation split with reports: the run is not validated"]


def test_a_section_that_no_training_image_has_is_not_learned_from(tmp_path, monkeypatch):
    data = Corpus.open(write_folder(tmp_path / "data"))
    recipe = tiny_recipe().resolved()
    monkeypatch.setattr(Corpus, "has", lambda self, section: np.full(len(self), section == "impression"))
    with pytest.raises(UserError, match="no training image has the section findings, .* set model.texts=report"):
        pretraining_plan.plan_of(recipe, data, (), ())
    report = recipe.model_copy(update={"model": recipe.model.model_copy(update={"texts": "report"})})
    assert len(pretraining_plan.plan_of(report, data, (), ()).order.rows)


@pytest.mark.parametrize(
    ("pairs", "warned"),
    [
        ({"findings": ["impression"], "impression": ["impression"]}, "findings"),
        ({"findings": ["findings"], "impression": ["findings"]}, "impression"),
        ({"findings": ["impression"], "impression": ["report"]}, None),
        ({"findings": ["impression", "report"], "impression": ["impression"]}, None),
        ({"findings": ["findings"], "impression": ["impression"]}, None),
    ],
)
def test_a_branch_that_is_compared_with_a_section_that_it_does_not_learn_is_reported(tmp_path, caplog, pairs, warned):
    texts = [{"text": text, "branch": branch} for branch, names in pairs.items() for text in names]
    recipe = Recipe(text="lsa-8", model={**TINY_MODEL.model_dump(), "texts": texts}, training={"batch_size": 8})
    data = Corpus.open(write_folder(tmp_path / "data"))
    pretraining_plan.plan_of(recipe.resolved(), data, (), ())
    reported = [each for each in caplog.messages if "branch learns only" in each]
    assert bool(reported) == bool(warned)
    if warned:
        assert (
            reported[0].startswith(f"the {warned} branch") and f"compares it with the {warned} section" in reported[0]
        )
    caplog.clear()
    pooled = recipe.model.model_copy(update={"levels": (), "keep": ()})  # one embedding of both branches
    pretraining_plan.plan_of(recipe.model_copy(update={"model": pooled}).resolved(), data, (), ())
    assert "branch learns only" not in caplog.text


def test_a_run_says_where_it_is_and_what_it_learns_from(tmp_path, caplog):
    data, out = write_folder(tmp_path / "data"), tmp_path / "run"
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(tiny_recipe(epochs=1).model_dump(mode="json", exclude={"objective"})))
    with caplog.at_level("INFO", logger="imitate"):
        assert pretrain(recipe, data, out) == 0
    assert caplog.messages[-1] == f"finished: {out / 'model'}"
    trained: Any = load_encoder(str(out), data=Corpus.open(data))
    learnt = parameter_count(trained.model.requires_grad_(True))
    (said,) = [each for each in caplog.messages if "trainable parameters" in each]
    assert said.startswith(f"{learnt / 1e6:.1f} M trainable parameters, ") and said.endswith(" steps an epoch")
    assert any((out / "text_cache").iterdir())
    recorded = yaml.safe_load((out / "config.yaml").read_text())["data"]
    assert recorded == {"paths": [str(data)], "fingerprints": [Corpus.open(data).fingerprint], "weights": []}
