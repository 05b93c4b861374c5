"""The installation: packages, devices, disk, DICOM decoders."""

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

from imitate.doctor.checks import Check

ROOM = 20  # GiB; MIMIC-CXR at 256 px takes 14
TRAIN = "train"  # the extra that brings torch
PROBE = """
import json, torch
try:
    import torchvision  # beside another torch than its own, its operators do not load
    reason = ""
except (ImportError, RuntimeError) as error:
    reason = " ".join(str(error).split())
count = torch.cuda.device_count() if torch.cuda.is_available() else 0
devices = [torch.cuda.get_device_properties(index) for index in range(count)]
gpus = [f"{device.name}, {device.total_memory >> 30} GiB" for device in devices]
print(json.dumps({"torch": torch.__version__, "reason": reason, "gpus": gpus}))
"""


def examine_installation() -> Iterator[Check]:
    yield Check("ok", "python", f"{platform.python_version()} on {platform.machine()}, {os.cpu_count()} cores")
    yield from _packages()
    yield from _devices()
    free = shutil.disk_usage(Path.cwd()).free >> 30
    yield Check("ok" if free >= ROOM else "warn", "disk", f"{free} GiB free here; MIMIC-CXR at 256 px takes 14")
    yield from _decoders()


def _packages() -> Iterator[Check]:
    """Each dependency that the distribution declares; of its extras, those of [train] where torch is installed."""
    extra = TRAIN if _has_torch() else ""
    for package in map(Requirement, requires("imitate-cxr") or []):
        if package.marker and not package.marker.evaluate({"extra": extra}):
            continue
        try:
            found = version(package.name)
        except PackageNotFoundError:
            yield Check("broken", package.name, f"is not installed: pip install '{package}'")
            continue
        if package.specifier.contains(found, prereleases=True):
            yield Check("ok", package.name, found)
        else:
            yield Check("broken", package.name, f"{found} is installed: pip install '{package}'")


def _devices() -> Iterator[Check]:
    """As a process of its own sees them: torch takes seconds to load, and a broken one may end its process."""
    if not _has_torch():
        found = 'not installed, only ONNX folders can be used: pip install "imitate-cxr[train]" brings all commands'
        yield Check("ok", "torch", found)
        return
    ran = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=False)
    if ran.returncode:
        reason = (ran.stderr.strip().splitlines() or [f"exit code {ran.returncode}"])[-1]
        yield Check("broken", "torch", f"does not load ({reason}): install it again")
        return
    found = json.loads(ran.stdout.strip().splitlines()[-1])
    if reason := found["reason"]:
        what = f"does not load beside torch {found['torch']} ({reason}): install both together"
        yield Check("broken", "torchvision", what)
    for gpu in found["gpus"] or ["none that PyTorch can use: everything runs on the CPU"]:
        yield Check("ok", "GPU", gpu)


def _has_torch() -> bool:
    try:
        return bool(version("torch"))
    except PackageNotFoundError:
        return False


def _decoders() -> Iterator[Check]:
    from pydicom import uid
    from pydicom.pixels import get_decoder

    codecs = (uid.JPEGBaseline8Bit, uid.JPEGLosslessSV1, uid.JPEGLSLossless, uid.JPEG2000Lossless, uid.RLELossless)
    missing = [codec.name for codec in codecs if not get_decoder(codec).is_available]
    if missing:
        found = f"cannot decode {', '.join(missing)}: pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg"
        yield Check("warn", "DICOM", found)
    else:
        yield Check("ok", "DICOM", "decodes JPEG, lossless JPEG, JPEG-LS, JPEG 2000 and RLE")
