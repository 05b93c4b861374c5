"""What a test needs beyond the required packages: programs of the system and optional packages."""

import os
import shutil
import sys
from importlib import import_module
from types import ModuleType

import pytest

PACKAGES = {  # of Debian and Ubuntu; .ci/packages installs them
    "chromium": "chromium",
    "chromedriver": "chromium-driver",
    "dcmdump": "dcmtk",
    "dcmcjpeg": "dcmtk",
    "dcmcjpls": "dcmtk",
    "gdcmconv": "libgdcm-tools",
    "Orthanc": "orthanc-dicomweb",
}


def need(*programs: str) -> None:
    """Skip the test where a program is not installed."""
    lacking = [f"{name} (apt-get install {PACKAGES[name]})" for name in programs if not shutil.which(name)]
    if lacking:
        absent(f"not installed: {', '.join(lacking)}")


def need_module(name: str, extra: str) -> ModuleType:
    """The module, or skip the test where the extra of the project that brings it is not installed."""
    try:
        return import_module(name)
    except ImportError:
        absent(f"{name} is not installed: pip install 'imitate-cxr[{extra}]'")
        raise


def absent(reason: str) -> None:
    """In CI on Linux, where everything is installed, nothing may be skipped unnoticed."""
    if os.environ.get("CI", "").lower() in ("1", "true") and sys.platform == "linux":
        pytest.fail(f"{reason}, and CI skips no test", pytrace=False)
    pytest.skip(reason, allow_module_level=True)
