"""The image on the page in a real browser: window, level, zoom, pan, by mouse, keys and fingers; and that all can use it."""

import numpy as np
import pytest
from browser import axe, emulate, wait
from uploads import dicom, encoded, picture
from viewer import click, element, gray, mapped, open_example, open_files, opened, press, readout, settled

from imitate.serve.images import FULL_SIDE


@pytest.fixture
def deep(page, tmp_path):
    """The page with an image of 10 bits in 16, brighter from left to right."""
    ramp = np.tile(np.linspace(0, 1000, 201).astype(np.uint16), (200, 1))
    (tmp_path / "deep.png").write_bytes(encoded(ramp))
    open_files(page, tmp_path / "deep.png")
    opened(page, "deep.png")
    return page


def drag(page, right: int, down: int, *, button: str = "left") -> None:
    """From the middle of the view."""
    box = page.execute_script(
        "const b = document.querySelector('#view').getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]"
    )
    for kind, x, y in [("mousePressed", 0, 0), ("mouseMoved", right, down), ("mouseReleased", right, down)]:
        event = {
            "type": kind,
            "x": box[0] + x,
            "y": box[1] + y,
            "button": button,
            "buttons": 2 if button == "right" else 1,
            "clickCount": 1,
        }
        page.execute_cdp_cmd("Input.dispatchMouseEvent", event)


def offset(page) -> tuple[float, float]:
    """By how much of its size the image is moved."""
    right, down = page.execute_script(
        "return document.querySelector('#layer').style.transform.match(/-?[\\d.e-]+(?=%)/g)"
    )
    return float(right), float(down)


def test_window_and_level_use_all_bits(deep):
    assert readout(deep)[:2] == (1000, 500)
    assert [gray(deep, x, 0) for x in (0, 100, 200)] == [0, 128, 255]
    click(deep, "label:has(#mode-window)")
    drag(deep, -240, 0)  # narrower by 80 of 100 parts
    wait(deep, lambda _: gray(deep, 80, 0) == 0)
    assert readout(deep)[:2] == (200, 500)
    assert gray(deep, 100, 0) == 128 and gray(deep, 101, 0) - gray(deep, 100, 0) in (6, 7)  # levels that 8 bits lack
    drag(deep, 0, -30)  # brighter by 10 parts
    wait(deep, lambda _: gray(deep, 100, 0) == 255)
    assert readout(deep)[:2] == (200, 400)
    click(deep, "#reset")
    wait(deep, lambda _: gray(deep, 100, 0) == 128)
    click(deep, "label:has([name=mode]:not(#mode-window))")
    drag(deep, -240, 0, button="right")  # in either mode
    wait(deep, lambda _: readout(deep)[0] == 200)


def test_the_window_of_a_header_can_be_left(page, tmp_path):
    content = dicom(tmp_path, RescaleSlope=4, RescaleIntercept=0, WindowCenter=600, WindowWidth=400)
    (tmp_path / "windowed.dcm").write_bytes(content)
    open_files(page, tmp_path / "windowed.dcm")
    opened(page, "windowed.dcm")
    before = page.execute_script("return document.querySelector('#canvas').toDataURL()")
    width = readout(page)[0]
    assert 300 < width <= 400
    element(page, "#view").send_keys("")
    page.execute_script("document.querySelector('#view').focus()")
    from selenium.webdriver import ActionChains, Keys

    for _ in range(6):
        ActionChains(page).key_down(Keys.SHIFT).send_keys(Keys.ARROW_RIGHT).key_up(Keys.SHIFT).perform()
    wait(page, lambda _: page.execute_script("return document.querySelector('#canvas').toDataURL()") != before)
    assert readout(page)[0] > width * 1.2


def test_invert(deep):
    click(deep, "#invert")
    wait(deep, lambda _: [gray(deep, x, 0) for x in (0, 100, 200)] == [255, 128, 0])
    press(deep, "i")
    wait(deep, lambda _: gray(deep, 0, 0) == 0)


def test_zoom_keeps_the_place_under_the_pointer_and_dragging_moves_the_image(deep):
    fitted = readout(deep)[2]
    drag(deep, 50, 0)
    assert offset(deep) == (0, 0)  # all of it is in sight
    x, y, wide = deep.execute_script(
        "const b = document.querySelector('#view').getBoundingClientRect(); return [b.x, b.y, b.width]"
    )
    wheel = {"type": "mouseWheel", "x": x + wide / 2 + 40, "y": y + 50, "deltaX": 0, "deltaY": -1000}
    deep.execute_cdp_cmd("Input.dispatchMouseEvent", wheel)
    wait(deep, lambda _: readout(deep)[2] > 4 * fitted)
    grown = readout(deep)[2] / fitted
    assert offset(deep)[0] / 100 * wide == pytest.approx(-40 * (grown - 1), rel=0.02)
    before = offset(deep)[0]
    drag(deep, 30, 0)
    assert (offset(deep)[0] - before) / 100 * wide == pytest.approx(30, abs=0.5)
    press(deep, "0")
    assert readout(deep)[2] == fitted and offset(deep) == (0, 0)
    click(deep, "#actual")
    assert readout(deep)[2] == 100
    for key, larger in [("+", True), ("-", False)]:
        now = readout(deep)[2]
        press(deep, key)
        assert (readout(deep)[2] > now) == larger
    press(deep, "r")
    assert readout(deep) == (1000, 500, fitted)


def test_arrows_move_the_image_that_has_the_focus(deep):
    from selenium.webdriver import Keys

    press(deep, "+", "+", "+", "+")
    deep.execute_script("document.querySelector('#view').focus()")
    press(deep, Keys.ARROW_RIGHT)
    assert offset(deep)[0] < 0
    element(deep, "#phrase").send_keys("i+r")  # letters, where somebody writes
    assert element(deep, "#invert").get_attribute("aria-pressed") == "false" and offset(deep)[0] < 0


def test_two_fingers_zoom(deep):
    x, y = deep.execute_script(
        "const b = document.querySelector('#view').getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]"
    )
    fitted = readout(deep)[2]

    def touch(kind: str, apart: float) -> None:
        points = [{"x": x - apart, "y": y, "id": 1}, {"x": x + apart, "y": y, "id": 2}]
        deep.execute_cdp_cmd(
            "Input.dispatchTouchEvent", {"type": kind, "touchPoints": points if kind != "touchEnd" else []}
        )

    touch("touchStart", 20)
    for apart in (30, 40, 50, 60):
        touch("touchMove", apart)
    touch("touchEnd", 0)
    wait(deep, lambda _: readout(deep)[2] == pytest.approx(3 * fitted, rel=0.02))
    assert offset(deep) == pytest.approx((0, 0), abs=0.5)


def test_a_key_hides_the_map(page):
    open_example(page, 1)
    wait(page, lambda _: mapped(page))
    page.execute_script("document.activeElement.blur()")
    press(page, "m")
    assert not mapped(page) and element(page, "#hide").get_attribute("aria-pressed") == "false"
    press(page, "m")
    assert mapped(page)
    click(page, "#keys summary")
    click(page, "#use-keys")
    press(page, "m")
    assert mapped(page)  # keys of a single letter can be switched off


def test_a_radiograph_of_4k_keeps_its_pixels(page, tmp_path):
    fine = np.zeros((4096, 3500), np.uint8)
    fine[::2] = 255
    (tmp_path / "large.png").write_bytes(encoded(fine))
    open_files(page, tmp_path / "large.png")
    opened(page, "large.png")
    assert element(page, "#size").text == "3500 × 4096"
    assert [gray(page, 1750, y) for y in range(FULL_SIDE - 4, FULL_SIDE)] == [255, 0, 255, 0]


@pytest.mark.parametrize(("width", "dark"), [(1400, False), (1400, True), (340, False), (340, True)])
def test_axe_finds_nothing(page, tmp_path, width, dark):
    emulate(page, width=width, height=800, dark=dark)
    try:
        assert axe(page) == []  # before there is an image
        for name in ("pa.png", "ap.png"):
            (tmp_path / name).write_bytes(encoded(picture()))
        open_files(page, tmp_path / "pa.png", tmp_path / "ap.png")
        opened(page, "pa.png")
        element(page, "#phrase").send_keys("left effusion\n")
        settled(page)
        wait(page, lambda _: mapped(page))
        element(page, "#finding").send_keys("qwertz\n")  # with a problem
        wait(page, lambda _: element(page, "#classes-problem").is_displayed())
        page.execute_script(
            "for (const each of document.querySelectorAll('#rows details, #about, #keys')) each.open = true"
        )
        assert axe(page) == []
        assert page.execute_script("return document.documentElement.scrollWidth") <= width
        page.execute_script("scrollTo(0, document.body.scrollHeight)")
        top = page.execute_script("return document.querySelector('.notice').getBoundingClientRect().top")
        assert 0 <= top < 100  # it stays in sight
    finally:
        emulate(page)


def test_nothing_moves_where_less_motion_is_wanted(page):
    moves = """return [...document.querySelectorAll('*')].filter(e => { const s = getComputedStyle(e)
      return parseFloat(s.transitionDuration) > 0 && s.transitionProperty !== 'none' || s.animationName !== 'none' }).length"""
    open_example(page)
    settled(page)
    page.execute_script("document.querySelector('#view').classList.add('busy')")
    assert page.execute_script(moves) > 0
    emulate(page, still=True)
    try:
        assert page.execute_script(moves) == 0
        assert (
            page.execute_script("return getComputedStyle(document.querySelector('#view'), '::after').animationName")
            == "none"
        )
    finally:
        emulate(page)
