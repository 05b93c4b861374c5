"""One HTML page from results files that needs nothing but itself, or Markdown tables."""

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

from imitate.data.corpus import Corpus
from imitate.errors import UserError
from imitate.report import audit, calibration, curves, figures, tables
from imitate.report.best import with_best
from imitate.report.cautions import cautions
from imitate.report.examples import Examples, examples
from imitate.report.groups import Group, read_groups
from imitate.report.markdown import markdown
from imitate.report.page import render
from imitate.tasks.audit_model import Audit, is_audit, read_audit
from imitate.tasks.base import extent
from imitate.tasks.results import write_text

log = logging.getLogger(__name__)
TITLE = "Evaluation of chest radiograph encoders"
HOW = (
    "Intervals are 95%, over patients and seeds; with one seed they do not include the variation between trainings, "
    "and with fewer than ten patients of a kind there is none. A value is bold if its method is better than each "
    "other one in a paired test on the same images (p < .05, corrected by Holm over the methods) and its interval lies "
    "above chance; means over different classes are never bold. imitate compare shows such tests. If several "
    "fractions of the training patients were used, curves and examples show the largest."
)


def write_report(results: Sequence[Path], *, out: Path, data: Sequence[Path] = (), show_reports: bool = False) -> Path:
    """The page, or the Markdown tables, of ``imitate report``."""
    if not results:
        raise UserError("no results files given: name one or more that `imitate evaluate` wrote")
    if out.suffix not in {".html", ".htm", ".md"} or out.is_dir():
        raise UserError(f"out {out} must be the path of a .html or .md file, e.g. report.html")
    audits = [read_audit(path) for path in results if is_audit(path)]
    groups, folders = read_groups([path for path in results if not is_audit(path)]), _folders(data)
    known = {str(each.data["fingerprint"]) for each in groups} | {str(each.data["fingerprint"]) for each in audits}
    for fingerprint, folder in folders.items():
        if fingerprint not in known:
            log.warning("%s: no results belong to this folder, so none of its images are shown", folder.root)
    if out.suffix != ".md":
        groups = [with_best(group) for group in groups]
    if out.suffix == ".md":
        page = "\n".join([*([markdown(groups)] if groups else []), *map(audit.markdown, audits)])
    else:
        page = _page(groups, folders, audits, show_reports=show_reports)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_text(out, page)
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}") from error
    log.info("%s: %d results in %d tables", out, len(results), len(groups))
    return out


def _page(
    groups: Sequence[Group], folders: Mapping[str, Corpus], audits: Sequence[Audit] = (), *, show_reports: bool
) -> str:
    look = figures.styles(list(dict.fromkeys(name for group in groups for name in group.methods)))
    date = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return render(
        title=TITLE,
        written=f"Written {date} by imitate {version('imitate-cxr')}. Research software, not a medical device.",
        overview=tables.overview(groups, look) if groups else audit.overview(audits),
        sources=tables.sources([*groups, *audits]),
        sections=[
            *(section(group, look, folders, show_reports=show_reports) for group in groups),
            *map(audit.section, audits),
        ],
        how=HOW,
    )


def _folders(paths: Sequence[Path]) -> dict[str, Corpus]:
    return {str(folder.meta["fingerprint"]): folder for folder in map(Corpus.open, paths)}


def section(
    group: Group,
    look: figures.Styles,
    folders: Mapping[str, Corpus] = MappingProxyType({}),
    *,
    show_reports: bool = False,
    curved: bool = True,
) -> dict[str, Any]:
    """Of the page; ``curved`` with what is made of predictions: curves of each class, and examples."""
    data = group.data
    read = {name: entry.predictions() for name, entry in group.at(group.fractions[-1]).items()} if curved else {}
    runs = {name: each for name, each in read.items() if each}
    shown = examples(group, runs, folders, show_reports=show_reports) if curved else Examples()
    calibrated = calibration.shown(group, runs, look) if curved else calibration.Shown()
    notes = [*cautions(group), *tables.notes(group), *calibrated.notes, *shown.notes]
    if lost := [name for name in read if name not in runs]:
        notes.append(
            f"The predictions (.npz) of {', '.join(lost)} are not beside their results: no curves, no examples."
        )
    details = curves.classes(group, runs, look) if group.kind.curves and curved else []
    return {
        "id": tables.anchor_of(group),
        "title": group.title,
        "where": f"{extent(data)}, split {data['split']}, mode {group.mode}, data {str(data['fingerprint'])[:8]}",
        "main": tables.main_table(group, look),
        "tables": calibrated.tables,
        "notes": notes,
        "summary": curves.summary(group, look),
        "folded": [*curves.folded(group, look), *details, *calibrated.folded],
        "examples": shown.examples,
        "examples_title": shown.title,
        "examples_open": len(runs) == 1,
        "all_metrics": tables.all_metrics(group, look),
        "all_notes": tables.all_notes(group),
        "runs": tables.runs(group),
    }
