"""A case in words: the FINDINGS describe, the IMPRESSION concludes; and the whole as MIMIC-CXR files a report."""

import re
import textwrap
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from imitate.synthetic import phrases
from imitate.synthetic.cases import Case, Finding

RULE = " " + "_" * 78


class Report(NamedTuple):
    """A section that the report lacks is None. Where both are, the conclusion stands without a header."""

    findings: str | None
    impression: str | None
    denied: frozenset[str]  # classes that the text says are absent
    conclusion: str
    sentences: Mapping[Finding, str]  # what the description says of each finding, also where it is left out


def compose(case: Case) -> Report:
    """The same words for all images of a study. About 12% lack FINDINGS, 6% IMPRESSION, 3% both."""
    random = case.generator("wording")
    sentences, denied = _describe(case, random)
    conclusion = _conclude(case, random)
    lack = random.choice(["", "findings", "impression", "both"], p=[0.79, 0.12, 0.06, 0.03])
    return Report(
        findings=None if lack in {"findings", "both"} else " ".join(sentences.values()),
        impression=None if lack in {"impression", "both"} else conclusion,
        denied=denied if lack in {"", "impression"} else frozenset(),
        conclusion=conclusion,
        sentences={said_of: text for said_of, text in sentences.items() if isinstance(said_of, Finding)},
    )


def mimic_report(case: Case) -> str:
    """Title, sections in capitals, lines of at most 79 characters that begin with a space, ``___`` for names."""
    report, random = compose(case), case.generator("filing")
    sections = [
        ("EXAMINATION", "CHEST (PORTABLE AP)" if case.view == "AP" else "CHEST (PA AND LAT)"),
        ("INDICATION", f"___ year old {'woman' if case.sex == 'F' else 'man'} with {_pick(random, phrases.SYMPTOMS)}."),
        ("COMPARISON", _pick(random, ("None.", "Chest radiograph dated ___.", "___."))),
    ]
    if report.findings:
        sections.append((_often(random, "FINDINGS", ("PA AND LATERAL VIEWS OF THE CHEST", "FINDING")), report.findings))
    if report.impression:
        rare = ("CONCLUSION", "IMPRESSON") if report.findings else ("FINDINGS AND IMPRESSION", "CONCLUSION")
        sections.append((_often(random, "IMPRESSION", rare), report.impression))
    if not (report.findings or report.impression):
        sections.append(("", report.conclusion))
    if report.impression and random.random() < 0.1:
        sections.append(("NOTIFICATION", "Findings were discussed with Dr. ___ by phone at ___ on ___."))
    body = "\n \n".join(_section(header, text) for header, text in sections)
    top = ""
    if random.random() < 0.05:
        note = "The report was reviewed with Dr. ___ without a change of the interpretation."
        top = f"{'FINAL ADDENDUM':>47}\n{_section('ADDENDUM', note)}\n{RULE}\n"
    if random.random() < 0.05:
        top += f"{_section('WET READ', f'___ ___ ___ 9:41 PM {report.conclusion}')}\n{RULE}\n"
    return f"{top}{'FINAL REPORT':>45}\n{body}\n"


def _describe(case: Case, random: np.random.Generator) -> tuple[dict[Finding | str, str], frozenset[str]]:
    """Its sentences by what they are said of: a finding, or the names that they deny, and the latter."""
    present = {finding.name for finding in case.findings}
    sentences: dict[Finding | str, str] = {
        finding: _sentence(finding, random, phrases.AFFIRMED if finding.certain else phrases.DOUBTED)
        for finding in sorted(case.findings, key=lambda finding: finding.name != "Support Devices")
    }
    denied: set[str] = set()
    for names, statements in phrases.ABSENT:
        if not names & (present | denied) and random.random() < 0.8:
            sentences[", ".join(sorted(names))] = _pick(random, statements)
            denied |= names
    if not sentences:
        sentences[""] = "The chest is unremarkable."
    return sentences, frozenset(denied)


def _conclude(case: Case, random: np.random.Generator) -> str:
    if not case.findings:
        return _pick(random, phrases.NORMAL)
    ordered = sorted(case.findings, key=lambda finding: phrases.URGENCY.index(finding.name))
    sentences = [
        _sentence(finding, random, phrases.CONCLUDED if finding.certain else phrases.CONCLUDED_DOUBT)
        for finding in ordered
    ]
    if not {finding.name for finding in ordered} & phrases.ACUTE:
        sentences.append(_pick(random, phrases.NOTHING_ACUTE))
    if len(sentences) > 1 and random.random() < 0.5:
        return " ".join(f"{number}. {sentence}" for number, sentence in enumerate(sentences, start=1))
    return " ".join(sentences)


def _sentence(finding: Finding, random: np.random.Generator, frames: tuple[str, ...]) -> str:
    phrase, frame = _phrase(finding, random), _pick(random, frames)
    plural = any(word in phrase for word in ("opacities", "effusions", "objects"))
    if frame.startswith(("Possible", "Suspected")) or frame == "{Phrase}.":
        phrase = re.sub(r"^an? ", "", phrase)
    return frame.format(phrase=phrase, Phrase=phrase[0].upper() + phrase[1:], **{"is": "are" if plural else "is"})


def _phrase(finding: Finding, random: np.random.Generator) -> str:
    side, zone, kind = finding.place
    key = next(key for key in (f"{finding.name}/{kind or side}", finding.name) if key in phrases.PHRASES)
    place = _pick(random, phrases.PLACES[zone]).format(side=side) if zone else ""
    words = {
        "degree": finding.severity,
        "size": phrases.SIZE[finding.severity],
        "count": phrases.COUNT[finding.severity],
        "mass": phrases.MASS[finding.severity],
    }
    phrase = _pick(random, phrases.PHRASES[key]).format(side=side, zone=zone, place=place, **words)
    return phrase.replace("(s)", "" if finding.severity == "mild" else "s")


def _section(header: str, text: str) -> str:
    items = re.split(r" (?=\d\. [A-Z])", f"{header}:  {text}" if header else text)
    return "\n".join(f" {line}" for item in items for line in textwrap.wrap(item, width=78, break_on_hyphens=False))


def _pick(random: np.random.Generator, choices: tuple[str, ...]) -> str:
    return choices[random.integers(len(choices))]


def _often(random: np.random.Generator, usual: str, rare: tuple[str, ...]) -> str:
    return usual if random.random() < 0.88 else _pick(random, rare)
