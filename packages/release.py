"""What a tag must agree with, and the notes of its release: ``python packages/release.py v0.2.0 > notes.md``.

The version is written in pyproject.toml alone. A release is a tag of this version, on a commit whose changelog begins
with it and has a date in place of "unreleased", and whose CITATION.cff names it.
"""

import argparse
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def check(tag: str, root: Path = ROOT) -> str:
    """The version; SystemExit with one line where the tag is not that of this checkout."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    version = str(project["version"])
    if tag != f"v{version}":
        raise SystemExit(f"the tag is {tag}, pyproject.toml says version {version}: tag v{version}, or change the file")
    heading = re.search(r"^## (\S+) - (\S+)$", (root / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    if heading is None or heading[1] != version:
        raise SystemExit(f"CHANGELOG.md does not begin with version {version}: add its heading")
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", heading[2]):
        raise SystemExit(f"CHANGELOG.md says {heading[2]!r} of version {version}: write the date of the release")
    citation = (root / "CITATION.cff").read_text(encoding="utf-8")
    if f"\nversion: {version}\n" not in citation:
        raise SystemExit(f"CITATION.cff names another version than {version}: change it")
    if f"\ndate-released: {heading[2]}\n" not in citation:
        raise SystemExit(f"CITATION.cff has no line 'date-released: {heading[2]}', the date of CHANGELOG.md: write it")
    return version


def notes(version: str, changelog: str) -> str:
    """The changelog's section of a version, a line a paragraph, as code hosts keep the line breaks of a release."""
    found = re.search(rf"^## {re.escape(version)} - .*?\n(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL)
    if found is None or not found[1].strip():
        raise SystemExit(f"CHANGELOG.md says nothing of version {version}")
    return re.sub(r"(?<=\S)\n *(?=[^\s#-])", " ", found[1].strip()) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tag", help="the tag, v and the version")
    version = check(parser.parse_args().tag)
    sys.stdout.write(notes(version, (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
