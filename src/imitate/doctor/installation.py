"""The installation: packages, devices, disk, DICOM decoders."""

import os
import platform
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

from imitate.doctor.checks import Check

ROOM = 20  # GiB; MIMIC-CXR at 256 px takes 14


def examine_installation() -> Iterator[Check]:
    yield Check("ok", "python", f"{platform.python_version()} on {platform.machine()}, {os.cpu_count()} cores")
    yield from _packages()
    yield from _devices()
    free = shutil.disk_usage(Path.cwd()).free >> 30
    yield Check("ok" if free >= ROOM else "warn", "disk", f"{free} GiB free here; MIMIC-CXR at 256 px takes 14")
    yield from _decoders()


def _packages() -> Iterator[Check]:
    """Each dependency that the distribution declares, extras left out."""
    for package in map(Requirement, requires("imitate-cxr") or []):
        if package.marker and not package.marker.evaluate({"extra": ""}):
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
    import torch

    try:
        import torchvision  # noqa: F401  beside another torch than its own, its operators do not load
    except (ImportError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        found = f"does not load beside torch {torch.__version__} ({reason}): install both together"
        yield Check("broken", "torchvision", found)
    if not torch.cuda.is_available():
        yield Check("ok", "GPU", "none that torch can use: everything runs on the CPU")
    for index in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(index)
        yield Check("ok", "GPU", f"{device.name}, {device.total_memory >> 30} GiB")


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
