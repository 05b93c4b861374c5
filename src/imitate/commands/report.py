"""``imitate report``."""

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
    """Write one HTML page from results files: tables, curves and examples, readable without a network; or Markdown.

    Args:
        results: Files that `imitate evaluate` wrote, with their predictions beside them.
        out: The page to write; or .md for the tables alone, as Markdown.
        data: Prepared folders of the results, to show radiographs with what was found on them.
        show_reports: With data: also show the words of retrieved reports.
    """
    from imitate.report.build import write_report

    files, folders = (tuple(map(Path, several(each))) for each in (results, data))
    return write_report(files, out=Path(out), data=folders, show_reports=show_reports)
