import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from text_models import texts

from imitate.errors import UserError
from imitate.models.lsa import LsaTextEncoder
from imitate.models.text import fit_or_load, load_text_encoder, save_text_encoder
from imitate.models.types import TextEncoder


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


def test_lsa_says_the_words_that_it_knows():
    encoder = LsaTextEncoder.fit(texts(), width=8)
    assert encoder.words("Small hydropneumothorax, 3 XXXX") == {"small": True, "hydropneumothorax": False}
    assert torch.equal(encoder.encode(["small effusion"]), encoder.encode(["small effusion hydropneumothorax"]))


def test_lsa_is_known_by_its_vocabulary_too():
    encoder = LsaTextEncoder.fit(texts(), width=4)
    other = LsaTextEncoder(list(reversed(encoder._vocabulary)), encoder._arrays)
    same = LsaTextEncoder(list(encoder._vocabulary), encoder._arrays)
    assert encoder.identity == same.identity != other.identity


@pytest.mark.parametrize(
    "text, words",
    [
        ("Small_left effusion, XXXX 12mm T12 3 cm: heart's naïve", ["effusion", "cm", "heart", "naïve"]),
        ("左侧胸腔积液，CT示第5肋", ["左侧", "侧胸", "胸腔", "腔积", "积液", "ct", "示第", "肋"]),
        ("胸水なし", ["胸水", "水な", "なし"]),
        ("फेफड़े साफ हैं", ["फेफड़े", "साफ", "हैं"]),
        ("ไม่พบน้ำ 12", ["ไม", "ม่", "่พ", "พบ", "บน", "น้", "้ำ"]),
        ("폐부종 없음", ["폐부종", "없음"]),
    ],
)
def test_words_of_scripts_with_and_without_spaces(text, words):
    encoder = LsaTextEncoder.fit([text, "alpha beta", "beta gamma", "gamma delta"], width=2)
    assert list(encoder.words(text)) == words and all(encoder.words(text).values())


def test_chinese_reports_of_like_findings_are_alike():
    sides, amounts = ("左侧", "右侧", "双侧"), ("少量", "中等量", "大量")
    reports = [f"{side}可见{amount}胸腔积液，心影正常。" for side in sides for amount in amounts]
    encoder = LsaTextEncoder.fit([*reports, "双肺清晰，心影增大。", "未见气胸。"], width=8)
    fluid, other, clear = encoder.encode(["胸腔积液", "右侧胸腔积液。", "双肺清晰"])
    cosine = torch.nn.functional.cosine_similarity
    assert cosine(fluid, other, dim=0) > 0.5 > cosine(fluid, clear, dim=0)


def test_a_damaged_folder_is_reported_in_one_line(tmp_path):
    save_text_encoder(fit_or_load("lsa-4", texts()), tmp_path)
    arrays, vocabulary = tmp_path / "lsa.safetensors", tmp_path / "vocabulary.json"
    good = arrays.read_bytes(), vocabulary.read_text()
    for damage in (
        lambda: arrays.write_bytes(good[0][:-9]),
        lambda: arrays.unlink(),
        lambda: save_file({**load_file(arrays), "mean": np.zeros(9, np.float32)}, arrays),
        lambda: save_file({"mean": np.zeros(4, np.float32)}, arrays),
        lambda: vocabulary.write_text(good[1][:-9]),
        lambda: vocabulary.write_text("3"),
        lambda: vocabulary.write_text(json.dumps([1] * len(json.loads(good[1])))),
        lambda: vocabulary.write_text(json.dumps(json.loads(good[1])[1:])),
    ):
        damage()
        with pytest.raises(UserError, match="the text encoder in .* is damaged: ") as reported:
            load_text_encoder(tmp_path)
        assert "\n" not in str(reported.value)
        arrays.write_bytes(good[0])
        vocabulary.write_text(good[1])
    load_text_encoder(tmp_path)
    for content, message in (("{", "not valid JSON"), ('{"kind": "x"}', "text.json is damaged: it must hold kind")):
        (tmp_path / "text.json").write_text(content)
        with pytest.raises(UserError, match=message):
            load_text_encoder(tmp_path)
