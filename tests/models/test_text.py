"""Text encoders by their names; the Hugging Face door is tested offline on a tiny BERT written to disk here."""

import json
from functools import partial
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from text_models import write_bert, write_clip, write_gpt

from imitate.errors import UserError
from imitate.models.lsa import LsaTextEncoder
from imitate.models.text import could_be, fit_or_load, load_text_encoder, placed, save_text_encoder
from imitate.models.text_tower import TextTower


@pytest.fixture(scope="module")
def tiny_bert(tmp_path_factory):
    return write_bert(tmp_path_factory.mktemp("bert"))


def test_hugging_face_door(tiny_bert, tmp_path):
    reports = ["heart size is normal", "small left pleural effusion right lower lobe opacity", "lungs are clear"]
    for pooling in ("cls", "mean"):
        encoder = fit_or_load(f"hf:{tiny_bert}:{pooling}", [])
        together = encoder.encode(reports)
        assert together.shape == (3, 16)
        alone = torch.cat([encoder.encode([report]) for report in reports])
        torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)  # padding does not leak
        save_text_encoder(encoder, tmp_path / pooling)
        again = load_text_encoder(tmp_path / pooling)
        assert again.name == encoder.name
        torch.testing.assert_close(again.encode(reports), together)


def test_an_encoder_could_be_that_of_a_recipe_whatever_it_was_fitted_on(tiny_bert, tmp_path):
    lsa = LsaTextEncoder.fit(["left effusion", "right opacity", "clear lungs", "no edema"], width=2)
    specs = ["lsa", "lsa-2", "lsa-3", "lsa-1", "bert-small", "bert-small:4000", f"hf:{tiny_bert}"]
    assert [could_be(lsa, spec) for spec in specs] == [True, True, True, False, False, False, False]
    bert = fit_or_load(f"hf:{tiny_bert}:mean", [])
    specs = [
        f"hf:{tiny_bert}:mean",
        f"hf:{tiny_bert}",
        f"hf:{tiny_bert}:cls",
        f"hf:{tmp_path}:mean",
        "hf:a/b@main",
        "lsa",
    ]
    assert [could_be(bert, spec) for spec in specs] == [True, False, False, False, False, False]
    bert.name = "someone--bert@0123abc-mean-trained"
    specs = [
        "hf:someone/bert@0123abc:mean",
        "hf:someone/bert@0123abc",
        "hf:someone/bert@main:mean",
        "hf:other/bert@0123abc:mean",
    ]
    assert [could_be(bert, spec) for spec in specs] == [True, False, False, False]


def test_hugging_face_is_frozen_and_long_reports_are_cut(tiny_bert):
    encoder: Any = fit_or_load(f"hf:{tiny_bert}", [])
    assert not any(p.requires_grad for p in encoder._model.parameters()) and not encoder._model.training
    assert torch.isfinite(encoder.encode(["opacity " * 1000])).all()
    fits = " ".join(["opacity"] * (encoder.longest - 2))  # beside the pieces that begin and end a text
    assert encoder.cut(["clear", fits, f"{fits} opacity", "", fits]) == [f"{fits} opacity"] and encoder.cut([]) == []
    assert TextTower(encoder, layers=1).pieces.cut([fits, f"{fits} clear"]) == [f"{fits} clear"]


@pytest.mark.parametrize(
    "spec, message",
    [
        ("word2vec", "unknown text encoder 'word2vec'"),
        ("hf:some/model", "has no revision"),
        ("lsa-0", "at least 3|2"),
    ],
)
def test_user_errors(spec, message):
    with pytest.raises(UserError, match=message):
        fit_or_load(spec, ["one", "two"])


def test_an_encoder_is_known_by_its_weights_and_a_copy_by_the_same(tiny_bert, tmp_path):
    encoder = fit_or_load(f"hf:{tiny_bert}", [])
    encoder.encode(["left effusion", "clear"])  # which sets padding and truncation in the tokenizer
    save_text_encoder(encoder, tmp_path / "copy")
    assert load_text_encoder(tmp_path / "copy").identity == encoder.identity
    assert json.loads((tmp_path / "copy/text.json").read_text())["identity"] == encoder.identity
    assert fit_or_load(f"hf:{tiny_bert}:mean", []).identity != encoder.identity
    state = load_file(tmp_path / "copy/model.safetensors")
    first = next(iter(state))
    save_file({**state, first: state[first] + 1e-3}, tmp_path / "copy/model.safetensors", {"format": "pt"})
    assert load_text_encoder(tmp_path / "copy").identity != encoder.identity


def test_texts_are_cut_at_the_models_own_length(tmp_path):
    encoder = fit_or_load(f"hf:{write_bert(tmp_path, positions=16)}", [])
    assert torch.isfinite(encoder.encode(["opacity " * 100])).all()


@pytest.mark.parametrize("padding", [None, "left", "right"])
def test_a_causal_model_is_read_at_its_last_piece(tmp_path, padding):
    folder = write_gpt(tmp_path, padding=padding)
    encoder = fit_or_load(f"hf:{folder}", [])
    reports = ["heart size is normal", "heart large", "heart size small left effusion"]
    together = encoder.encode(reports)
    assert torch.pdist(together).min() > 1e-3
    torch.testing.assert_close(together, torch.cat([encoder.encode([each]) for each in reports]), atol=1e-5, rtol=1e-5)
    with pytest.raises(UserError, match="causal, so its first word piece sees no others"):
        fit_or_load(f"hf:{folder}:cls", [])


def test_of_a_model_of_images_and_texts_the_text_tower_is_taken_and_kept(tmp_path):
    encoder = fit_or_load(f"hf:{write_clip(tmp_path / 'clip')}", [])
    found = encoder.encode(["left effusion", "opacity " * 100])
    assert found.shape == (2, 16) and torch.isfinite(found).all() and torch.pdist(found) > 1e-3
    save_text_encoder(encoder, tmp_path / "saved")
    again = load_text_encoder(tmp_path / "saved")
    assert again.identity == encoder.identity
    torch.testing.assert_close(again.encode(["left effusion"]), found[:1], atol=1e-5, rtol=1e-5)


def test_code_beside_the_weights_is_never_run_and_pickles_of_a_folder_are_not_read(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked a question"))
    folder = write_bert(tmp_path / "code")
    config = json.loads((folder / "config.json").read_text())
    changed = {
        **config,
        "model_type": "unheard-of",
        "auto_map": {"AutoConfig": "code.Config", "AutoModel": "code.Model"},
    }
    (folder / "config.json").write_text(json.dumps(changed))
    (folder / "code.py").write_text("raise SystemExit('it ran')")
    with pytest.raises(UserError, match="cannot load the text encoder"):
        fit_or_load(f"hf:{folder}", [])
    pickled = write_bert(tmp_path / "pickled")
    torch.save(load_file(pickled / "model.safetensors"), pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    with pytest.raises(UserError, match="cannot load the text encoder"):
        fit_or_load(f"hf:{pickled}", [])


def test_the_commit_is_recorded_and_stays_with_a_copy_of_a_copy(tiny_bert, tmp_path, monkeypatch):
    monkeypatch.setattr("imitate.models.hub.is_available", lambda repository, revision: revision == "main")
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    def load(kind, original, source, *, revision=None, **options):
        found = original(tiny_bert if source == "someone/bert" else source, **options)
        if revision == "main" and kind is AutoModel:
            found.config._commit_hash = "0123abc"
        return found

    for kind in (AutoConfig, AutoModel, AutoTokenizer):
        monkeypatch.setattr(kind, "from_pretrained", partial(load, kind, kind.from_pretrained))
    encoder = fit_or_load("hf:someone/bert@main", [])
    assert encoder.name == "someone--bert@main-cls"
    for place in ("once", "twice"):
        save_text_encoder(encoder, tmp_path / place)
        encoder = load_text_encoder(tmp_path / place)
    written = json.loads((tmp_path / "twice/text.json").read_text())
    assert written == {"kind": "hf", "name": "someone--bert@main-cls", "pooling": "cls", "revision": "main",
                       "commit": "0123abc", "identity": encoder.identity}  # fmt: skip


def test_a_hub_that_does_not_respond_is_reported_at_once(monkeypatch):
    monkeypatch.setattr("imitate.models.hub.is_available", lambda repository, revision: revision != "v1")
    with pytest.raises(UserError, match="cannot get the text encoder some/model@v1: the hub does not respond"):
        fit_or_load("hf:some/model@v1:mean", [])


def test_the_device_is_given_and_left(tiny_bert, monkeypatch):
    encoder: Any = fit_or_load(f"hf:{tiny_bert}", [])
    devices, move = [], encoder._model.to
    monkeypatch.setattr(encoder._model, "to", lambda device: devices.append(device) or move("cpu"))
    encoder.encode(["left effusion"])
    assert devices == []  # a GPU that was not asked for is not taken
    with placed(encoder, "cuda:1"):
        assert encoder._device == "cuda:1"
    assert devices == ["cuda:1", "cpu"] and encoder._device == "cpu"


def test_an_encoder_with_a_decoder_is_reported(tmp_path):
    folder = write_bert(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "is_encoder_decoder": True}))
    with pytest.raises(UserError, match="is an encoder-decoder model"):
        fit_or_load(f"hf:{folder}", [])


@pytest.mark.parametrize("change", [{"hidden_size": 2**24}, {"vocab_size": 10**9}, {"num_hidden_layers": 10**9}])
def test_sizes_are_compared_with_the_weights_before_they_take_memory(tmp_path, change):
    folder = write_bert(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(UserError, match="config.json (does not fit the weights|has 1000000000 layers)"):
        fit_or_load(f"hf:{folder}", [])
