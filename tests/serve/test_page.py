"""The page in a real browser: what is asked, and what is said of it."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from browser import requested, wait
from PIL import Image
from served import MARKUP, calibrated, serving
from uploads import dicom, encoded, enormous, picture
from viewer import click, element, mapped, open_example, open_files, opened, press, reach, rested, settled, values

from imitate.serve import service as services
from imitate.serve.schema import NOTICE, ClassifyQuestion
from imitate.serve.server import create
from imitate.serve.service import Service

from .conftest import fresh


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("kind", ["png", "dcm"])
def test_upload_type_see(page, tmp_path, address, kind):
    open_files(page, written(tmp_path / f"image.{kind}", encoded(picture()) if kind == "png" else dicom(tmp_path)))
    opened(page, f"image.{kind} – imitate")
    settled(page)
    assert page.execute_script("return document.querySelector('#canvas').width") == 80
    assert (element(page, "#name").text, element(page, "#size").text) == (f"image.{kind}", "80 × 90")
    assert f"image.{kind} is open, 80 by 90 pixels" in element(page, "#status").get_attribute("textContent")
    assert len(page.find_elements("css selector", "#reports li .words")) >= 5
    element(page, "#phrase").send_keys("left effusion qwertz\n")
    wait(page, lambda _: mapped(page))
    assert "qwertz" in element(page, "#ask-note").text
    assert "left effusion" in element(page, "#heat").get_attribute("alt")
    page.execute_script(
        "const slider = document.querySelector('#opacity'); slider.value = 25; slider.dispatchEvent(new Event('input'))"
    )
    assert page.execute_script("return document.querySelector('#heat').style.opacity") == "0.25"
    for where in ("header", "#map", "#classes", "#nearest"):  # wherever there are predictions
        assert "ot a medical device." in element(page, where).text
    assert NOTICE in element(page, "header .notice").text
    asked = requested(page)
    assert len(asked) >= 5 and all(url.startswith((address, f"blob:{address}")) for url in asked), asked
    assert not page.get_log("browser")  # neither errors, nor what the content policy refused


def test_branches_ask_different_questions(page):
    open_example(page)
    both = settled(page)
    labels = {each.text: each for each in page.find_elements("css selector", "#branch label")}
    labels["findings"].click()
    wait(page, lambda _: rested(page) and values(page) != both)
    findings = values(page)
    assert "Findings section" in element(page, "#branch-note").text
    labels["impression"].click()
    wait(page, lambda _: rested(page) and values(page) != findings)
    assert {each.text for each in page.find_elements("css selector", "#reports .words b")} == {"IMPRESSION"}


def test_rows_are_sorted_and_show_their_percentile_among_the_index(page, service):
    open_example(page)
    shown = settled(page)
    expected = service.classify(service.find("example-1"), ClassifyQuestion())
    percentiles = {each.name: each.percentile for each in sorted(expected, key=lambda each: -each.percentile)}
    assert [*shown] == [*percentiles]
    assert [int(value[:-2]) for value in shown.values()] == [min(max(round(p), 1), 99) for p in percentiles.values()]
    assert element(page, "#kinds").text == "percentile"
    assert f"{service.about.compared} images of data" in element(page, "#kind-note").text
    assert not page.find_elements("css selector", ".scale .above, .scale .part")  # nothing that looks like a decision


def test_a_row_shows_the_cosine_of_each_sentence(page, service):
    open_example(page)
    name = next(iter(settled(page)))
    (expected,) = [
        each for each in service.classify(service.find("example-1"), ClassifyQuestion()) if each.name == name
    ]
    element(page, "#rows summary").click()
    lines = [line.text for line in page.find_elements("css selector", "#rows details[open] .side output")]
    positive, negative = (
        [f"{each.cosine:+.2f}".replace("-", "−") for each in side] for side in (expected.positive, expected.negative)
    )
    assert lines == [*positive, "", *negative, ""]  # with a line for another sentence on each side


def test_sentences_can_be_changed_added_and_removed(page):
    from selenium.webdriver import Keys

    open_example(page)
    before = settled(page)
    name = next(iter(before))
    element(page, "#rows summary").click()
    row = f"#rows li[data-name='{name}'] "
    element(page, f"{row}textarea").send_keys(Keys.CONTROL + "a" + Keys.NULL + "large left effusion" + Keys.TAB)
    wait(page, lambda _: rested(page) and values(page)[name] != before[name])
    after = values(page)
    assert {each: after[each] for each in before if each != name} == {
        each: before[each] for each in before if each != name
    }
    assert page.execute_script("return document.activeElement.matches(arguments[0])", f"{row}textarea")  # the next one
    count = len(page.find_elements("css selector", f"{row}textarea"))
    page.find_elements("css selector", f"{row}.side:nth-of-type(1) textarea")[-1].send_keys("left effusion qwertz\n")
    wait(page, lambda _: len(page.find_elements("css selector", f"{row}textarea")) == count + 1 and rested(page))
    element(page, "#finding").send_keys("right effusion\n")
    wait(page, lambda _: len(values(page)) == len(before) + 1)
    settled(page)
    element(page, "#finding").send_keys("Right effusion.\n")
    assert "in the list already" in element(page, "#classes-problem").text
    click(page, f"{row}.line button:nth-of-type(2)")
    assert len(values(page)) == len(before)
    click(page, "#reset-rows")
    wait(page, lambda _: rested(page) and values(page) == before)


def test_a_class_of_unknown_words_leaves_the_others(page):
    open_example(page)
    before = settled(page)
    element(page, "#finding").send_keys("qwertz\n")
    wait(page, lambda _: rested(page) and "qwertz" in element(page, "#classes-problem").text)
    assert list(values(page).items()) == [*before.items(), ("qwertz", "–")]


def test_where_shows_the_map_of_a_finding(page):
    open_example(page)
    settled(page)
    element(page, "#rows summary").click()
    click(page, "#rows details[open] .line button")
    wait(page, lambda _: mapped(page))
    assert element(page, "#phrase").get_attribute("value")


def test_a_model_without_maps_does_not_offer_them(driver, service, monkeypatch):
    """As one in ONNX has none."""
    monkeypatch.setattr(service.predictor.encoder, "has_maps", False)
    with serving(create(Service(service.predictor, service.index))) as address:
        page = fresh(driver, address)
        open_example(page, 1)
        settled(page)
        assert values(page)
        click(page, "#rows summary")
        assert element(page, "#rows .pair").is_displayed() and not element(page, "#rows .where").is_displayed()
        assert not element(page, "#ask").is_displayed() and not mapped(page)
        assert not any("/heatmap" in url for url in requested(page)) and not page.get_log("browser")


def test_what_goes_wrong_is_said_where_it_was_asked(page, tmp_path):
    element(page, "#phrase").send_keys("left effusion\n")
    assert element(page, "#ask-problem").text == "Open a radiograph first."
    for name, content, reason in [
        ("a.txt", b"hello", "not a DICOM, PNG or JPEG"),
        ("b.png", enormous(), "too many pixels"),
    ]:
        open_files(page, written(tmp_path / name, content))
        wait(page, lambda _, reason=reason: reason in element(page, "#stage-problem").text)
        assert element(page, "#stage-problem").text.startswith(f"{name}: ")
    requested(page)
    with (tmp_path / "large.dcm").open("wb") as file:
        file.truncate(services.MAX_BYTES + 1)
    open_files(page, tmp_path / "large.dcm")
    assert "at most 64 MiB" in wait(page, lambda _: "large" in (text := element(page, "#stage-problem").text) and text)
    assert not requested(page)
    open_files(page, written(tmp_path / "good.png", encoded(picture())))
    settled(page)
    assert not element(page, "#stage-problem").is_displayed()
    element(page, "#phrase").clear()
    element(page, "#phrase").send_keys("qwertz\n")
    wait(page, lambda _: "knows no word" in element(page, "#ask-problem").text)
    assert not element(page, "#heat").is_displayed()


def test_a_refused_file_clears_what_was_there(page, tmp_path):
    open_example(page, 1)  # with a map
    settled(page)
    wait(page, lambda _: mapped(page))
    open_files(page, written(tmp_path / "other.png", b"hello"))
    wait(page, lambda _: element(page, "#stage-problem").text.startswith("other.png: "))
    assert page.title == "imitate" and element(page, "#name").text == "No image"
    assert not element(page, "#canvas").is_displayed() and not mapped(page)
    assert set(values(page).values()) == {"–"} and not page.find_elements("css selector", ".scale i")
    assert not page.find_elements("css selector", "#reports .words")
    assert element(page, "#phrase").get_attribute("value") == ""  # that of the example
    assert not page.execute_script("return document.querySelector('#save-scores').disabled === false")


def test_old_findings_go_before_the_next_image_is_there(page, service, tmp_path, monkeypatch):
    open_example(page)
    settled(page)
    read = service.read
    seen = []
    monkeypatch.setattr(service, "read", lambda content: seen.append(values(page)) or read(content))
    open_files(page, written(tmp_path / "next.png", encoded(picture())))
    opened(page, "next.png")
    settled(page)
    assert set(seen[0].values()) == {"–"}  # while the server reads the file


def test_markup_in_a_report_is_text(page):
    open_example(page)
    settled(page)
    page.find_elements("css selector", "#branch label")[1].click()
    wait(page, lambda _: rested(page))
    shown = page.execute_async_script(
        "const done = arguments[0]; fetch('api/images/example-1/reports', {method: 'POST', "
        "body: JSON.stringify({k: 50, branch: 'findings'}), headers: {'Content-Type': 'application/json'}})"
        ".then(a => a.json()).then(a => done(a.reports.map(r => r.findings)))"
    )
    assert MARKUP in shown  # it is there to be found
    assert page.title.endswith("imitate")
    assert not page.find_elements("css selector", "#reports script, #reports .words b b")


def test_a_calibrated_class_has_a_probability_and_says_where_it_comes_from(driver, service):
    predictor, name = calibrated(service.predictor)
    own = Service(predictor, service.index)
    with serving(create(own)) as address:
        page = fresh(driver, address)
        open_example(page)
        shown = settled(page)
        (expected, *_) = own.classify(own.find("example-1"), ClassifyQuestion())
        assert expected.name == next(iter(shown)) == name
        assert shown[name] == f"{round(100 * expected.probability)}%"
        assert sum(value.endswith("%") for value in shown.values()) == 1  # the others: a percentile
        assert element(page, "#kinds").text == "probability or percentile"
        assert (
            element(page, "#rows .decision").text == f"{'above' if expected.above_threshold else 'below'} its threshold"
        )
        assert len(page.find_elements("css selector", ".scale .threshold")) == 1
        element(page, "#rows summary").click()
        assert "platt, fitted on 80 images of 70 patients" in element(page, "#rows .more").text
        click(page, "#about summary")
        assert "0.90 [0.80, 0.95]" in element(page, "#about table").text
        area = element(page, "#rows textarea")
        area.send_keys(" large\t")  # other sentences: another class
        wait(page, lambda _: rested(page) and not values(page)[name].endswith("%"))


def test_scores_and_map_are_downloaded(page, tmp_path):
    page.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    open_files(page, written(tmp_path / "+first.png", encoded(picture())))
    opened(page, "+first.png")
    shown = settled(page)
    click(page, "#save-scores")
    table = tmp_path / "_first.scores.csv"
    wait(page, lambda _: table.is_file() and table.stat().st_size)
    rows = [*csv.DictReader(io.StringIO(table.read_text(encoding="utf-8")))]
    assert {row["class"] for row in rows} == set(shown) and len(rows) == len(shown)
    assert {row["file"] for row in rows} == {"'+first.png"} and {row["notice"] for row in rows} == {NOTICE}
    assert all(0 < float(row["score"]) < 1 and 0 <= float(row["percentile"]) <= 100 for row in rows)
    assert {row["probability"] for row in rows} == {""}
    element(page, "#phrase").send_keys("left effusion\n")
    wait(page, lambda _: mapped(page))
    click(page, "#save-map")
    sheet = tmp_path / "_first.map.png"
    wait(page, lambda _: sheet.is_file() and sheet.stat().st_size)
    saved = np.asarray(Image.open(sheet).convert("RGB")).astype(int)
    assert saved.shape[1] == 80 and saved.shape[0] > 90  # with words below
    assert (saved[90:] > 100).any() and np.ptp(saved[:90], axis=2).max() > 40  # colours of the map


def test_several_images_of_a_study(page, tmp_path):
    first, second = encoded(picture()), encoded(picture()[:, ::-1].copy())
    open_files(page, written(tmp_path / "pa.png", first), written(tmp_path / "ap.png", second))
    opened(page, "pa.png")
    here = settled(page)
    wait(page, lambda _: len(page.find_elements("css selector", ".scale .other")) == len(here))
    names = [each.text for each in page.find_elements("css selector", "#strip button")]
    assert names == ["pa.png", "ap.png"]
    press(page, "]")
    opened(page, "ap.png")
    assert settled(page) != here
    assert element(page, "#strip [aria-pressed=true]").text == "ap.png"
    click(page, "#more")  # its dialog of the browser is no part of this: files go to the input
    open_files(page, written(tmp_path / "third.png", first))
    opened(page, "third.png")
    assert settled(page) == here
    assert len(page.find_elements("css selector", "#strip button")) == 3
    click(page, "#close")
    opened(page, "pa.png")
    open_files(page, written(tmp_path / "other.png", first))  # another patient
    opened(page, "other.png")
    assert not element(page, "#strip").is_displayed()


def test_the_server_forgets_a_closed_image(page, service, tmp_path):
    open_files(page, written(tmp_path / "pa.png", encoded(picture())))
    opened(page, "pa.png")
    held = set(service._uploads)
    click(page, "#close")
    assert page.title == "imitate"
    wait(page, lambda _: len(held - set(service._uploads)) == 1)


def test_a_refresh_keeps_everything(page, service, tmp_path):
    paths = [written(tmp_path / name, encoded(picture())) for name in ("pa.png", "ap.png")]
    open_files(page, *paths)
    opened(page, "pa.png")
    press(page, "]")
    opened(page, "ap.png")
    press(page, "i", "+")
    page.find_elements("css selector", "#branch label")[1].click()
    element(page, "#finding").send_keys("right effusion\n")
    element(page, "#phrase").send_keys("left effusion\n")
    wait(page, lambda _: mapped(page))
    before, shown = settled(page), element(page, "#readout").text
    page.refresh()
    opened(page, "ap.png")
    wait(page, lambda _: mapped(page))
    assert settled(page) == before and "right effusion" in before
    assert element(page, "#readout").text == shown and element(page, "#invert").get_attribute("aria-pressed") == "true"
    assert element(page, "#branch :checked").get_attribute("value") == "findings"
    service._uploads.clear()  # as if the server had started again
    page.refresh()
    wait(page, lambda _: "No longer on the server" in element(page, "#stage-problem").text)
    assert "pa.png, ap.png" in element(page, "#stage-problem").text and page.title == "imitate"


def test_a_password_is_asked_for_once(driver, service):
    with serving(create(service, password="secret")) as address:
        driver.get(address.replace("http://", "http://me:secret@"))
        page = fresh(driver, address)
        open_example(page)
        settled(page)


def test_the_token_in_the_address_opens_the_page(driver, service):
    with serving(create(service, token="secret")) as address:
        driver.get(address)
        wait(driver, lambda _: "address that imitate serve printed" in element(driver, "#stage-problem").text)
        driver.get(f"{address}/#token=secret")
        for _ in range(2):
            wait(driver, lambda _: driver.find_elements("css selector", "#examples button"))
            open_example(driver)
            settled(driver)
            assert "secret" not in driver.current_url
            driver.refresh()
        assert not any("secret" in url for url in requested(driver)[2:])  # none but the one that was typed


def test_with_the_keyboard_alone(page):
    from selenium.webdriver import Keys

    order = ["#open", "#choose", "#phrase", "#examples button"]
    for each in order:
        reach(page, each)
    press(page, Keys.ENTER)
    settled(page)
    page.execute_script("document.activeElement.blur(); scrollTo(0, 0)")
    reach(page, "#view")
    reach(page, "[name=mode]")
    reach(page, "#in")
    reach(page, "#phrase")
    press(page, Keys.CONTROL + "a" + Keys.NULL)
    press(page, "left effusion", Keys.ENTER)
    wait(page, lambda _: mapped(page))
    reach(page, "#opacity")
    press(page, Keys.ARROW_RIGHT)
    assert element(page, "#shown").text == "61%"
    reach(page, "#branch input")
    press(page, Keys.ARROW_RIGHT)
    wait(page, lambda _: rested(page) and "Findings section" in element(page, "#branch-note").text)
    reach(page, "#rows summary")
    press(page, Keys.ENTER)
    assert element(page, "#rows details").get_attribute("open") is not None
