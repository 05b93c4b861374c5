"""One HTML page from results files, that needs nothing but itself, or Markdown tables."""

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from imitate.data.corpus import Corpus
from imitate.errors import UserError
from imitate.report import curves, figures, tables
from imitate.report.examples import examples
from imitate.report.groups import Group, read_groups
from imitate.report.markdown import markdown
from imitate.report.page import Html, document, element, note
from imitate.tasks.results import write_text

log = logging.getLogger(__name__)
TITLE = "Evaluation of chest radiograph encoders"
HOW = (
    "Intervals are 95% percentile intervals of a bootstrap over seeds and patients together; with one seed they do "
    "not hold the variation of training. A value is bold where its interval leaves out the value of the next best; "
    "for a paired test on the same images run imitate compare. Where several shares of the training patients were "
    "measured, curves and examples are of the largest."
)


def write_report(results: Sequence[Path], *, out: Path, data: Sequence[Path] = (), show_reports: bool = False) -> Path:
    """The page, or the Markdown tables, of ``imitate report``."""
    if not results:
        raise UserError("no results files given: name one or more that `imitate evaluate` wrote")
    if out.suffix not in {".html", ".htm", ".md"} or out.is_dir():
        raise UserError(f"out {out} must be the path of a .html or .md file, e.g. report.html")
    groups, folders = read_groups(results), _folders(data)
    known = {str(group.data["fingerprint"]) for group in groups}
    for fingerprint, folder in folders.items():
        if fingerprint not in known:
            log.warning("%s: no results are of this folder, it shows nothing", folder.root)
    page = markdown(groups) if out.suffix == ".md" else _page(groups, folders, show_reports=show_reports)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_text(out, page)
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}") from error
    log.info("%s: %d results in %d tables", out, len(results), len(groups))
    return out


def _page(groups: Sequence[Group], folders: Mapping[str, Corpus], *, show_reports: bool) -> Html:
    look = figures.styles(list(dict.fromkeys(name for group in groups for name in group.methods)))
    sections = [_section(group, look, folders, show_reports=show_reports) for group in groups]
    return document(TITLE, _head(groups, look), *sections, _foot())


def _folders(paths: Sequence[Path]) -> dict[str, Corpus]:
    return {str(folder.meta["fingerprint"]): folder for folder in map(Corpus.open, paths)}


def _head(groups: Sequence[Group], look: figures.Styles) -> Html:
    date = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    written = f"Written {date} by imitate {version('imitate-cxr')}. Research software, not a medical device."
    links = [element("a", group.title, href=f"#{tables.anchor_of(group)}") for group in groups]
    return element(
        "header",
        element("h1", TITLE),
        element("p", written, class_="lead"),
        element("nav", *links, aria_label="Sections"),
        tables.overview(groups, look),
        tables.sources(groups),
    )


def _section(group: Group, look: figures.Styles, folders: Mapping[str, Corpus], *, show_reports: bool) -> Html:
    data = group.data
    where = (
        f"{data['images']:,} images of {data['patients']:,} patients, split {data['split']}, mode {group.mode}, "
        f"data {str(data['fingerprint'])[:8]}"
    )
    read = {name: entry.predictions() for name, entry in group.at(group.shares[-1]).items()}
    runs = {name: each for name, each in read.items() if each}
    return element(
        "section",
        element("h2", group.title),
        element("p", where, class_="lead"),
        tables.main_table(group, look),
        *tables.notes(group),
        *curves.summary(group, look),
        *(curves.classes(group, runs, look) if group.kind.curves else []),
        *examples(group, runs, folders, show_reports=show_reports),
        *_lost([name for name in read if name not in runs]),
        tables.all_figures(group, look),
        tables.runs(group),
        id=tables.anchor_of(group),
    )


def _lost(names: Sequence[str]) -> list[Html]:
    told = f"The predictions (.npz) of {', '.join(names)} are not beside their results: no curves, no examples."
    return [note(told)] if names else []


def _foot() -> Html:
    return element("footer", element("h2", "How to read this page"), element("p", HOW))
