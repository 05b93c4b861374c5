import shutil
from importlib.metadata import PackageNotFoundError
from types import SimpleNamespace

import pytest
import torch

from imitate.doctor import installation
from imitate.doctor.installation import examine_installation


def test_this_installation_is_sound() -> None:
    found = {finding.what: finding for finding in examine_installation()}
    assert [finding for finding in found.values() if finding.state == "broken"] == []
    assert found["torch"].found.startswith(torch.__version__.split("+")[0])
    assert "pytest" not in found  # an extra's packages are not needed
    assert found["DICOM"].state == "ok"


def test_absent_and_old_packages_are_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    needs = ["numpy>=1", "numpy>=999", "no-such-package>=2", "absent; extra == 'dev'"]
    monkeypatch.setattr(installation, "requires", lambda name: needs)
    found = list(installation._packages())
    assert [finding.state for finding in found] == ["ok", "broken", "broken"]
    assert found[1].found.endswith("is installed: pip install 'numpy>=999'")
    assert found[2].found == "is not installed: pip install 'no-such-package>=2'"


def test_a_full_disk_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1 << 30))
    disk = next(finding for finding in examine_installation() if finding.what == "disk")
    assert (disk.state, disk.found) == ("warn", "1 GiB free here; MIMIC-CXR at 256 px takes 14")


def test_torch_is_an_extra_and_is_not_loaded_here(monkeypatch: pytest.MonkeyPatch) -> None:
    needs = ["numpy>=1", "torch>=999; extra == 'train'"]
    monkeypatch.setattr(installation, "requires", lambda name: needs)
    assert [finding.what for finding in installation._packages() if finding.state == "broken"] == ["torch"]

    def absent(name: str) -> str:
        if name == "torch":
            raise PackageNotFoundError(name)
        return "2.0"

    monkeypatch.setattr(installation, "version", absent)
    assert [finding.what for finding in installation._packages()] == ["numpy"]
    (found,) = installation._devices()
    assert found.state == "ok" and 'pip install "imitate-cxr[train]"' in found.found


@pytest.mark.parametrize(
    ("program", "what", "found"),
    [
        ("raise ImportError('libcudart is missing')", "torch", "does not load (ImportError: libcudart is missing)"),
        (
            'print(\'{"torch": "9.9", "reason": "no operator nms", "gpus": ["H100, 79 GiB"]}\')',
            "torchvision",
            "does not load beside torch 9.9 (no operator nms)",
        ),
    ],
)
def test_what_a_process_of_its_own_finds_of_torch(monkeypatch, program: str, what: str, found: str) -> None:
    monkeypatch.setattr(installation, "PROBE", program)
    first, *others = installation._devices()
    assert (first.state, first.what) == ("broken", what) and first.found.startswith(found)
    assert [other.found for other in others] == (["H100, 79 GiB"] if what == "torchvision" else [])
