"""Both text encoders; the Hugging Face door is tested offline on a tiny BERT written to disk here."""

import json
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from text_models import WORDS, write_bert, write_clip, write_gpt

from imitate.errors import UserError
from imitate.models.text import LsaTextEncoder, fit_or_load, load_text_encoder, save_text_encoder
from imitate.models.types import TextEncoder


def texts(n: int = 40) -> list[str]:
    generator = torch.Generator().manual_seed(0)
    return [" ".join(WORDS[i] for i in torch.randint(len(WORDS), (9,), generator=generator)) for _ in range(n)]


@pytest.fixture(scope="module")
def tiny_bert(tmp_path_factory):
    return write_bert(tmp_path_factory.mktemp("bert"))


def test_lsa_round_trip_gives_the_same_embeddings_and_name(tmp_path):
    encoder = fit_or_load("lsa-8", texts())
    assert isinstance(encoder, TextEncoder)
    save_text_encoder(encoder, tmp_path)
    again = load_text_encoder(tmp_path)
    assert again.name == encoder.name and again.width == encoder.width == 8
    assert torch.equal(again.encode(texts(5)), encoder.encode(texts(5)))


def test_lsa_ignores_marks_of_deidentification_and_centres_the_corpus():
    encoder = LsaTextEncoder.fit(texts(), width=8)
    plain, marked = encoder.encode(["left effusion", "XXXX left ___ effusion XXXX"])
    torch.testing.assert_close(plain, marked)
    assert encoder.encode(sorted(set(texts()))).mean(0).abs().max() < 1e-5


def test_like_texts_correlate_more_than_unlike_ones():
    encoder = LsaTextEncoder.fit(texts(200), width=12)
    a, b, c = encoder.encode(["small left pleural effusion", "left pleural effusion large", "heart size is normal"])
    correlation = torch.corrcoef(torch.stack([a, b, c]))
    assert correlation[0, 1] > 0.5 > correlation[0, 2]


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


def test_hugging_face_is_frozen_and_long_reports_are_cut(tiny_bert):
    encoder: Any = fit_or_load(f"hf:{tiny_bert}", [])
    assert not any(p.requires_grad for p in encoder._model.parameters()) and not encoder._model.training
    assert torch.isfinite(encoder.encode(["opacity " * 1000])).all()


@pytest.mark.parametrize(
    "spec, message",
    [
        ("word2vec", "unknown text encoder 'word2vec'"),
        ("hf:some/model", "names no revision"),
        ("lsa-0", "at least 3|2"),
    ],
)
def test_user_errors(spec, message):
    with pytest.raises(UserError, match=message):
        fit_or_load(spec, ["one", "two"])


def test_lsa_tells_the_words_that_it_knows():
    encoder = LsaTextEncoder.fit(texts(), width=8)
    assert encoder.words("Small hydropneumothorax, 3 XXXX") == {"small": True, "hydropneumothorax": False}
    assert torch.equal(encoder.encode(["small effusion"]), encoder.encode(["small effusion hydropneumothorax"]))


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


def test_lsa_is_known_by_its_vocabulary_too():
    encoder = LsaTextEncoder.fit(texts(), width=4)
    other = LsaTextEncoder(list(reversed(encoder._vocabulary)), encoder._arrays)
    same = LsaTextEncoder(list(encoder._vocabulary), encoder._arrays)
    assert encoder.identity == same.identity != other.identity


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
    with pytest.raises(UserError, match="causal, its first word piece has seen nothing"):
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
