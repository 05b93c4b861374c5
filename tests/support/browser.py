"""A real headless Chromium, that reaches nothing but the loopback and says what it asked for."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from needs import need, need_module
from processes import HANG

AXE = Path(__file__).parents[2] / ".venv" / "node_modules" / "axe-core" / "axe.min.js"


@contextmanager
def chromium(*, width: int = 1400, height: int = 1000, dark: bool = False) -> Iterator[Any]:
    """A driver; the test is skipped where there is no browser, except in CI."""
    need_module("selenium", "dev")
    need("chromium", "chromedriver")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for argument in (
        *("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "disable-background-networking"),
        *("hide-scrollbars", "host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"),
    ):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        emulate(driver, width=width, height=height, dark=dark)
        yield driver
    finally:
        driver.quit()


def emulate(driver: Any, *, width: int = 1400, height: int = 1000, dark: bool = False, still: bool = False) -> None:
    """The window, and what its user prefers: dark colours, less motion."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [
        {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
        {"name": "prefers-reduced-motion", "value": "reduce" if still else "no-preference"},
    ]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def axe(driver: Any) -> list[str]:
    """What axe-core finds wrong with the page, for everybody who can't see it, or sees it badly."""
    if not AXE.is_file():  # in CI too, where npm may have no network
        pytest.skip("axe-core is not installed: npm install --prefix .venv axe-core@4")
    if not driver.execute_script("return 'axe' in window"):
        driver.execute_script(AXE.read_text(encoding="utf-8"))
    found = driver.execute_async_script(
        "const done = arguments[0]; axe.run(document, {resultTypes: ['violations']}).then(r => done(r.violations"
        ".flatMap(v => v.nodes.map(n => `${v.id}: ${n.html.slice(0, 120)}: ${n.failureSummary}`))))"
    )
    return list(found)


def wait(driver: Any, what: Callable[[Any], Any], seconds: float = HANG) -> Any:
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(driver, seconds, poll_frequency=0.05).until(what)


def requested(driver: Any) -> list[str]:
    """Every address that the pages asked for since the last call."""
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    asked = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
    sockets = [event["params"] for event in events if event["method"] == "Network.webSocketCreated"]
    return [each["request"]["url"] for each in asked] + [each["url"] for each in sockets]
