"""A model that meets another tone than it learnt from says so; image files are brought to it where that is possible."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from folders import edit_index, write_folder
from PIL import Image
from runs import write_run

import imitate
from imitate.config import Preprocessing
from imitate.data.corpus import Corpus
from imitate.data.pixels import to_prepared
from imitate.data.tone import equalize
from imitate.inference.encoder import load_folder
from imitate.inference.tones import described, preparation
from imitate.models.imitate import Imitate
from imitate.serve.scores import Scores
from imitate.synthetic.cases import draw_case
from imitate.synthetic.phantom import render
from imitate.tasks import check_preparation, find_task

IMAGE = render(draw_case(4, 0), 128).image


def run(root: Path, tone: str) -> Path:
    return write_run(root / tone, objective="imitate", tone=tone)


def test_a_folder_of_another_tone_is_warned_of_and_an_unknown_one_is_not(tmp_path: Path, caplog) -> None:
    data = write_folder(tmp_path / "data")
    task, found = find_task("retrieval")(), {}
    for learnt in ("equalized", "native", "unknown"):
        encoder = load_folder(run(tmp_path, learnt))
        for tone in ("equalized", "native", "unknown"):
            caplog.clear()
            edit_index(data, tone=tone)
            check_preparation(task, encoder, Corpus.open(data))
            found[learnt, tone] = caplog.text
    assert {pair for pair, said in found.items() if said} == {("equalized", "native"), ("native", "equalized")}
    assert (
        "the gray values are native, but equalized was trained on equalized ones: prepare them with --tone equalize"
        in (found["equalized", "native"].replace("run", "equalized"))
    )
    assert "equalisation cannot be undone" in found["native", "equalized"]


def test_an_index_that_was_prepared_in_another_way_is_warned_of(tmp_path: Path, caplog) -> None:
    model, data = imitate.load(run(tmp_path, "native"), device="cpu"), write_folder(tmp_path / "data")
    Scores(model, Corpus.open(data))
    model.retrieve(text="left effusion", index=data)
    assert not caplog.text
    edit_index(data, resize="letterbox", percentiles=[1, 99])
    model = imitate.load(tmp_path / "native" / "run", device="cpu")
    model.retrieve(image=IMAGE, index=data)
    assert not caplog.text  # nothing but reports was read
    for _ in range(2):
        model.retrieve(text="left effusion", index=data)
    said = [f"{data} has resize letterbox, but", f"{data} has percentiles (1.0, 99.0), but"]
    assert [line.partition(" but")[0] + " but" for line in caplog.messages] == said
    caplog.clear()
    Scores(model, Corpus.open(data))
    assert [line.partition(" but")[0] + " but" for line in caplog.messages] == said


def test_image_files_are_equalised_for_a_model_that_learnt_from_such(tmp_path: Path, caplog) -> None:
    model = imitate.load(run(tmp_path, "equalized"), device="cpu")
    wanted = to_prepared(IMAGE, 36, equalized=True)[0]
    np.testing.assert_array_equal(model.read(IMAGE).pixels, wanted)
    close = np.abs(model.read(equalize(IMAGE)).pixels.astype(int) - wanted)
    assert close.max() <= 2  # of an equalised one nothing is lost
    np.testing.assert_array_equal(model.embed_images(IMAGE), model.embed_images([IMAGE]))
    assert not caplog.text
    native = imitate.load(run(tmp_path, "native"), device="cpu")
    native.embed_images([IMAGE, IMAGE, equalize(IMAGE)])
    assert not caplog.text  # a third
    native.embed_images([IMAGE, equalize(IMAGE), equalize(IMAGE)])
    assert "2 of 3 images: the gray values are equalized" in caplog.text


def test_predictions_in_parts_do_the_same(tmp_path: Path, caplog) -> None:
    (tmp_path / "images").mkdir()
    Image.fromarray(equalize(IMAGE)).save(tmp_path / "images" / "a.png")
    from imitate.commands.predict import predict

    said = {"images": tmp_path / "images", "workers": 1, "device": "cpu"}
    predict("embed", model=str(run(tmp_path, "native")), out=str(tmp_path / "out"), **said)
    assert "1 of 1 images: the gray values are equalized" in caplog.text


def test_a_model_keeps_the_tone_of_its_data_and_its_identity(tmp_path: Path, caplog) -> None:
    data = write_folder(tmp_path / "data")
    edit_index(data, tone="equalized")
    start = Imitate.from_pretrained(run(tmp_path, "native") / "model")
    with caplog.at_level(logging.WARNING):
        assert preparation(Corpus.open(data), start)["tone"] == "equalized"
    assert "the model to start from was trained on native ones" in caplog.text
    same = [load_folder(run(tmp_path / name, name)).identity for name in ("native", "equalized")]
    assert same[0] == same[1]


@pytest.mark.parametrize("tone", ["native", "unknown"])
def test_other_models_read_files_as_before(tmp_path: Path, tone: str) -> None:
    np.testing.assert_array_equal(
        imitate.load(run(tmp_path, tone), device="cpu").read(IMAGE).pixels, to_prepared(IMAGE, 36)[0]
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {},
            "(of DICOM, its window and MONOCHROME1 are applied); black borders are cut off; the darkest pixel becomes",
        ),
        ({"percentiles": (1, 99)}, "applied); black borders are cut off; the 1th percentile becomes black, the 99th"),
        ({"tone": "equalized"}, "its window is not); the histogram is equalised; black borders are cut off; the dark"),
        ({"tone": "equalized", "percentiles": (1, 99)}, "the 99th white; the histogram is equalised; black borders"),
        ({"resize": "crop-bicubic"}, "applied); 8 bits as they are, others rescaled; as values from 0 to 255 resized"),
        ({"resize": "pad-area", "percentiles": (1, 99)}, "applied); the 1th percentile becomes black, the 99th"),
    ],
)
def test_words_describe_the_gray_values_that_the_model_learnt_from(changes: dict[str, Any], said: str) -> None:
    wanted = Preprocessing(prepared_size=36, image_size=32, **changes)
    assert said in described(wanted)
