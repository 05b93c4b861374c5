"""A fake model for which an image is the sentence that its first pixels stand for."""

import logging
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from jaxtyping import Float
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from imitate import sources
from imitate.config import ImitateConfig
from imitate.data.prepared import Prepared
from imitate.errors import UserError
from imitate.inference.encoder import Subject
from imitate.inference.prompts import BUILT_IN
from imitate.models.image import ImageEncoder
from imitate.models.types import ImageEmbedding, ImageFeatures, Images
from imitate.tasks.base import Budget, Predictions
from imitate.tasks.zero_shot import ZeroShot, class_prompts

SIDE = 8
CONFIG = ImitateConfig(prepared_size=SIDE, image_size=SIDE, mean=(0, 0, 0), std=(1, 1, 1))
CLASSES = ["Edema", "Pleural_Thickening", "COVID-19"]


class FakeModel(nn.Module):
    """The first row of pixels is the findings embedding, the second the impression's."""

    def encode_image(self, images: Images) -> ImageEmbedding:
        return ImageEmbedding(images[:, 0, 0], images[:, 0, 1], ImageFeatures([], images[:, 0, 0]))

    def encode_text(self, texts: Float[Tensor, "texts width"]) -> Float[Tensor, "texts width"]:
        return 3 * texts


class FakeText:
    """Class c without negation is axis 2c, negated it is 2c + 1; the prompts of one side differ in a last axis."""

    name, width = "fake", SIDE

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
def subject() -> Subject:
    return Subject("fake", ImageEncoder("resnet10t"), CONFIG, FakeModel(), FakeText())


def _data(target: np.ndarray, *, classes: list[str] = CLASSES, source: str = "table") -> Prepared:
    """Both rows of pixels say which classes an image has."""
    images = np.zeros((len(target), SIDE, SIDE), dtype=np.uint8)
    for c in range(target.shape[1]):
        images[:, :2, 2 * c] = np.where(target[:, c] > 0, 200, 0)[:, None]
        images[:, :2, 2 * c + 1] = np.where(target[:, c] > 0, 0, 200)[:, None]
    table = pd.DataFrame({"image_id": [f"i{i}" for i in range(len(target))], "split": "test"})
    table["patient"] = table["image_id"]
    table["labels"] = list(target)
    return Prepared(Path("prepared"), {"classes": classes, "source": source}, table, images, None)


def _target(n: int = 40) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2, (n, 3)).astype(float)


@pytest.mark.parametrize("branch", ["impression", "findings", "both"])
def test_an_oracle_is_perfect(subject: Subject, prompts: Path, branch: str) -> None:
    task = ZeroShot.model_validate({"prompts": prompts, "branch": branch})
    figures = task.measure(task.predict(subject, _data(_target()), Budget()))
    assert next(iter(figures)) == "auroc"
    assert set(figures) == {
        name + suffix
        for name in ("auroc", "average-precision", "oracle-max-f1")
        for suffix in ("", *(f"/{label}" for label in CLASSES))
    }
    assert set(figures.values()) == {1.0}


def test_branches_see_their_own_part(subject: Subject, prompts: Path) -> None:
    data = _data(_target())
    data.images[:, 1] = 1
    figures = {
        branch: ZeroShot(prompts=prompts, branch=branch).measure(
            ZeroShot(prompts=prompts, branch=branch).predict(subject, data, Budget())
        )["auroc"]
        for branch in get_args(ZeroShot.model_fields["branch"].annotation)
    }
    assert figures == {"findings": 1.0, "impression": 0.5, "both": 1.0}


def test_the_score_is_the_difference_of_cosines_with_the_middle_of_unit_vectors(
    subject: Subject, prompts: Path
) -> None:
    data = _data(_target())
    data.images[:] = np.random.default_rng(1).integers(0, 256, data.images.shape)
    score = ZeroShot(prompts=prompts, branch="impression").predict(subject, data, Budget())["score"]
    image = data.images[7, 1] / np.linalg.norm(data.images[7, 1].astype(float))
    for c, each in enumerate(class_prompts(data, prompts).values()):
        sides = []
        for texts in (each.positive, each.negative):
            unit = [vector / np.linalg.norm(vector) for vector in FakeText().encode(list(texts)).numpy()]
            middle = np.mean(unit, axis=0)
            sides.append(image @ (middle / np.linalg.norm(middle)))
        assert score[7, c] == pytest.approx(sides[0] - sides[1], abs=1e-5)


def test_constant_and_shuffled_images_are_at_chance(subject: Subject, prompts: Path) -> None:
    task, data = ZeroShot(prompts=prompts), _data(_target(1000))
    predictions = task.predict(subject, data, Budget())
    chance = task.chance(predictions)
    assert {chance["auroc"], chance["auroc/Edema"]} == {0.5}
    assert chance["average-precision/Edema"] == pytest.approx(predictions["target"][:, 0].mean())
    data.images[:] = data.images[np.random.default_rng(0).permutation(1000)]
    assert task.measure(task.predict(subject, data, Budget()))["auroc"] == pytest.approx(0.5, abs=0.03)
    data.images[:] = 7
    assert task.measure(task.predict(subject, data, Budget())) == pytest.approx(chance)


def test_classes_that_exclude_each_other_have_an_accuracy(subject: Subject, prompts: Path) -> None:
    task, target = ZeroShot(prompts=prompts), np.eye(3)[np.arange(30) % 3]
    predictions = task.predict(subject, _data(target), Budget())
    assert task.measure(predictions)["accuracy"] == 1.0
    assert task.chance(predictions)["accuracy"] == pytest.approx(1 / 3)
    assert task.measure(predictions, np.array([0, 0]))["accuracy"] == 1.0
    target[0] = 1
    assert "accuracy" not in task.measure(task.predict(subject, _data(target), Budget()))


def test_a_class_that_the_split_knows_nothing_of_takes_no_part(subject: Subject, prompts: Path) -> None:
    """So that accuracy on 5x200 is of five classes although 8x200 has more."""
    target = np.eye(3)[np.arange(40) % 2]
    target[:, 2] = np.nan
    task = ZeroShot(prompts=prompts)
    predictions = task.predict(subject, _data(target), Budget())
    assert predictions["classes"].tolist() == CLASSES[:2]
    assert task.chance(predictions)["accuracy"] == 0.5
    with pytest.raises(UserError, match="knows no label in split 'test': choose another split"):
        task.predict(subject, _data(np.full((40, 3), np.nan)), Budget())


def test_a_bootstrap_sample_is_measured_like_its_rows(subject: Subject, prompts: Path) -> None:
    data = _data(_target())
    data.images[:] = np.random.default_rng(1).integers(0, 256, data.images.shape)
    data.table["labels"] = list(np.where(np.random.default_rng(2).random((40, 3)) < 0.1, np.nan, _target()))
    task = ZeroShot(prompts=prompts)
    predictions: Predictions = task.predict(subject, data, Budget())
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


def test_a_class_without_prompts_is_left_out_and_named(
    subject: Subject, prompts: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = _data(_target(), classes=["Edema", "Situs inversus", "COVID-19"])
    with caplog.at_level(logging.WARNING):
        predictions = ZeroShot(prompts=prompts).predict(subject, data, Budget())
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
def test_unusable_prompts_are_told(prompts: Path, text: str | None, message: str) -> None:
    if text is None:
        prompts.unlink()
    else:
        prompts.write_text(text)
    with pytest.raises(UserError, match=message):
        class_prompts(_data(_target()), prompts)


def test_embeddings_that_are_not_finite_are_told(prompts: Path, subject: Subject) -> None:
    class Broken(FakeModel):
        def encode_image(self, images: Images) -> ImageEmbedding:
            return ImageEmbedding(
                *(torch.nan * part if isinstance(part, Tensor) else part for part in super().encode_image(images))
            )

    with pytest.raises(UserError, match="not finite"):
        ZeroShot(prompts=prompts).predict(subject._replace(model=Broken()), _data(_target()), Budget())
