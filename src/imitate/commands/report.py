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
        results: Files that `imitate evaluate` wrote, with their predictions beside them, and those of `imitate audit`.
        out: The HTML page to write, or a .md file for the tables alone.
        data: Prepared folders of the results, for examples with images.
        show_reports: Also show the text of retrieved reports; needs --data.
    """
    from imitate.report.build import write_report

    files, folders = (tuple(map(Path, several(each))) for each in (results, data))
    return write_report(files, out=Path(out), data=folders, show_reports=show_reports)
