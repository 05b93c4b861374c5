"""How a run is begun and continued."""

import json
from collections import Counter

import torch
import yaml
from folders import write_folder
from jobs import metrics
from recipes import TINY_MODEL, tiny_recipe
from runs import pretrain

from imitate.config import ImitateConfig
from imitate.data.corpus import Corpus
from imitate.data.text_cache import corpus
from imitate.inference.encoder import ImitateEncoder
from imitate.models.imitate import Imitate, seeded_model
from imitate.models.text import fit_or_load
from imitate.tasks import pretraining, retrieval
from imitate.tasks.base import Budget
from imitate.tasks.pretraining import VALIDATION
from imitate.tasks.retrieval import Retrieval


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
    assert "--continue-with text: a run continues with other settings of training only" in capsys.readouterr().err


def test_a_validation_ranks_once_each_way_and_has_the_figures_of_the_task(tmp_path, monkeypatch):
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
