"""A fake model for which an image is the sentence that its first pixels stand for."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from jaxtyping import Float
from sklearn.metrics import balanced_accuracy_score, f1_score, matthews_corrcoef, roc_auc_score
from torch import Tensor, nn

from imitate import sources
from imitate.config import ImitateConfig
from imitate.data.corpus import Corpus
from imitate.errors import UserError
from imitate.inference.encoder import ImitateEncoder
from imitate.inference.prompts import BUILT_IN
from imitate.models.imitate import Imitate
from imitate.models.text import LsaTextEncoder
from imitate.models.types import ImageEmbedding, ImageFeatures, Images
from imitate.names import VINDR
from imitate.tasks.base import Budget, Predictions
from imitate.tasks.estimating import estimates
from imitate.tasks.zero_shot import ZeroShot, class_prompts

SIDE = 8
CONFIG = ImitateConfig(prepared_size=SIDE, image_size=SIDE, mean=(0, 0, 0), std=(1, 1, 1))
CLASSES = ["Edema", "Pleural_Thickening", "COVID-19"]


class FakeModel(Imitate):
    """The first row of pixels is the findings embedding, the second the impression's."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.image, self.config = nn.Identity(), CONFIG

    def encode_image(self, images: Images) -> ImageEmbedding:
        return ImageEmbedding(images[:, 0, 0], images[:, 0, 1], ImageFeatures([], images[:, 0, 0]))

    def encode_text(self, texts: Float[Tensor, "texts width"]) -> Float[Tensor, "texts width"]:
        return 3 * texts


class FakeText:
    """Class c without negation is axis 2c, negated it is 2c + 1; the prompts of one side differ in a last axis."""

    name, identity, width = "fake", "fake", SIDE

    def encode(self, texts: list[str]) -> Float[Tensor, "texts width"]:
        rows = torch.zeros(len(texts), SIDE)
        for row, text in zip(rows, texts, strict=True):
            c = next(i for i, word in enumerate(("edema", "thicken", "peripheral")) if word in text.lower())
            row[2 * c + ("no " in text.lower())] = 1.0
            row[-1] = 0.01 * len(text)
        return rows


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    words = {"edema": "edema", "Pleural Thickening": "pleural thickening", "covid 19": "peripheral opacities"}
    values = {label: {"positive": [w, f"There is {w}."], "negative": [f"No {w}."]} for label, w in words.items()}
    path = tmp_path / "prompts.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.fixture(scope="module")
def encoder() -> ImitateEncoder:
    return ImitateEncoder("fake", FakeModel(), FakeText())


def _data(target: np.ndarray, *, classes: list[str] = CLASSES, source: str = "table") -> Corpus:
    """Both rows of pixels say which classes an image has."""
    images = np.zeros((len(target), SIDE, SIDE), dtype=np.uint8)
    for c in range(target.shape[1]):
        images[:, :2, 2 * c] = np.where(target[:, c] > 0, 200, 0)[:, None]
        images[:, :2, 2 * c + 1] = np.where(target[:, c] > 0, 0, 200)[:, None]
    table = pd.DataFrame({"image_id": [f"i{i}" for i in range(len(target))], "split": "test"})
    table["patient"] = table["image_id"]
    table["labels"] = list(target)
    return Corpus(Path("prepared"), {"classes": classes, "source": source}, table, images, None)


def _target(n: int = 40) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2, (n, 3)).astype(float)


@pytest.mark.parametrize("branch", ["impression", "findings", "both"])
def test_an_oracle_is_perfect(encoder: ImitateEncoder, prompts: Path, branch: str) -> None:
    task = ZeroShot.model_validate({"prompts": prompts, "branch": branch})
    measured = task.measure(task.predict(encoder, _data(_target()), Budget()))
    assert next(iter(measured)) == "auroc"
    assert set(measured) == {
        name + suffix
        for name in (
            "auroc",
            "average-precision",
            *(f"oracle-{each}" for each in ("max-f1", "accuracy", "balanced-accuracy", "mcc")),
        )
        for suffix in ("", *(f"/{label}" for label in CLASSES))
    }
    assert set(measured.values()) == {1.0}


def test_branches_see_their_own_part(encoder: ImitateEncoder, prompts: Path) -> None:
    data = _data(_target())
    data.images[:, 1] = 1
    measured = {
        branch: ZeroShot(prompts=prompts, branch=branch).measure(
            ZeroShot(prompts=prompts, branch=branch).predict(encoder, data, Budget())
        )["auroc"]
        for branch in get_args(ZeroShot.model_fields["branch"].annotation)
    }
    assert measured == {"findings": 1.0, "impression": 0.5, "both": 1.0}


def test_the_score_is_the_difference_of_cosines_with_the_middle_of_unit_vectors(
    encoder: ImitateEncoder, prompts: Path
) -> None:
    data = _data(_target())
    data.images[:] = np.random.default_rng(1).integers(0, 256, data.images.shape)
    score = ZeroShot(prompts=prompts, branch="impression").predict(encoder, data, Budget())["score"]
    image = data.images[7, 1] / np.linalg.norm(data.images[7, 1].astype(float))
    for c, each in enumerate(class_prompts(data, prompts).values()):
        sides = []
        for texts in (each.positive, each.negative):
            unit = [vector / np.linalg.norm(vector) for vector in FakeText().encode(list(texts)).numpy()]
            middle = np.mean(unit, axis=0)
            sides.append(image @ (middle / np.linalg.norm(middle)))
        assert score[7, c] == pytest.approx(sides[0] - sides[1], abs=1e-5)


def test_constant_and_shuffled_images_are_at_chance(encoder: ImitateEncoder, prompts: Path) -> None:
    task, data = ZeroShot(prompts=prompts), _data(_target(1000))
    predictions = task.predict(encoder, data, Budget())
    chance = task.chance(predictions)
    assert {chance["auroc"], chance["auroc/Edema"]} == {0.5}
    assert chance["average-precision/Edema"] == pytest.approx(predictions["target"][:, 0].mean())
    data.images[:] = data.images[np.random.default_rng(0).permutation(1000)]
    assert task.measure(task.predict(encoder, data, Budget()))["auroc"] == pytest.approx(0.5, abs=0.03)
    data.images[:] = 7
    assert task.measure(task.predict(encoder, data, Budget())) == pytest.approx(chance)


def test_classes_that_exclude_each_other_have_an_accuracy(encoder: ImitateEncoder, prompts: Path) -> None:
    task, target = ZeroShot(prompts=prompts), np.eye(3)[np.arange(30) % 3]
    predictions = task.predict(encoder, _data(target), Budget())
    assert [task.measure(predictions)[name] for name in ("accuracy", "balanced-accuracy", "mcc")] == [1.0] * 3
    chance = task.chance(predictions)
    assert [chance[name] for name in ("accuracy", "balanced-accuracy", "mcc")] == pytest.approx([1 / 3, 1 / 3, 0])
    assert task.measure(predictions, np.array([0, 0]))["accuracy"] == 1.0
    target[0] = 1
    assert "accuracy" not in task.measure(task.predict(encoder, _data(target), Budget()))


def test_a_class_that_the_split_knows_nothing_of_takes_no_part(encoder: ImitateEncoder, prompts: Path) -> None:
    """So that accuracy on 5x200 is of five classes although 8x200 has more."""
    target = np.eye(3)[np.arange(40) % 2]
    target[:, 2] = np.nan
    task = ZeroShot(prompts=prompts)
    predictions = task.predict(encoder, _data(target), Budget())
    assert predictions["classes"].tolist() == CLASSES[:2]
    assert task.chance(predictions)["accuracy"] == 0.5
    with pytest.raises(UserError, match="has no label in split 'test': choose another split"):
        task.predict(encoder, _data(np.full((40, 3), np.nan)), Budget())


def test_a_bootstrap_sample_is_measured_like_its_rows(encoder: ImitateEncoder, prompts: Path) -> None:
    data = _data(_target())
    data.images[:] = np.random.default_rng(1).integers(0, 256, data.images.shape)
    data.table["labels"] = list(np.where(np.random.default_rng(2).random((40, 3)) < 0.1, np.nan, _target()))
    task = ZeroShot(prompts=prompts)
    predictions: Predictions = task.predict(encoder, data, Budget())
    rows = np.random.default_rng(3).integers(0, 40, 40)
    target, score = predictions["target"][rows], predictions["score"][rows]
    expected = [roc_auc_score(target[~np.isnan(target[:, c]), c], score[~np.isnan(target[:, c]), c]) for c in range(3)]
    measured = task.measure(predictions, rows)
    assert [measured[f"auroc/{label}"] for label in CLASSES] == pytest.approx(expected)
    assert measured["auroc"] == pytest.approx(np.mean(expected))


def test_every_source_has_prompts_for_its_classes() -> None:
    assert {path.stem for path in BUILT_IN.glob("*.yaml")} <= {"findings", *sources.BUILT_IN}
    names = {
        "chexpert": "No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,Lung Lesion,Edema,Consolidation,"
        "Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,Fracture,Support Devices",
        "open-i": "Atelectasis,Cardiomegaly,Effusion,Infiltration,Mass,Nodule,Pneumonia,Pneumothorax,Consolidation,"
        "Edema,Emphysema,Fibrosis,Pleural_Thickening,Hernia,normal",
        "covidx": "normal,pneumonia,COVID-19",
        "rsna": "Pneumonia",
        "siim": "Pneumothorax",
        "object-cxr": "Foreign object",
        "vindr-cxr": ",".join(name for name in VINDR if not name.startswith("Other")),
        "chestx-det": "Calcification,Diffuse Nodule,Effusion,Mass,Pleural Thickening",
        "tbx11k": "Healthy,Sick without tuberculosis,Tuberculosis",
        "synthetic": "Atelectasis,COVID-19,Consolidation,Foreign Object,Fracture,Lung Lesion",
    }
    for source, classes in names.items():
        data = _data(np.zeros((1, 0)), classes=classes.split(","), source=source)
        assert list(class_prompts(data, None)) == data.classes
    rsna, siim = (
        class_prompts(_data(np.zeros((1, 0)), classes=["Pneumonia"], source=source), None)
        for source in ("rsna", "siim")
    )
    assert rsna != siim
    other = _data(np.zeros((1, 0)), classes=["Pneumonia"], source="a plug-in")
    other.meta["traits"] = {"prompts": "rsna"}
    assert class_prompts(other, None) == rsna  # the traits of a folder, not its source, name the prompts
    other.meta["traits"] = {"prompts": ""}
    assert class_prompts(other, None) != rsna


def test_a_class_without_prompts_is_excluded_and_named(
    encoder: ImitateEncoder, prompts: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = _data(_target(), classes=["Edema", "Situs inversus", "COVID-19"])
    with caplog.at_level(logging.WARNING):
        predictions = ZeroShot(prompts=prompts).predict(encoder, data, Budget())
    assert "no prompts for Situs inversus" in caplog.text
    assert predictions["classes"].tolist() == ["Edema", "COVID-19"]
    np.testing.assert_array_equal(predictions["target"], _target()[:, [0, 2]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Other: {positive: [a], negative: [b]}", "no prompts for any of Edema, Pleural_Thickening, COVID-19"),
        ("Edema: {positive: [a], negative: ['  ']}", "Edema has an empty prompt"),
        ("Edema: {positive: [], negative: [a]}", "Edema: positive"),
        ("Edema: {positive: [a]}", "Edema: negative"),
        ("Edema: {positive: [a], negative: [b], neutral: [c]}", "Edema: unknown key 'neutral'"),
        ("- Edema", "must hold positive and negative prompts for each class, not list"),
        ("Edema: {", "not valid YAML"),
        (None, "no prompts at"),
    ],
)
def test_unusable_prompts_are_reported(prompts: Path, text: str | None, message: str) -> None:
    if text is None:
        prompts.unlink()
    else:
        prompts.write_text(text)
    with pytest.raises(UserError, match=message):
        class_prompts(_data(_target()), prompts)


def test_embeddings_that_are_not_finite_are_reported(prompts: Path, encoder: ImitateEncoder) -> None:
    class Broken(FakeModel):
        def encode_image(self, images: Images) -> ImageEmbedding:
            return ImageEmbedding(
                *(torch.nan * part if isinstance(part, Tensor) else part for part in super().encode_image(images))
            )

    with pytest.raises(UserError, match="not finite"):
        ZeroShot(prompts=prompts).predict(ImitateEncoder("fake", Broken(), FakeText()), _data(_target()), Budget())


def _noise(n: int = 60) -> Corpus:
    """Images of any direction; the last third is the split val."""
    target = np.random.default_rng(5).integers(0, 2, (n, 3)).astype(float)
    data = _data(target)
    data.images[:] = np.random.default_rng(4).integers(0, 256, data.images.shape)
    data.table["split"] = np.where(np.arange(n) < 40, "test", "val")
    return data


@pytest.mark.parametrize("ensemble", ["embedding", "score", "max"])
@pytest.mark.parametrize("scoring", ["margin", "positive", "standardised"])
def test_scores_of_every_ensemble_and_scoring(
    encoder: ImitateEncoder, prompts: Path, ensemble: str, scoring: str
) -> None:
    """Against the definition, in float64 and one image, class and prompt at a time."""
    data = _noise()
    task = ZeroShot.model_validate({"prompts": prompts, "ensemble": ensemble, "scoring": scoring})
    expected = np.zeros((40, 3))
    for i, c in np.ndindex(40, 3):
        texts = list(class_prompts(data, prompts).values())[c]
        for section in (0, 1):
            image = data.images[i, section] / np.linalg.norm(data.images[i, section].astype(float))
            sides = []
            for side in (texts.positive, texts.negative):
                unit = FakeText().encode(list(side)).double().numpy()
                unit /= np.linalg.norm(unit, axis=1, keepdims=True)
                middle = unit.mean(0)
                cosines = unit @ image
                each = {"embedding": middle @ image / np.linalg.norm(middle), "score": cosines.mean()}
                sides.append({**each, "max": cosines.max()}[ensemble])
            expected[i, c] += (sides[0] - sides[1] if scoring == "margin" else sides[0]) / 2
    if scoring == "standardised":
        expected = (expected - expected.mean(0)) / expected.std(0)
    np.testing.assert_allclose(task.predict(encoder, data, Budget())["score"], expected, atol=2e-5)


def test_five_class_accuracy_is_that_of_the_positive_prompts_where_published(
    encoder: ImitateEncoder, prompts: Path
) -> None:
    """A class whose negative side is far from every image wins by margin, and loses by its positive side."""
    data = _data(np.eye(3)[np.arange(30) % 3])
    data.images[:] = 1
    for image, c in enumerate(np.arange(30) % 3):
        data.images[image, :2, 2 * c] = 100  # its own positive prompt
        data.images[image, :2, [1, 3]] = 120  # the negative prompts of the first two classes
    accuracy = {
        scoring: task.measure(task.predict(encoder, data, Budget()))["accuracy"]
        for scoring in ("margin", "positive")
        for task in [ZeroShot.model_validate({"prompts": prompts, "scoring": scoring})]
    }
    assert accuracy == {"margin": pytest.approx(1 / 3), "positive": 1.0}


def test_the_threshold_is_chosen_where_it_says(encoder: ImitateEncoder, prompts: Path) -> None:
    """Against every threshold in turn."""
    data = _noise()
    held, test = (np.flatnonzero(data.table["split"] == split) for split in ("val", "test"))
    runs = {
        name: task.predict(encoder, data, Budget())
        for name in ("oracle", "val", "even")
        for task in [ZeroShot.model_validate({"prompts": prompts, "threshold": name})]
    }
    score = runs["oracle"]["score"]
    other = ZeroShot(prompts=prompts, split="val").predict(encoder, data, Budget())["score"]
    found = {name: ZeroShot(prompts=prompts).measure(run) for name, run in runs.items()}
    for c, label in enumerate(CLASSES):
        target = data.labels[:, c]
        chosen = max(sorted(other[:, c]), key=lambda least: f1_score(target[held], other[:, c] >= least))
        best = max(sorted(score[:, c]), key=lambda least: f1_score(target[test], score[:, c] >= least))
        for name, called in (("val", score[:, c] >= chosen), ("even", score[:, c] > 0)):
            assert found[name][f"f1/{label}"] == pytest.approx(f1_score(target[test], called))
            assert found[name][f"threshold-accuracy/{label}"] == pytest.approx(np.mean(called == target[test]))
            for what, metric in ("balanced-accuracy", balanced_accuracy_score), ("mcc", matthews_corrcoef):
                assert found[name][f"threshold-{what}/{label}"] == pytest.approx(metric(target[test], called))
                at_best = pytest.approx(metric(target[test], score[:, c] >= best))
                assert found["oracle"][f"oracle-{what}/{label}"] == at_best
        assert found["oracle"][f"oracle-accuracy/{label}"] == pytest.approx(
            np.mean((score[:, c] >= best) == target[test])
        )
    assert "f1" not in found["oracle"] and "oracle-max-f1" not in found["val"]
    chance = ZeroShot(prompts=prompts).chance(runs["val"])
    assert "f1" not in chance and "threshold-accuracy" not in chance
    assert (chance["threshold-balanced-accuracy/Edema"], chance["threshold-mcc"]) == (0.5, 0)


def test_a_class_with_one_label_on_validation_has_no_threshold(
    encoder: ImitateEncoder, prompts: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = _noise()
    labels = data.labels.copy()
    labels[data.rows("val"), 1] = 0
    data = replace(data, table=data.table.assign(labels=list(labels)))
    run = ZeroShot(prompts=prompts, threshold="val").predict(encoder, data, Budget())
    assert np.isnan(run["called"]).all(0).tolist() == [False, True, False]
    assert f"validation images of both labels are lacking, so without threshold: {CLASSES[1]}" in caplog.text


def test_a_class_without_threshold_has_no_part_in_averages() -> None:
    random = np.random.default_rng(0)
    target = (random.random((200, 3)) < 0.4).astype(float)
    score = target + random.normal(size=target.shape)
    at = np.array([0.5, np.nan, 0.2])
    names = np.array(["Edema", "Mass", "Hernia"])
    called = np.where(np.isnan(at), np.nan, score >= at)
    rows = {name: np.arange(200).astype(str) for name in ("image_id", "patient")}
    run: Predictions = {**rows, "target": target, "score": score, "called": called, "classes": names}
    task = ZeroShot(threshold="val")
    found = task.measure(run)
    assert np.isnan(found["f1/Mass"]) and not np.isnan(found["auroc/Mass"])
    for name in ("f1", "threshold-accuracy", "threshold-mcc"):
        assert found[name] == pytest.approx((found[f"{name}/Edema"] + found[f"{name}/Hernia"]) / 2)
    estimated = estimates(task, [run], [found], 20)
    assert estimated["f1"].note == "undefined and left out: Mass" and estimated["f1"].low is not None
    nothing = task.measure({**run, "called": np.full_like(score, np.nan)})
    assert np.isnan([nothing["f1"], nothing["f1/Edema"]]).all() and nothing["auroc"] == found["auroc"]


def test_a_study_has_the_mean_score_of_its_images_also_where_a_threshold_is_chosen(
    encoder: ImitateEncoder, prompts: Path
) -> None:
    data = _noise()
    data.table["study"] = [f"s{i // 4}" for i in range(60)]
    data.table["patient"] = "all"
    data.table["labels"] = list(np.repeat(np.stack(data.table["labels"])[::4], 4, axis=0))
    image, study = (
        ZeroShot.model_validate({"prompts": prompts, "threshold": "val", "unit": unit}) for unit in ("image", "study")
    )
    each, together = (task.predict(encoder, data, Budget()) for task in (image, study))
    np.testing.assert_allclose(together["score"], each["score"].reshape(10, 4, 3).mean(1), atol=1e-6)
    assert together["image_id"].tolist() == [f"i{4 * i}" for i in range(10)]
    held = ZeroShot(prompts=prompts, split="val").predict(encoder, data, Budget())["score"].reshape(5, 4, 3).mean(1)
    for c, label in enumerate(CLASSES):
        truth = data.labels[40::4, c]
        least = max(sorted(held[:, c]), key=lambda least: f1_score(truth, held[:, c] >= least))
        called = together["score"][:, c] >= least - 1e-6
        assert study.measure(together)[f"f1/{label}"] == pytest.approx(f1_score(data.labels[:40:4, c], called))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threshold": "even", "scoring": "positive"}, "a margin of 0, which scoring positive does not have"),
        ({"threshold": "val", "split": "val"}, "chosen on the test images"),
    ],
)
def test_a_threshold_that_means_nothing_is_refused(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ZeroShot.model_validate(settings)


def test_classes_that_the_text_encoder_cannot_express_take_no_part(
    prompts: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The same check as that of inference: of a file any known word, of built-in prompts all that carry meaning."""
    text = LsaTextEncoder.fit(["there is edema", "no edema", "the lungs are clear", "mild edema"], width=2)
    assert list(class_prompts(_data(_target()), prompts, text)) == ["Edema"]
    assert "does not know the words for: COVID-19, Pleural_Thickening" in caplog.text
    with pytest.raises(UserError, match="does not know the words of any class of prepared: give other prompts"):
        class_prompts(_data(_target(), classes=["Hernia", "Mass", "Nodule"]), None, text)
