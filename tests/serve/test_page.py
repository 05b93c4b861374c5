"""The page in a real browser."""

import pytest
from browser import chromium, requested, wait
from served import MARKUP, serving
from uploads import dicom, encoded, enormous, picture

from imitate.serve import service as services
from imitate.serve.schema import NOTICE
from imitate.serve.server import create

CONTRAST = """
const [canvas] = [document.createElement('canvas').getContext('2d', { willReadFrequently: true })]
const rgba = colour => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1)
  return [...canvas.getImageData(0, 0, 1, 1).data] }
const light = rgb => rgb.slice(0, 3).map(c => c / 255).map(c => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
  .reduce((sum, c, i) => sum + c * [.2126, .7152, .0722][i], 0)
const under = e => { for (; e; e = e.parentElement) { const c = rgba(getComputedStyle(e).backgroundColor); if (c[3] === 255) return c } return [255, 255, 255] }
return [...document.querySelectorAll('body *')].filter(e => e.checkVisibility() && e.tagName !== 'OPTION' &&
  (e.matches('input:not([type]), textarea') || [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())))
  .map(e => { const [a, b] = [light(rgba(getComputedStyle(e).color)), light(under(e))].sort((a, b) => b - a)
    return [(a + .05) / (b + .05), e.outerHTML.slice(0, 90)] }).filter(([ratio]) => ratio < 4.5)
"""


@pytest.fixture(scope="module")
def driver(address):
    with chromium() as driver:
        driver.get(address)
        yield driver


@pytest.fixture
def page(driver, address):
    driver.get(address)
    wait(driver, lambda _: driver.find_elements("css selector", "#examples button"))
    requested(driver), driver.get_log("browser")
    return driver


def element(page, selector: str):
    return page.find_element("css selector", selector)


def click(page, selector: str) -> None:
    """Not where the header may cover it."""
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", element(page, selector))
    element(page, selector).click()


def open_file(page, path, content: bytes) -> None:
    path.write_bytes(content)
    element(page, "#file").send_keys(str(path))


def values(page) -> list[str]:
    return page.execute_script("return [...document.querySelectorAll('.value')].map(each => each.textContent)")


def rested(page) -> bool:
    return not page.find_elements("css selector", "[aria-busy]")


def answered(page) -> list[str]:
    return wait(page, lambda _: rested(page) and "–" not in values(page) and values(page))


def mapped(page) -> bool:
    return page.execute_script(
        "const map = document.querySelector('#heat'); return !map.hidden && map.naturalWidth > 0"
    )


@pytest.mark.parametrize("kind", ["png", "dcm"])
def test_upload_type_see(page, tmp_path, address, kind):
    open_file(page, tmp_path / f"image.{kind}", encoded(picture()) if kind == "png" else dicom(tmp_path))
    answered(page)
    assert page.execute_script("return document.querySelector('#picture').naturalWidth") == 80
    assert f"image.{kind} is open, 80 by 90 pixels" in element(page, "#status").get_attribute("textContent")
    assert len(page.find_elements("css selector", "#reports li .words")) >= 5
    element(page, "#phrase").send_keys("left effusion qwertz\n")
    wait(page, lambda _: mapped(page))
    assert "qwertz" in element(page, "#ask-note").text and "left effusion" in element(page, "#heat").get_attribute(
        "alt"
    )
    page.execute_script(
        "const slider = document.querySelector('#opacity'); slider.value = 25; slider.dispatchEvent(new Event('input'))"
    )
    assert page.execute_script("return document.querySelector('#heat').style.opacity") == "0.25"
    assert NOTICE in element(page, "header .notice").text
    asked = requested(page)
    assert len(asked) >= 5 and all(url.startswith((address, f"blob:{address}")) for url in asked), asked
    assert not page.get_log("browser")  # neither errors, nor what the content policy refused


def test_branches_ask_different_questions(page):
    element(page, "#examples button").click()
    both = answered(page)
    labels = {each.text: each for each in page.find_elements("css selector", "#branch label")}
    labels["findings"].click()
    wait(page, lambda _: rested(page) and values(page) != both)
    findings = values(page)
    assert "FINDINGS" in element(page, "#branch-note").text
    labels["impression"].click()
    wait(page, lambda _: rested(page) and values(page) != findings)
    assert {each.text for each in page.find_elements("css selector", "#reports .words b")} == {"IMPRESSION"}


def test_sentences_can_be_changed_added_and_removed(page):
    element(page, "#examples button").click()
    before = answered(page)
    first = element(page, "#rows summary")
    first.click()
    area = element(page, "#rows details[open] textarea")
    area.clear()
    area.send_keys("large left effusion\t")
    wait(page, lambda _: rested(page) and values(page)[0] != before[0])
    assert values(page)[1:] == before[1:]
    element(page, "#finding").send_keys("right effusion\n")
    wait(page, lambda _: len(values(page)) == len(before) + 1)
    answered(page)
    element(page, "#finding").send_keys("Right effusion.\n")
    assert "in the list already" in element(page, "#classes-problem").text
    click(page, "#rows details[open] button:nth-of-type(2)")
    assert len(values(page)) == len(before)
    click(page, "#reset")
    wait(page, lambda _: rested(page) and values(page) == before)


def test_where_shows_the_map_of_a_finding(page):
    element(page, "#examples button").click()
    answered(page)
    element(page, "#rows summary").click()
    element(page, "#rows details[open] button").click()
    wait(page, lambda _: mapped(page))
    assert element(page, "#phrase").get_attribute("value")


def test_what_goes_wrong_is_told_where_it_was_asked(page, tmp_path, monkeypatch):
    element(page, "#phrase").send_keys("left effusion\n")
    assert element(page, "#ask-problem").text == "Open a radiograph first."
    for name, content, reason in [
        ("a.txt", b"hello", "not a DICOM, PNG or JPEG"),
        ("b.png", enormous(), "too many pixels"),
    ]:
        open_file(page, tmp_path / name, content)
        wait(page, lambda _, reason=reason: reason in element(page, "#stage-problem").text)
    requested(page)
    with (tmp_path / "large.dcm").open("wb") as file:
        file.truncate(services.MAX_BYTES + 1)
    element(page, "#file").send_keys(str(tmp_path / "large.dcm"))
    assert "at most 64 MiB" in wait(page, lambda _: "large" in (text := element(page, "#stage-problem").text) and text)
    assert not requested(page)
    open_file(page, tmp_path / "good.png", encoded(picture()))
    answered(page)
    assert not element(page, "#stage-problem").is_displayed()
    element(page, "#phrase").clear()
    element(page, "#phrase").send_keys("qwertz\n")
    wait(page, lambda _: "knows no word" in element(page, "#ask-problem").text)
    assert not element(page, "#heat").is_displayed()


def test_markup_in_a_report_is_text(page):
    element(page, "#examples button").click()
    answered(page)
    labels = {each.text: each for each in page.find_elements("css selector", "#branch label")}
    labels["findings"].click()
    wait(page, lambda _: rested(page))
    shown = page.execute_async_script(
        "const done = arguments[0]; fetch('api/images/example-1/reports', {method: 'POST', body: JSON.stringify({k: 50, branch: 'findings'}),"
        "headers: {'Content-Type': 'application/json'}}).then(a => a.json()).then(a => done(a.reports.map(r => r.findings)))"
    )
    assert MARKUP in shown  # it is there to be found
    assert page.title == "imitate" and not page.find_elements("css selector", "#reports script, #reports .words b b")


def test_with_the_keyboard_alone(page):
    from selenium.webdriver import ActionChains, Keys

    def press(*keys: str) -> None:
        for key in keys:
            ActionChains(page).send_keys(key).perform()

    def reach(matches: str) -> None:
        for _ in range(60):
            press(Keys.TAB)
            if page.execute_script("return document.activeElement.matches(arguments[0])", matches):
                outline = page.execute_script(
                    "const e = document.activeElement; return [e, e.parentElement, e.nextElementSibling].filter(Boolean).map(e => getComputedStyle(e).outlineStyle)"
                )
                assert "solid" in outline, f"the focus on {matches} can't be seen"
                return
        raise AssertionError(f"{matches} can't be reached")

    reach("#file")
    reach("#examples button")
    press(Keys.ENTER)
    answered(page)
    page.execute_script("document.activeElement.blur(); scrollTo(0, 0)")
    reach("#phrase")
    ActionChains(page).key_down(Keys.CONTROL).send_keys("a").key_up(Keys.CONTROL).perform()
    press("left effusion", Keys.ENTER)
    wait(page, lambda _: mapped(page))
    reach("#opacity")
    press(Keys.ARROW_RIGHT)
    assert element(page, "#shown").text == "61%"
    reach("#branch input")
    press(Keys.ARROW_RIGHT)
    wait(page, lambda _: rested(page) and "FINDINGS" in element(page, "#branch-note").text)
    reach("summary")
    press(Keys.ENTER)
    assert element(page, "#rows details").get_attribute("open") is not None


def test_every_control_has_a_name(page):
    element(page, "#examples button").click()
    answered(page)
    page.execute_script("document.querySelector('details').open = true")
    nodes = page.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    roles = {"button", "textbox", "slider", "radio", "DisclosureTriangle", "list", "heading", "image"}
    named = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes
        if node.get("role") and not node.get("ignored")
    ]
    controls = [(role, name) for role, name in named if role in roles - {"list"}]
    assert {"button", "textbox", "radio", "heading"} <= {role for role, _ in controls}
    assert not [role for role, name in controls if not name.strip()]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_stands_out_and_fits_a_narrow_window(address, dark):
    with chromium(width=340, height=700, dark=dark) as page:
        page.get(address)
        wait(page, lambda _: page.find_elements("css selector", "#examples button"))
        page.find_elements("css selector", "#examples button")[1].click()
        answered(page)
        wait(page, lambda _: mapped(page) or element(page, "#ask-problem").is_displayed())
        page.execute_script("document.querySelector('details').open = true")
        assert page.execute_script("return document.documentElement.scrollWidth") <= 340
        assert page.execute_script(CONTRAST) == []
        page.execute_script("scrollTo(0, document.body.scrollHeight)")
        assert element(page, ".notice").is_displayed() and element(page, ".notice").rect["y"] < 10_000
        top = page.execute_script("return document.querySelector('.notice').getBoundingClientRect().top")
        assert 0 <= top < 100  # it stays in sight


def test_a_password_is_asked_for_once(service):
    with serving(create(service, password="secret")) as address, chromium() as page:
        page.get(address.replace("http://", "http://me:secret@"))
        page.get(address)
        wait(page, lambda _: page.find_elements("css selector", "#examples button"))
        element(page, "#examples button").click()
        answered(page)
        assert page.execute_script("return document.querySelector('#picture').naturalWidth") > 0


def test_the_token_in_the_address_opens_the_page(service):
    with serving(create(service, token="secret")) as address, chromium() as page:
        page.get(address)
        wait(page, lambda _: "address that imitate serve printed" in element(page, "#stage-problem").text)
        page.get(f"{address}/#token=secret")
        for _ in range(2):
            wait(page, lambda _: page.find_elements("css selector", "#examples button"))
            element(page, "#examples button").click()
            answered(page)
            assert page.execute_script("return document.querySelector('#picture').naturalWidth") > 0
            assert "secret" not in page.current_url
            page.refresh()


def test_a_class_of_unknown_words_leaves_the_others(page):
    element(page, "#examples button").click()
    before = answered(page)
    element(page, "#finding").send_keys("qwertz\n")
    wait(page, lambda _: rested(page) and "qwertz" in element(page, "#classes-problem").text)
    assert values(page) == [*before, "–"]
