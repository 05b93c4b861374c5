"""What a user does on the viewer's page, and what the page then shows."""

from pathlib import Path
from typing import Any

from browser import wait

DRAWN = """
const canvas = document.querySelector('#canvas')
return canvas.getContext('2d').getImageData(arguments[0], arguments[1], 1, 1).data[0]
"""
HAS_MAP = "const map = document.querySelector('#heat'); return !map.hidden && map.naturalWidth > 0"


def element(page: Any, selector: str) -> Any:
    return page.find_element("css selector", selector)


def click(page: Any, selector: str) -> None:
    """Not where the header may cover it."""
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", element(page, selector))
    element(page, selector).click()


def open_files(page: Any, *paths: Path) -> None:
    element(page, "#file").send_keys("\n".join(map(str, paths)))


def open_example(page: Any, number: int = 0) -> None:
    page.find_elements("css selector", "#examples button")[number].click()
    opened(page, "Synthetic example")


def opened(page: Any, name: str) -> None:
    wait(page, lambda _: page.title.startswith(name) and rested(page))


def rested(page: Any) -> bool:
    return not page.find_elements("css selector", "[aria-busy], .busy")


def values(page: Any) -> dict[str, str]:
    """By the name of the class, in the order of the page."""
    rows: list[list[str]] = page.execute_script(
        "return [...document.querySelectorAll('#rows > li')]"
        ".map(row => [row.dataset.name, row.querySelector('.value').textContent])"
    )
    return dict(rows)


def settled(page: Any) -> dict[str, str]:
    found: dict[str, str] = wait(page, lambda _: rested(page) and "–" not in (now := values(page)).values() and now)
    return found


def mapped(page: Any) -> bool:
    return bool(page.execute_script(HAS_MAP))


def gray(page: Any, x: int, y: int) -> int:
    """As it is drawn, before zoom and pan."""
    return int(page.execute_script(DRAWN, x, y))


def readout(page: Any) -> tuple[int, int, int]:
    """Window, level and zoom in percent."""
    words = element(page, "#readout").text.replace("%", "").split()
    return int(words[1]), int(words[3]), int(words[4])


def press(page: Any, *keys: str) -> None:
    from selenium.webdriver import ActionChains

    for key in keys:
        ActionChains(page).send_keys(key).perform()


def reach(page: Any, selector: str) -> None:
    """By the tabulator key; what has the focus must show it."""
    from selenium.webdriver import Keys

    for _ in range(90):
        press(page, Keys.TAB)
        if page.execute_script("return document.activeElement.matches(arguments[0])", selector):
            outlines = page.execute_script(
                "const e = document.activeElement; return [e, e.parentElement, e.nextElementSibling]"
                ".filter(Boolean).map(e => getComputedStyle(e).outlineStyle)"
            )
            assert "solid" in outlines, f"the focus on {selector} can't be seen"
            return
    raise AssertionError(f"{selector} can't be reached")
