"""Text encoders that a run trains, by the command itself."""

import json
from pathlib import Path

import pytest
import yaml
from folders import write_folder
from recipes import tiny_recipe
from text_models import SMALL, write_bert

from imitate import cli
from imitate.data.corpus import Corpus
from imitate.data.text_cache import corpus
from imitate.inference.encoder import load_encoder
from imitate.models import small_bert
from imitate.models.small_bert import SmallBertTextEncoder
from imitate.models.text import load_text_encoder
from imitate.models.text_tower import TextTower


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_folder(tmp_path_factory.mktemp("texts") / "data", n=60)


def pretrain(data: Path, out: Path, *settings: str) -> int:
    recipe = out.with_suffix(".yaml")
    recipe.write_text(yaml.safe_dump(tiny_recipe(epochs=1).model_dump(mode="json")))
    return cli.main(["pretrain", str(recipe), "--data", str(data), "--out", str(out), "--settings", *settings])


def test_a_text_encoder_that_learned_is_the_one_that_is_loaded_and_exported(data, tmp_path):
    out, bert = tmp_path / "run", write_bert(tmp_path / "bert")
    settings = (f"text=hf:{bert}:mean", "training.text_layers=1", "training.text_learning_rate=0.01")
    assert pretrain(data, out, *settings) == 0
    start, learned = (load_text_encoder(out / folder) for folder in ("text", "model/text"))
    assert [path.name for path in (out / "text_cache").iterdir()] == [TextTower(start, layers=1).pieces.identity]
    assert cli.main(["export", "--model", str(out), "--license", "mit", "--to", str(tmp_path / "shared")]) == 0
    prepared = Corpus.open(data)
    for place in (out, out / "model", out / "best", tmp_path / "shared"):
        found = load_encoder(str(place), data=prepared)
        assert found.text.identity == learned.identity != start.identity
        assert found.embed_reports(["left effusion"]).isfinite().all()
    assert pretrain(data, out, *settings[:-1], "training.text_learning_rate=0.02") == 2


def test_a_bert_is_trained_on_the_reports_once(data, tmp_path, monkeypatch):
    monkeypatch.setattr(small_bert, "SHAPE", SMALL)
    out = tmp_path / "run"
    assert pretrain(data, out, "text=bert-small:3") == 0
    assert json.loads((out / "text/text.json").read_text())["kind"] == "bert-small"
    expected = SmallBertTextEncoder.fit(corpus(Corpus.open(data)), steps=3)
    assert load_encoder(str(out), data=Corpus.open(data)).text.identity == expected.identity
    monkeypatch.setattr(SmallBertTextEncoder, "fit", lambda *_, **__: pytest.fail("trained again"))
    assert pretrain(data, out, "text=bert-small:3") == 0
