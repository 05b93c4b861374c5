"""Quotes that are not closed: the rows that they swallow are said, and reports of several lines are left alone."""

from pathlib import Path

import pytest

from imitate.data.tables import read_table
from imitate.errors import UserError

HEADER = "image_path,patient,report,split\n"
REPORT = 'a.png,1,"FINDINGS: Heart, lungs, bones:\r\nnormal, no effusion, 3,5 cm, old\n1, 2, 3, 4\n\nb, 2",train\n'


def read(path: Path, text: str, *, as_text: bool = True) -> list[list[object]]:
    path.write_bytes(text.encode())
    return read_table(path, ["image_path", "patient"], optional=["report"], text=as_text).to_numpy().tolist()


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        ('a.png,1,"x,train\nb.png,2,y,train\nc.png,3,"z",test\n', 3),
        ('a.png,1,"x,train\nb.png,2,"y",train\nc.png,3,z,test\n', 3),
        ('z.png,1,"x\ny",train\na.png,1,"x,train\r\nb.png,2,y,train\r\nc.png,3,z",test\n', 5),
        ('"a.png,1,x,train\nb.png,2,y,train\n"c.png",3,z,test\n', 2),
        ('a.png,"1,x,train\nb.png,2,y,train\nc.png,3",z,test\n', 3),
        ('a.png,1,"x 5"" wide,train\nb.png,2,y 5"" wide,train\nc.png,3,z",test\n', 3),
    ],
)
def test_a_row_within_a_field_is_refused_with_its_line(rows: str, line: int, tmp_path: Path) -> None:
    more = "".join(f"more{number}.png,{number},x,train\n" for number in range(12)) + "d.png,4,x,test\n"
    for title in ("", "A title\n"):
        for as_text in (True, False):
            expected = rf"t\.csv, line {line + len(title.splitlines())}: this row is within a field of column"
            with pytest.raises(UserError, match=expected):
                read(tmp_path / "t.csv", title + HEADER + rows + more, as_text=as_text)


def test_a_row_within_a_field_where_lines_end_as_on_old_macs(tmp_path: Path) -> None:
    rows = 'a.png,1,"x,train\rb.png,2,y,train\rc.png,3,"z",test\r'
    with pytest.raises(UserError, match=r"t\.csv, line 3: this row is within a field of column 'report'"):
        read(tmp_path / "t.csv", HEADER.replace("\n", "\r") + rows)


def test_a_file_that_ends_within_quotes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"t\.csv, row 2: a quote opens a field and is never closed"):
        read(tmp_path / "t.csv", HEADER + 'a.png,1,"x\ny",train\nb.png,2,"x,train\nc.png,3,x,test\n')


def test_reports_of_several_lines_are_no_rows(tmp_path: Path) -> None:
    found = read(tmp_path / "t.csv", HEADER + REPORT + 'b.png,2,"2, 5 cm\n2,5 cm, b.png, x",train\n')
    assert [row[:2] for row in found] == [["a.png", "1"], ["b.png", "2"]] and "3,5 cm" in str(found[0][2])
    rows = "".join(f'{number},"Nodule:\n{number % 3},5 cm"\n' for number in range(10))
    (tmp_path / "t.csv").write_text(f"id,report\n{rows}")
    assert len(read_table(tmp_path / "t.csv", ["id"], text=True)) == 10
