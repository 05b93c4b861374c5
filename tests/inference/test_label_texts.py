"""Sentences from labels: what is known, and nothing more."""

import numpy as np
import pandas as pd
import pytest
from folders import write_shards

from imitate.data.corpus import Corpus
from imitate.inference.label_texts import texts_of_labels

UNKNOWN = float("nan")


def texts(tmp_path, classes: list[str], labels: list[list[float]], **meta: object) -> list[str | None]:
    names = [str(i) for i in range(len(labels))]
    table = pd.DataFrame({"image_id": names, "patient": names, "study": names, "split": "train", "labels": labels})
    root = write_shards(tmp_path / "data", table, np.zeros((len(labels), 16, 16), np.uint8), classes=classes, **meta)
    return texts_of_labels(Corpus.open(root)).tolist()


def test_positive_classes_are_named_and_unknown_ones_are_not_denied(tmp_path):
    found = texts(
        tmp_path,
        ["Cardiomegaly", "Pleural_Thickening", "Foreign_Body"],
        [[1, 0, 0], [1, 1, 1], [1, UNKNOWN, 0], [0, 0, 0], [0, UNKNOWN, 0], [UNKNOWN] * 3],
    )
    assert found[0] == found[2] == "The heart is enlarged."
    assert found[1] == "The heart is enlarged. There is pleural thickening. There is foreign body."
    assert found[3] == "No acute cardiopulmonary abnormality."
    assert found[4] is None and found[5] is None


@pytest.mark.parametrize("label", [0, 1, UNKNOWN])
def test_a_class_for_normal_images_needs_no_label_of_its_own(tmp_path, label):
    found = texts(tmp_path, ["No Finding", "Edema"], [[label, 0], [0, 1]])
    assert found == ["No acute cardiopulmonary abnormality.", "There is pulmonary edema."]


def test_absence_of_the_only_class_is_no_normal_radiograph(tmp_path):
    assert texts(tmp_path, ["Pneumothorax"], [[1], [0], [UNKNOWN]]) == [
        "There is a pneumothorax.", "The lungs are well expanded and clear.", None,
    ]  # fmt: skip


def test_a_folder_without_classes_has_no_texts(tmp_path):
    assert texts(tmp_path, [], [[], []]) == [None, None]
