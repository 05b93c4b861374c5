from typing import Any

import pytest
from browser import chromium, requested, wait
from served import serving, untrained

from imitate.serve.server import create
from imitate.serve.service import Service

FORGET = """for (const left of ['pagehide', 'visibilitychange'])
  for (const each of [window, document]) each.addEventListener(left, () => sessionStorage.clear())"""


@pytest.fixture(scope="session")
def service(tmp_path_factory) -> Service:
    return Service(*untrained(tmp_path_factory.mktemp("served")))


@pytest.fixture(scope="session")
def address(service):
    with serving(create(service)) as address:
        yield address


@pytest.fixture(scope="session")
def driver():
    """One browser for all tests of the page."""
    with chromium() as driver:
        yield driver


@pytest.fixture
def page(driver, address) -> Any:
    """The viewer as somebody finds it who was never here."""
    return fresh(driver, address)


def fresh(driver: Any, address: str) -> Any:
    driver.get(address)
    driver.execute_script(FORGET)
    driver.get(address)
    wait(driver, lambda _: driver.find_elements("css selector", "#examples button"))
    requested(driver), driver.get_log("browser")
    return driver
