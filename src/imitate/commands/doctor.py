"""``imitate doctor``: is this raw tree, prepared folder, run or installation sound?"""

from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from imitate.doctor.checks import Finding, State
from imitate.doctor.installation import examine_installation
from imitate.doctor.prepared import examine_prepared
from imitate.doctor.raw import examine_raw
from imitate.doctor.run import examine_run
from imitate.errors import UserError
from imitate.names import SourceName

COLOURS: dict[State, str] = {"ok": "green", "warn": "yellow", "broken": "bold red"}
PREPARED = ("index.json", "meta.json", "images.npy", "progress.jsonl")
RUN = ("config.yaml", "metrics.jsonl", "model")
RAW: tuple[tuple[SourceName, tuple[str, ...]], ...] = (  # the first whose files are all there
    ("rsna", ("stage_2_train_labels.csv",)),
    ("chestxray14", ("Data_Entry_2017*.csv",)),
    ("siim", ("train-rle.csv",)),
    ("siim", ("stage_2_train.csv",)),
    ("covidx", ("train_COVIDx*.txt",)),
    ("mimic-cxr", ("mimic-cxr-*-metadata.csv*",)),
    ("open-i", ("indiana_reports.csv",)),
    ("open-i", ("NLMCXR_reports.tgz",)),
    ("open-i", ("ecgen-radiology",)),
    ("object-cxr", ("train.csv", "dev.csv")),
    ("chexpert", ("train.csv", "valid.csv")),
)


def doctor(paths: tuple[Path, ...] = (), /, *, source: SourceName | None = None) -> None:
    """Check raw trees, prepared folders and runs; without a path, the installation.

    What is broken ends in an error (exit code 2); a warning does not, as it may well be as it should.

    Args:
        paths: What to check; each is recognised by its files.
        source: What a raw tree is, where its files do not tell.
    """
    console = Console()
    broken = []
    for title, findings in [_recognised(path, source) for path in paths] or [("installation", examine_installation())]:
        console.print(Text(title, "bold"), soft_wrap=True)
        table = Table()
        for column in ("", "check", "found"):
            table.add_column(column, overflow="fold")
        for finding in findings:
            table.add_row(Text(finding.state, COLOURS[finding.state]), Text(finding.what), Text(finding.told))
            if finding.state == "broken":
                broken.append(f"{finding.what}: {finding.told}")
        console.print(table)
    if broken:
        raise UserError(f"{len(broken)} broken: {'; '.join(broken)}")


def _recognised(path: Path, source: SourceName | None) -> tuple[str, Iterator[Finding]]:
    if not path.exists():
        raise UserError(f"nothing at {path}: give a raw tree, a prepared folder or a run")
    if source is None:
        if any((path / name).exists() for name in PREPARED):
            return f"prepared folder {path}", examine_prepared(path)
        if any((path / name).exists() for name in RUN):
            return f"run {path}", examine_run(path)
        matches = (name for name, signs in RAW if all(any(path.glob(sign)) for sign in signs))
        source = next(matches, None)
    if source is None:
        raise UserError(f"cannot tell what {path} is: name its --source, or give the folder that holds its tables")
    return f"raw tree {path}, {source}", examine_raw(path, source)
