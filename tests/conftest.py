"""Shapes are checked at run time; the real data is found beside the checkout, where there is any."""

import os
import re
import sys
from pathlib import Path

from jaxtyping import install_import_hook

install_import_hook("imitate", "typecheck.check")

import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)
POSIX = re.compile(
    r"^import (resource|fcntl)$|\bos\.(fork|mkfifo)\b|SIGKILL|SIGALRM|SIGUSR1|^from corruption ", re.MULTILINE
)


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Forks, signals, pipes and limits are POSIX's: files of tests that use them are not collected on Windows."""
    if sys.platform == "win32" and collection_path.suffix == ".py":
        return bool(POSIX.search(collection_path.read_text(encoding="utf-8"))) or None
    return None


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real radiographs that is never committed; IMITATE_REAL_DATA or ../shared/data."""
    folder = Path(os.environ.get("IMITATE_REAL_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data is not at {folder}: set IMITATE_REAL_DATA to run this test")
    return folder
