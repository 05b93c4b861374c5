"""What a table that is not UTF-8 may be, and what is refused because it may be several things."""

from pathlib import Path

import pytest

from imitate.data.tables import read_table
from imitate.errors import UserError

HEADER = "image_path,patient,report\n"
GERMAN = "a.png,1,Größe verändert für\n"


def read(path: Path, content: bytes) -> list[str]:
    path.write_bytes(content)
    return read_table(path, ["image_path", "patient"], text=True)["report"].tolist()


@pytest.mark.parametrize(
    "text",
    [
        "Größe verändert für",
        "œdème créée l’opacité – 3 cm³ 20 °C «normal»… µm",
        "¿Cómo? Pulmón señal nº 2",
        "NÃO há lesões; coração",
        "håndledd på høyre side; “clear”—‘no’",
    ],
)
def test_western_languages_in_windows_1252(text: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert read(tmp_path / "t.csv", f"{HEADER}a.png,1,x\nb.png,2,{text}\n".encode("cp1252")) == ["x", text]
    assert caplog.messages == ["t.csv is not UTF-8: it is read as Windows-1252; check the letters of line 3"]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (GERMAN, "mac_roman"),
        (GERMAN, "cp850"),
        ("a.png,1,œdème créé\n", "mac_roman"),
        ("a.png,1,Płuca powiększone węzły\n", "cp1250"),
        ("a.png,1,Лёгкие чистые\n", "cp1251"),
        ("a.png,1,Πνεύμονες καθαροί\n", "cp1253"),
        ("a.png,1,两肺清晰\n", "gbk"),
        ("a.png,1,肺野はきれい\n", "shift_jis"),
    ],
)
def test_other_encodings_are_refused_with_the_line(text: str, encoding: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"t\.csv, line 3 is neither UTF-8 nor Windows-1252: save the table as UTF-8"):
        read(tmp_path / "t.csv", f"{HEADER}c.png,3,x\n{text}".encode(encoding))


def test_a_table_of_two_encodings_is_refused_with_the_line(tmp_path: Path) -> None:
    mixed = (HEADER + GERMAN).encode() + "b.png,2,Übersicht\n".encode("cp1252")
    with pytest.raises(UserError, match=r"t\.csv, line 3 is not UTF-8, line 2 is: save the table as UTF-8"):
        read(tmp_path / "t.csv", mixed)


def test_broken_letters_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    read(tmp_path / "t.csv", f"{HEADER}a.png,1,NÃO – ”é”\n".encode())
    assert not caplog.messages
    for broken in (GERMAN.encode().decode("cp1252"), "a.png,1,Gr\ufffd\ufffde\n"):
        caplog.clear()
        read(tmp_path / "t.csv", f"{HEADER}b.png,2,x\n{broken}".encode())
        said = "t.csv: broken encoding in 1 cells of column 'report', such as Ã¶ for ö, first in row 2"
        assert [each.startswith(said) for each in caplog.messages] == [True]
