"""``imitate report``: results files as an HTML page or as Markdown tables."""

from pathlib import Path

from imitate.names import AnyPath, Paths, several


def report(
    results: Paths,
    /,
    *,
    out: AnyPath = Path("report.html"),
    data: Paths = (),
    show_reports: bool = False,
) -> Path:
    """Write results files as one HTML page with tables, curves and examples, or as Markdown tables.

    Args:
        results: Results files of `imitate evaluate`, with their predictions beside them, and of `imitate audit`.
        out: The HTML page to write, or a .md file for the tables alone.
        data: The prepared folders that were evaluated, to show example images.
        show_reports: Also show the text of retrieved reports; needs --data.
    """
    from imitate.report.build import write_report

    files, folders = (tuple(map(Path, several(each))) for each in (results, data))
    return write_report(files, out=Path(out), data=folders, show_reports=show_reports)
