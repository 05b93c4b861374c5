import pytest
from served import serving, untrained

from imitate.serve.server import create
from imitate.serve.service import Service


@pytest.fixture(scope="session")
def service(tmp_path_factory) -> Service:
    return Service(*untrained(tmp_path_factory.mktemp("served")))


@pytest.fixture(scope="session")
def address(service):
    with serving(create(service)) as address:
        yield address
