"""The function behind the Space, and where Gradio is installed, the Space itself over HTTP."""

import os
import re

import numpy as np
import pytest
import yaml
from example import EXAMPLES, program
from PIL import Image
from runs import write_run

import imitate
from imitate.errors import UserError

SPACE = EXAMPLES / "gradio-space"


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    root = tmp_path_factory.mktemp("space")
    module = program("gradio-space/app.py")
    module.MODEL = str(write_run(root))
    pixels = np.random.default_rng(0).integers(0, 255, (60, 50), np.uint8)
    Image.fromarray(pixels).save(root / "film.png")
    module.film = str(root / "film.png")
    return module


def test_the_card_of_the_space_names_what_is_there():
    _, header, text = (SPACE / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    card = yaml.safe_load(header)
    wanted = (SPACE / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert card["sdk"] == "gradio" and (SPACE / card["app_file"]).is_file() and card["license"] == "apache-2.0"
    assert len(card["short_description"]) <= 60 and "Not a medical device" in card["short_description"]
    low, high = re.fullmatch(r"gradio>=([\d.]+),<([\d.]+)", wanted[0]).groups()
    assert [*map(int, low.split("."))] <= [*map(int, card["sdk_version"].split("."))] < [int(high)]
    assert wanted[1] == "imitate-cxr[train]" and "not a medical device" in text
    assert len((SPACE / "app.py").read_text(encoding="utf-8").splitlines()) <= 55


def test_a_file_gets_a_number_for_each_finding_and_a_map_of_the_first(app):
    found, picture, about = app.examine(app.film, " left effusion, edema ,")
    model = imitate.load(app.MODEL)
    expected = model.classify(app.film, {"left effusion": "left effusion", "edema": "edema"})
    assert found == pytest.approx(expected.iloc[0].to_dict(), abs=1e-6)
    assert picture.shape == (36, 36, 3) and picture.dtype == np.uint8
    heat = model.heatmap(model.read(app.film).pixels, "left effusion")
    hottest = np.unravel_index(heat.argmax(), heat.shape)
    assert int(picture[hottest][0]) - int(picture[hottest][2]) > 100 and "uncalibrated" in about


def test_what_is_missing_is_said(app, tmp_path):
    for file, words in ((None, "edema"), (app.film, " , ")):
        with pytest.raises(UserError, match="choose a radiograph, and write at least one finding"):
            app.examine(file, words)
    (tmp_path / "notes.txt").write_text("words")
    with pytest.raises(UserError, match="notes.txt: not a DICOM, PNG or JPEG file"):
        app.examine(str(tmp_path / "notes.txt"), "edema")
    assert "not a medical device" in app.NOTICE


def test_the_space_responds_over_http(app, monkeypatch):
    if not os.environ.get("IMITATE_NEEDS_GRADIO"):  # set in the job of CI that installs it
        pytest.importorskip("gradio")
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
    from gradio_client import Client, handle_file
    from gradio_client.exceptions import AppError

    page = app.interface()
    assert "not a medical device" in str(page.get_config_file())
    page.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1")
    try:
        client = Client(page.local_url, verbose=False)
        label, picture, about = client.predict(handle_file(app.film), "left effusion, edema", api_name="/examine")
        with pytest.raises(AppError, match="choose a radiograph"):
            client.predict(handle_file(app.film), "", api_name="/examine")
    finally:
        page.close()
    expected = app.examine(app.film, "left effusion, edema")[0]
    assert {each["label"]: each["confidence"] for each in label["confidences"]} == pytest.approx(expected, abs=1e-4)
    assert picture and "uncalibrated" in about
