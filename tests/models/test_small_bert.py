"""The BERT that is trained on the corpus; of two layers and a few steps here."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from text_models import SMALL, texts

from imitate.errors import UserError
from imitate.models import small_bert
from imitate.models.small_bert import SmallBertTextEncoder, train_masked, train_word_pieces, whitening
from imitate.models.text import fit_or_load, load_text_encoder, save_text_encoder
from imitate.models.types import TextEncoder


@pytest.fixture(autouse=True, scope="module")
def small():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(small_bert, "SHAPE", SMALL)
        yield


@pytest.fixture(scope="module")
def encoder() -> SmallBertTextEncoder:
    return SmallBertTextEncoder.fit(texts(), steps=30)


def test_the_corpus_decides_the_weights_and_the_callers_random_state_is_left(encoder):
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    again = SmallBertTextEncoder.fit(texts()[::-1], steps=30)
    assert torch.equal(torch.rand(1), expected)
    assert again.identity == encoder.identity and again.name == encoder.name == f"bert-small-{encoder.identity[:8]}"
    assert torch.equal(again.encode(texts(5)), encoder.encode(texts(5)))
    assert SmallBertTextEncoder.fit(texts(), steps=30, seed=1).identity != encoder.identity


def test_a_copy_is_the_same_encoder(encoder, tmp_path):
    assert isinstance(encoder, TextEncoder)
    for folder in (tmp_path / "once", tmp_path / "twice"):
        save_text_encoder(encoder, folder)
        again = load_text_encoder(folder)
        assert (again.identity, again.name, again.width) == (encoder.identity, encoder.name, 16)
        assert torch.equal(again.encode(texts(5)), encoder.encode(texts(5)))
        assert json.loads((folder / "text.json").read_text())["kind"] == "bert-small"
        encoder = again
    assert json.loads((folder / "vocabulary.json").read_text()) == sorted(set(" ".join(texts()).split()))


def test_it_is_the_mean_over_all_pieces_whitened_on_the_corpus(encoder):
    sample = ["left effusion", "heart size is normal no opacity"]
    pieces = [encoder._tokenizer(text, return_tensors="pt") for text in sample]
    states = [encoder._model(**each, output_hidden_states=True).hidden_states for each in pieces]
    hidden = [(each[0] + each[2]).mean(1)[0] / 2 for each in states]
    expected = (torch.stack(hidden) - encoder._centre) @ encoder._map
    torch.testing.assert_close(encoder.encode(sample), expected, atol=1e-4, rtol=1e-4)
    assert encoder.encode(sorted(set(texts()))).mean(0).abs().max() < 1e-4


def test_whitened_vectors_have_the_unit_covariance_but_where_they_hardly_vary():
    torch.manual_seed(0)
    spread = torch.tensor([10.0, 3.0, 1.0, 1e-3])
    vectors = torch.randn(5000, 4) * spread @ torch.linalg.qr(torch.randn(4, 4)).Q + 7
    found = whitening(vectors)
    white = (vectors - found["centre"]) @ found["map"]
    expected = spread**2 / (spread**2 + 1e-3 * 100)
    torch.testing.assert_close(torch.linalg.eigvalsh(torch.cov(white.T)), expected.sort().values, atol=2e-2, rtol=2e-2)
    assert white.mean(0).abs().max() < 1e-3


def test_training_lowers_the_loss_of_masked_pieces(monkeypatch):
    losses, original = [], torch.nn.functional.cross_entropy

    def noted(logits, wanted, **options):
        losses.append(original(logits, wanted).item())
        return original(logits, wanted, **options)

    monkeypatch.setattr(small_bert.F, "cross_entropy", noted)
    torch.manual_seed(0)
    monkeypatch.setattr(small_bert, "LEARNING_RATE", 1e-2)
    repeated = [
        f"{word} is {word} in {word} of {word}" for word in ("heart", "lung", "bone", "pleura") for _ in range(8)
    ]
    train_masked(train_word_pieces(repeated), repeated, steps=60)
    assert len(losses) == 60
    first, last = (sum(part) / len(part) for part in (losses[:5], losses[-10:]))
    assert last < 0.5 * first


def test_a_warm_up_of_one_step_is_one_too():
    train_masked(train_word_pieces(texts()), texts(), steps=10)


def test_marks_of_deidentification_are_no_words_and_letters_of_words_no_special_tokens():
    tokenizer = train_word_pieces([*texts(), "the Ödem, XXXX, of 3.5 cm ___", "## effusion ##e", "双肺清晰"])
    plain, marked = (tokenizer.tokenize(text) for text in ("left effusion", "XXXX left ___ effusion xxx"))
    assert plain == marked == ["left", "effusion"]
    assert tokenizer.tokenize("##e") == ["#", "#", "e"]
    assert "".join(tokenizer.tokenize("Ödem")).replace("##", "") == "ödem"  # marks belong to their letter
    assert tokenizer.tokenize("肺双") == ["肺", "双"]  # of a script without spaces each character
    ids = tokenizer("left effusion")["input_ids"]
    assert [tokenizer.convert_ids_to_tokens(ids)[i] for i in (0, -1)] == ["[CLS]", "[SEP]"]


def test_a_word_of_one_text_alone_is_neither_listed_nor_a_piece():
    reports = [*texts(150), "left zwollerstein effusion, zwollerstein"]
    pieces = train_word_pieces(reports).get_vocab()
    assert "effusion" in pieces and not [piece for piece in pieces if "zw" in piece or "wo" in piece]
    listed = small_bert.common_words(reports)
    assert (
        "effusion" in listed
        and "zwollerstein" not in listed
        and "zwollerstein" in small_bert.common_words(reports[-9:])
    )


def test_words_that_the_corpus_had_not_are_reported(encoder):
    assert encoder.words("Small hydropneumothorax, 3 XXXX") == {"small": True, "hydropneumothorax": False}


def test_a_recipe_names_it_with_its_steps(encoder, monkeypatch):
    asked = []
    monkeypatch.setattr(SmallBertTextEncoder, "fit", lambda corpus, *, steps: asked.append((corpus, steps)) or encoder)
    fit_or_load("bert-small", ["one"])
    fit_or_load("bert-small:12", ["two"])
    assert asked == [(["one"], small_bert.STEPS), (["two"], 12)]
    for wrong in ("bert-small-12", "bert-small:x"):
        with pytest.raises(UserError, match="unknown text encoder 'bert-small"):
            fit_or_load(wrong, ["one"])


def test_a_corpus_without_words_and_no_steps_are_reported():
    with pytest.raises(UserError, match="needs at least one step"):
        SmallBertTextEncoder.fit(texts(), steps=0)
    with pytest.raises(UserError, match="found no words in 3 distinct texts"):
        SmallBertTextEncoder.fit(["___", "XXXX", "__", "___"], steps=1)
    with pytest.raises(UserError, match="needs at least 3 distinct texts, found 2"):
        SmallBertTextEncoder.fit(["one", "two", "one"], steps=1)


def test_a_damaged_folder_is_reported_in_one_line(encoder, tmp_path):
    save_text_encoder(encoder, tmp_path)
    files = [tmp_path / name for name in ("vocabulary.json", "whitening.safetensors", "text.json", "model.safetensors")]
    words, centre, record, weights = files
    good = {path: path.read_bytes() for path in files}
    for damage in (
        lambda: words.write_text("3"),
        lambda: words.unlink(),
        lambda: centre.write_bytes(good[centre][:-9]),
        lambda: save_file({"centre": torch.zeros(3), "map": torch.eye(3)}, centre),
        lambda: save_file({"centre": torch.zeros(16)}, centre),
        lambda: weights.write_bytes(good[weights][:-9]),
        lambda: record.write_text('{"kind": "bert-small"}'),
    ):
        damage()
        with pytest.raises(UserError, match="is damaged|cannot load the text encoder") as reported:
            load_text_encoder(tmp_path)
        assert "\n" not in str(reported.value)
        for path, content in good.items():
            path.write_bytes(content)
    load_text_encoder(tmp_path)
    save_file({**load_file(centre), "centre": torch.ones(16)}, centre)
    assert load_text_encoder(tmp_path).identity != encoder.identity
