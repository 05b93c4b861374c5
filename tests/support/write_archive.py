"""A process to kill: python write_archive.py RAW OUT WORKERS PART PARTS writes RAW's folder in shards of 8 records."""

import sys
from pathlib import Path

from raw_archive import SETTINGS, archive_of, archive_records

from imitate.data import manifest, shards
from imitate.data.writer import Engine, write_folder


def main() -> None:
    raw, out, workers, part, parts = Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:])
    manifest.ROWS, shards.CHUNK = 8, 4
    engine = Engine(workers=workers, part=(part, parts))
    write_folder(archive_records(raw), out, SETTINGS, archive=archive_of(raw), engine=engine)


if __name__ == "__main__":
    main()
