"""Memory does not grow with the number of records; measured in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from raw_archive import make_archive

SCRIPT = """
import resource, sys
from pathlib import Path
from imitate.data import manifest
from imitate.data.records import Record
from imitate.data.writer import Archive, Engine, Settings, write_folder
raw, out, count = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
manifest.ROWS = 256
many = (Record(f"{i:09}", raw / "1.png", f"p{i}", "s", findings=f"{i:06} " * 300) for i in range(count))
write_folder(many, out, Settings(source="t", size=64), archive=Archive(raw), engine=Engine(workers=1))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems count in other units")
def test_memory_does_not_grow_with_the_number_of_records(tmp_path: Path) -> None:
    make_archive(tmp_path)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

    def peak(count: int) -> int:
        command = [sys.executable, "-c", SCRIPT, tmp_path, tmp_path / str(count), str(count)]
        return int(subprocess.run(command, check=True, capture_output=True, env=environment).stdout)

    few, many = peak(2_000), peak(10_000)
    assert many - few < 12_000  # KiB: the images alone are 32,000 more, the texts 16,000
