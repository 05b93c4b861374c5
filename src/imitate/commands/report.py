"""``imitate report``."""

from pathlib import Path


def report(
    results: tuple[Path, ...],
    /,
    *,
    out: Path = Path("report.html"),
    data: tuple[Path, ...] = (),
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

    return write_report(results, out=out, data=data, show_reports=show_reports)
