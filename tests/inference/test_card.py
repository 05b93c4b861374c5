"""The model card says what this model is, not what the published one is."""

import pytest
from recipes import TINY_MODEL

from imitate.config import TextLevel
from imitate.inference.card import _alignment, _length, card, facts_of
from imitate.inference.encoder import ImitateEncoder
from imitate.models.imitate import seeded_model

EVERY, DEEPEST = "the features of levels 1, 2, 3 and 4", "the pooled feature of the deepest level"
SENTENCES = (
    TextLevel(text="report", branch="findings"),
    TextLevel(text="sentences", branch="findings"),
    TextLevel(text="impression", branch="impression"),
)


@pytest.mark.parametrize(
    ("model", "reported"),
    [
        (
            {"objective": ""},
            f"Its objective (not recorded, aggregation `channels`) aligns {EVERY} with the Findings, and {DEEPEST} with "
            "the Impression",
        ),
        (
            {"aggregation": "pooled", "objective": "imitate"},
            f"Its objective (`imitate`, aggregation `pooled`) aligns {EVERY} with the Findings and the Impression",
        ),
        (
            {"aggregation": "spatial", "token_width": 16, "texts": SENTENCES},
            f"{EVERY} with the whole report, single sentences and the Impression",
        ),
        ({"texts": "swapped"}, f"{EVERY} with the Impression, and {DEEPEST} with the Findings"),
        ({"levels": (), "keep": (), "texts": "report"}, f"aligns {DEEPEST} with the whole report"),
        (
            {"levels": (), "keep": (), "reads_text": False, "objective": "simclr"},
            "Its objective (`simclr`) uses no text",
        ),
    ],
)
def test_the_card_says_which_features_were_aligned_with_which_texts(model, reported):
    config = type(TINY_MODEL).model_validate({**TINY_MODEL.model_dump(), **model})
    assert reported in _alignment(config)


def test_the_card_says_how_long_a_model_was_trained():
    assert _length({"epochs": 20, "steps": 1250}) == "1250 steps"
    assert _length({"epochs": 20, "steps": None}) == "20 epochs"


def test_the_card_says_which_weights_of_a_run_it_is_about(tmp_path):
    run = tmp_path / "run"
    (run / "model").mkdir(parents=True)
    (run / "config.yaml").write_text(
        "training: {epochs: 3, batch_size: 8, seed: 0}\nobjective: {name: clip}\n"
        "data: {paths: [data/first], fingerprints: [abc]}\n"
    )
    whole = "3 epochs, global batch 8, seed 0, objective clip"
    places = {"": "", "model": "", "best": "; these are its weights of the best validation"}
    places |= dict.fromkeys(("snapshots/step-0000040", "top/step-0000040"), "; these are its weights of step-0000040")
    for place, said in places.items():
        assert facts_of(run / place)["training"] == whole + said
    (run / "metrics.jsonl").write_text('{"step": 4, "loss": 1.0}\n')
    (run / "starts.jsonl").write_text('{"step": 0, "total": 12}\n')
    for place in ("", "model"):
        assert facts_of(run / place)["training"] == (
            f"{whole}; interrupted at step 4 of 12, these are its weights of the last validation"
        )


@pytest.mark.parametrize("reads_text", [True, False])
def test_the_limits_name_reports_only_of_a_model_that_learned_from_them(reads_text):
    config = TINY_MODEL.model_copy(
        update={"reads_text": reads_text, "objective": "imitate" if reads_text else "simclr"}
    )
    encoder = ImitateEncoder("tiny", seeded_model(config, pretrained=False, seed=0), None)
    facts = {"data": "unknown", "training": "unknown", "groups": ""}
    words = " ".join(card(encoder, name="tiny", license="mit", facts=facts, unread={}).split())
    assert ("learned from reports" in words) == reads_text
    assert ("outside the hospitals of its training data" in words) != reads_text
