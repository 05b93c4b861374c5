"""Encodings of tables: what the bytes say, and no guess where they allow several readings."""

from __future__ import annotations

import codecs
import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from imitate.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)
MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_CAPITAL, _SMALL = "A-ZÀ-ÖØ-ÞŠŒŽŸ", "a-zß-öø-ÿšœž"
_FOREIGN = re.compile(  # what no language writes that Windows-1252 was made for, but other encodings look like in it
    rf"[{_CAPITAL}{_SMALL}][€‚ƒ„†‡ˆ‰‹“”˜›¡¢£¤¥¦§¨¬¯±²³¶¸¹¼½¾¿][{_SMALL}]"  # Mac and DOS: Gr§e; Windows-1250: P³uca
    rf"|[{_SMALL}][ŠŒŽŸ][{_SMALL}]"  # Mac: verŠndert
    "|[À-ÖØ-öø-ÿ]{4}"  # other alphabets
)
_BAD, _GOOD = re.compile("[\udc80-\udcff]"), re.compile("[^\0-\x7f\udc80-\udcff]")
_TWICE = "[ÃÂ][\u0080-\u00bf€‚ƒ„…†‡ˆ‰Š‹Œ‘’“”•–—˜™š›œžŸ]|â€|\ufffd"


def encoding_of(head: bytes) -> str | None:
    """What the first bytes of a file say; None where they say nothing."""
    for mark, name in MARKS:
        if head.startswith(mark):
            return name
    even, odd = head[::2].count(0), head[1::2].count(0)  # the other half of ASCII characters
    if max(even, odd) > len(head) // 4:
        return "utf-16-le" if odd > even else "utf-16-be"
    return None


def require_western(lines: Iterable[bytes], path: Path) -> None:
    """UserError where a file that is not UTF-8 is not all Windows-1252 either."""
    first = strange = several = 0
    for number, line in enumerate(lines, 1):
        if line.isascii():
            continue
        text = line.decode("utf-8", "surrogateescape")
        several = several or (number if _GOOD.search(text) else 0)
        if _BAD.search(text):
            first = first or number
            strange = strange or (number if _is_foreign(line) else 0)
    if strange or several:
        where, what = strange or first, "neither UTF-8 nor Windows-1252"
        if not strange and several != first:
            what = f"not UTF-8, line {several} is"
        raise UserError(f"{path}, line {where} is {what}: save the table as UTF-8")
    log.warning("%s is not UTF-8: it is read as Windows-1252; check the letters of line %d", path.name, first)


def _is_foreign(line: bytes) -> bool:
    try:
        return _FOREIGN.search(line.decode("cp1252")) is not None
    except UnicodeDecodeError:
        return True


def warn_of_broken_letters(table: pd.DataFrame, path: Path) -> None:
    """Say where an export has lost letters, or has read UTF-8 as Windows-1252."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for place, name in enumerate(table.columns):
        if table.dtypes.iloc[place].kind != "O":
            continue
        cells = pa.array(table.iloc[:, place].astype("string"), pa.large_string())
        other = pc.indices_nonzero(pc.invert(pc.string_is_ascii(cells)).fill_null(False))
        broken = other.filter(pc.match_substring_regex(cells.take(other), _TWICE))
        if len(broken):
            count, row = len(broken), broken[0].as_py()
            said = "%s: broken encoding in %d cells of column %r, such as Ã¶ for ö, first in row %d: export it again"
            log.warning(said, path.name, count, name, row + 1)
