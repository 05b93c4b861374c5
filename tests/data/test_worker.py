"""In a process of its own, since what is set stays."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource
import numpy as np
from imitate.data.worker import keep_freed_memory
keep_freed_memory()
np.ones(2**23)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    np.ones(2**23)  # 64 MiB, 16,384 pages
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's: elsewhere nothing is set")
def test_freed_memory_is_used_again_without_a_fault() -> None:
    faults = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, check=True).stdout
    assert int(faults) < 1_000  # thousands otherwise, even with huge pages
