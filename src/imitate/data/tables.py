"""Tables of an archive: their columns, the words in their cells, and a patient split for those without one."""

from __future__ import annotations

import errno
import hashlib
import os
import unicodedata
import zlib
from collections.abc import Collection, Sequence
from pathlib import Path

from imitate.data.encodings import warn_of_broken_letters
from imitate.data.lazy import np, pd
from imitate.data.records import Excluded, Record
from imitate.data.table_files import Columns, read_file
from imitate.data.words import folded, plain_number
from imitate.errors import UserError

MISSING = "missing file"  # the reason of a record whose image is not there
SPLITS = {
    "train": ("training", "trn", "entraînement", "apprentissage", "entrenamiento", "addestramento", "treinamento"),
    "val": ("valid", "validate", "validation", "dev", "validierung", "validación", "validazione", "validação"),
    "test": ("testing", "tst", "prüfung", "pruefung", "prueba", "teste"),
}
_SPLITS = {folded(word): name for name, words in SPLITS.items() for word in (name, *words)}
YES = (
    *("1", "true", "yes", "y", "positive", "pos", "present", "ja", "j", "wahr", "positiv", "vorhanden"),
    *("sí", "verdadero", "positivo", "positiva", "presente", "oui", "vrai", "positif", "présent", "sì", "sim"),
)
NO = (
    *("0", "false", "no", "n", "negative", "neg", "absent", "nein", "falsch", "negativ", "nicht vorhanden"),
    *("falso", "negativo", "negativa", "ausente", "non", "faux", "négatif", "não"),
)
UNSURE = ("-1", "uncertain", "unclear", "unsicher", "unklar", "fraglich", "dudoso", "incierto", "incertain", "douteux")
_LABELS = {folded(word): value for words, value in ((YES, 1.0), (NO, 0.0), (UNSURE, float("nan"))) for word in words}


def read_table(
    path: Path,
    required: Sequence[str],
    *,
    optional: Sequence[str] | None = None,
    text: bool = False,
    sheet: str | None = None,
) -> pd.DataFrame:
    """The ``required`` columns and those of ``optional`` that exist (None: all columns), under these names.

    ``text`` reads every value as text, so that an id such as 007 survives, and only a blank is missing. The content
    decides on the kind (CSV, Parquet, Excel), the compression, the delimiter and the encoding, which is Windows-1252
    where it is neither UTF-8 nor UTF-16; titles may precede the header. Raises UserError for an absent, unreadable or
    empty table and for absent columns.
    """
    if not path.is_file():
        raise UserError(f"no table {path.name} in {path.parent}: {_neighbours(path.parent)}")
    import pyarrow as pa

    try:
        table = read_file(path, Columns(required, optional), text=text, sheet=sheet)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, pa.ArrowException) as error:
        raise UserError(f"{path} is not a readable table: {' '.join(str(error).split())}") from error
    except (EOFError, OSError, zlib.error) as error:
        raise UserError(f"{path} cannot be read ({error}): copy or download it again") from error
    if table.empty:
        raise UserError(f"{path} has a header but no rows: copy or download it again")
    warn_of_broken_letters(table, path)
    return table


def numbers(table: pd.DataFrame, columns: Sequence[str], path: Path, *, allowed: Sequence[int]) -> np.ndarray:
    """(rows, columns) float32, NaN where blank; UserError where a value is no number, or none of ``allowed``."""
    try:
        values = table[list(columns)].to_numpy(np.float32)
    except ValueError as error:
        raise UserError(f"{path}: not every label is a number ({error}): copy or download it again") from error
    strange = ~np.isnan(values) & ~np.isin(values, allowed)
    if strange.any():
        row, column = np.argwhere(strange)[0]
        raise UserError(
            f"{path}: column {columns[column]!r} holds {values[row, column]:g}, {int(strange.sum())} such labels: "
            f"expected {', '.join(map(str, allowed))} or blank"
        )
    return values


def newest_table(folder: Path, stem: str) -> Path | None:
    """The last by name of the CSV tables whose stem matches this glob pattern: the newest version, gzipped if both."""
    return max((path for suffix in (".csv", ".csv.gz") for path in folder.glob(stem + suffix)), default=None)


def split_name(spelling: object) -> str | None:
    """``train``, ``val`` or ``test`` for any usual spelling; None for a blank; UserError for another word."""
    if not isinstance(spelling, str) or not spelling.strip():
        return None
    name = _SPLITS.get(folded(spelling))
    if name is None:
        raise UserError(f"unknown split {spelling!r}: write train, val or test")
    return name


def label_value(spelling: str) -> float | None:
    """1 or 0 for a number or a usual word, NaN for -1 and other words of doubt; None for another word."""
    try:
        word = f"{float(spelling.replace(',', '.')):g}"
    except ValueError:
        word = folded(spelling)
    return _LABELS.get(word)


def decimals(cells: pd.Series, *, path: Path) -> pd.Series:
    """A column of texts as floats, NaN where blank; a comma may be the decimal mark.

    UserError: what is no number, and 1,234 where nothing in the column says whether it is a thousand or a fraction.
    """
    texts = cells.astype("string").str.strip()
    blank = texts.isna() | (texts == "")
    both = texts.str.contains(r"\..*,|,.*\.", regex=True, na=False)
    comma = texts.str.contains(",", regex=False, na=False) & ~both
    fraction = texts.str.contains(r",\d{1,2}$|,\d{4,}$|^0,", regex=True, na=False)
    if both.any() or (comma.any() and not fraction.any() and texts[comma].str.fullmatch(r"-?\d{1,3},\d{3}").all()):
        row, name = int((both | comma).to_numpy().argmax()), cells.name
        raise UserError(
            f"{path}, row {row + 1}: {texts.iloc[row]!r} in column {name!r} may be in thousands or a decimal fraction: "
            "write numbers without thousands separators"
        )
    values = pd.to_numeric(texts.str.replace(",", ".", regex=False).mask(blank), errors="coerce").astype("float64")
    if (wrong := values.isna() & ~blank).any():
        row = int(wrong.to_numpy().argmax())
        raise UserError(f"{path}, row {row + 1}: column {cells.name!r} holds {texts.iloc[row]!r}: expected a number")
    return values


def one_spelling(ids: Collection[str]) -> dict[str, str]:
    """Ids that are another one in other words (007 and 7.0 beside 7, p1 beside P1) -> that one."""
    groups: dict[str, list[str]] = {}
    for name in sorted(set(ids), key=lambda name: (len(name), name)):
        key = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
        groups.setdefault(plain_number(key), []).append(name)
    return {other: first for first, *others in groups.values() for other in others}


def hashed_split(patient: str) -> str:
    """80% train, 10% val, 10% test by the SHA-256 of the patient's id: the same whatever else the table holds.

    The id 007 counts as 7, as another export of the same patients may write it.
    """
    place = int.from_bytes(hashlib.sha256(plain_number(patient).encode()).digest()[:8]) / 2**64
    return "train" if place < 0.8 else "val" if place < 0.9 else "test"


def _neighbours(folder: Path) -> str:
    if not folder.is_dir():
        return f"the folder {folder} does not exist"
    names = sorted(entry.name for entry in folder.iterdir())
    shown = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
    return f"the folder holds {shown}" if names else "the folder is empty"


def find(raw: Path, *names: str) -> Path:
    """The first of ``names`` (files or folders) below ``raw``; UserError where there is none."""
    for name in names:
        if (raw / name).exists():
            return raw / name
    raise UserError(f"{raw} has no {' or '.join(names)}: --raw must be the folder that contains it")


def column_values(table: pd.DataFrame, column: str, *, path: Path, allowed: Collection[int] = ()) -> pd.Series:
    """A column as floats, NaN where blank; UserError for other text and for a number that is not ``allowed``."""
    cells = table[column].astype("string").str.strip()
    cells = cells.mask(cells == "")
    values = pd.to_numeric(cells, errors="coerce").astype("float64")
    wrong = cells.notna() & (values.isna() | (~values.isin(list(allowed)) if allowed else False))
    if wrong.any():
        wanted = f"{', '.join(map(str, allowed))} or blank" if allowed else "a number or blank"
        raise UserError(
            f"{path}: column {column!r} holds {cells[wrong].iloc[0]!r} in {int(wrong.sum())} rows: expected {wanted}"
        )
    return values


def require_filled(table: pd.DataFrame, columns: Collection[str], *, path: Path) -> None:
    """UserError where one of the columns has a blank."""
    for column in columns:
        if blanks := int(table[column].isna().sum()):
            raise UserError(f"{path}: column {column!r} is blank in {blanks} of {len(table)} rows: download it again")


def require_unique(ids: pd.Series, *, path: Path) -> None:
    """UserError where an id occurs twice: its rows could land in different splits."""
    again = ids[ids.duplicated()]
    if len(again):
        raise UserError(
            f"{path} lists {len(again)} ids more than once, first {again.iloc[0]!r}: remove the duplicate rows"
        )


def require_once(option: str, pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """The pairs as a mapping; UserError where an option names something twice, so that one would be lost."""
    names = [name for name, _ in pairs]
    if again := [name for name in names if names.count(name) > 1]:
        raise UserError(f"{option} has {again[0]!r} twice: keep one of them")
    return dict(pairs)


def is_below(path: Path, root: Path) -> bool:
    """Whether a path that a table names stays in ``root`` as it is written; links in the tree are the owner's own."""
    whole, start = (Path(os.path.abspath(each)) for each in (path, root))  # noqa: PTH100 (resolve follows links)
    return whole.is_relative_to(start)


def is_there(path: Path) -> bool:
    """Whether it is a file; one that permissions hide counts, so that reading it says so."""
    try:
        return path.is_file()
    except PermissionError:
        return True
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return False


def present(record: Record, *, root: Path) -> Record | Excluded:
    """The record, or why it is excluded where its image file is not there or not below ``root``."""
    if not is_below(record.image, root):
        return Excluded(record.image_id, "image outside the root")
    return record if is_there(record.image) else Excluded(str(record.image), MISSING)
