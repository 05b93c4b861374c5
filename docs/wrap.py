"""Wrap the prose of Markdown files at 120 columns. Tables, code, headings, comments and generated parts stay.

    python docs/wrap.py [--check] [FILE.md ...]      every page of the project by default

Paragraphs and list items are joined and wrapped anew, so that a change of one word gives a small difference.
"""

import argparse
import re
import sys
import textwrap
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).parents[1]
WIDTH = 120
LITERAL = re.compile(r"(\s*[|#>]|<!--|-->|!!!|--8<--|:::|\[\^?[^]]+\]: | {4,}\S)")  # lines that are not prose
ITEM = re.compile(r"(\s*)([-*]|\d+\.) +")
START = re.compile(r" *(```|<!-- (?=(?:table|machine|figures?)\b)|<!--(?!.*-->))")
END = {"<!-- ": "<!-- end -->", "<!--": "-->"}
LINK = re.compile(r"!?\[[^]]*\]\([^)]*\)|`[^`]+`")


def wrapped(text: str) -> str:
    """The same page with its prose wrapped. Wrapping it again changes nothing."""
    out: list[str] = []
    for is_code, pairs in groupby(_fenced(text), key=lambda pair: pair[0]):
        lines = [line for _, line in pairs]
        out += lines if is_code else _prose(lines)
    return "\n".join(out).rstrip("\n") + "\n"


def _fenced(text: str) -> list[tuple[bool, str]]:
    """Each line, and whether it belongs to a fenced block, a front matter, a comment or a generated part."""
    found, until = [], ""
    for number, line in enumerate(text.splitlines()):
        started = until
        if not until and (start := START.match(line) if number else re.match("---$", line)):
            until = END.get(start[0].lstrip(), start[0].strip())
        elif until and until in line:
            until = ""
        found.append((bool(started or until), line))
    return found


def _prose(lines: list[str]) -> list[str]:
    out: list[str] = []
    part: list[str] = []

    def finish() -> None:
        if part:
            out.extend(_filled(" ".join(each.strip() for each in part), part[0]))
            part.clear()

    for line in lines:
        if not line.strip() or (LITERAL.match(line) and not (part and line.startswith("    "))):
            finish()
            out.append(line)
        elif ITEM.match(line):
            finish()
            part.append(line)
        else:
            part.append(line)
        if line.endswith("  "):  # a line break that is meant
            finish()
    finish()
    return out


def _filled(text: str, first: str) -> list[str]:
    """Lines of at most WIDTH columns; spaces within links and code do not break."""
    item = ITEM.match(first)
    indent = item[1] if item else re.match(r"\s*", first)[0]  # type: ignore[index]
    hang = " " * len(item[0]) if item else indent
    kept = LINK.sub(lambda found: found[0].replace(" ", "\0"), text)
    lines = textwrap.wrap(
        kept, WIDTH, initial_indent=indent, subsequent_indent=hang, break_long_words=False, break_on_hyphens=False
    )
    return [line.replace("\0", " ") for line in lines]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; fail where a page would change")
    parser.add_argument("files", nargs="*", type=Path)
    arguments = parser.parse_args()
    changed = []
    for path in arguments.files or [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        text = path.read_text(encoding="utf-8")
        if wrapped(text) != text:
            changed.append(path.name)
            if not arguments.check:
                path.write_text(wrapped(text), encoding="utf-8")
    if arguments.check and changed:
        sys.exit(f"not wrapped: {', '.join(sorted(changed))}: run make format")


if __name__ == "__main__":
    main()
