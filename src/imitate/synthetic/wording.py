"""A case in words: the FINDINGS describe, the IMPRESSION concludes; and the whole as MIMIC-CXR files a report."""

import re
import textwrap
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from imitate.errors import UserError
from imitate.synthetic import phrases
from imitate.synthetic.cases import Case, Finding, Hospital
from imitate.synthetic.phrases import ENGLISH, Words
from imitate.synthetic.phrases_de import GERMAN
from imitate.synthetic.phrases_es import SPANISH
from imitate.synthetic.phrases_south import SOUTH

RULE = " " + "_" * 78
WORDS: dict[str, Words] = {"en": ENGLISH, "de": GERMAN, "es": SPANISH}


class Report(NamedTuple):
    """A section that the report lacks is None. Where both are, the conclusion stands without a header."""

    findings: str | None
    impression: str | None
    denied: frozenset[str]  # classes that the text says are absent
    conclusion: str
    sentences: Mapping[Finding, str]  # what the description says of each finding, also where it is omitted


def words_of(language: str, hospital: Hospital = "north") -> Words:
    """UserError: no reports are composed in this language, or at this hospital."""
    if hospital == "south":
        if language != "en":
            raise UserError(f"the reports of hospital south are in en, not {language}: omit one of the two options")
        return SOUTH
    if language not in WORDS:
        raise UserError(f"no synthetic reports in {language}: choose among {', '.join(WORDS)}")
    return WORDS[language]


def compose(case: Case, language: str = "en", hospital: Hospital = "north") -> Report:
    """The same words for all images of a study. About 12% lack FINDINGS, 6% IMPRESSION, 3% both."""
    random, words = case.generator("wording"), words_of(language, hospital)
    sentences, denied = _describe(case, random, words)
    conclusion = _conclude(case, random, words)
    lack = random.choice(["", "findings", "impression", "both"], p=[0.79, 0.12, 0.06, 0.03])
    return Report(
        findings=None if lack in {"findings", "both"} else " ".join(sentences.values()),
        impression=None if lack in {"impression", "both"} else conclusion,
        denied=denied if lack in {"", "impression"} else frozenset(),
        conclusion=conclusion,
        sentences={said_of: text for said_of, text in sentences.items() if isinstance(said_of, Finding)},
    )


def whole_report(case: Case, language: str) -> str:
    """All sections under the headers of their language, as an information system exports them."""
    report, words = compose(case, language), words_of(language)
    symptom = _pick(case.generator("filing"), words.symptoms)
    given = {"symptom": symptom, "findings": report.findings, "impression": report.impression}
    lines = [line for line in words.filed if all(text or f"{{{name}}}" not in line for name, text in given.items())]
    return "\n".join(line.format(**given) for line in lines)


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


def _describe(case: Case, random: np.random.Generator, words: Words) -> tuple[dict[Finding | str, str], frozenset[str]]:
    """Its sentences by what they are said of: a finding, or the names that they deny, and the latter."""
    present = {finding.name for finding in case.findings}
    sentences: dict[Finding | str, str] = {
        finding: _sentence(finding, random, words, words.affirmed if finding.certain else words.doubted)
        for finding in sorted(case.findings, key=lambda finding: finding.name != "Support Devices")
    }
    denied: set[str] = set()
    for names, statements in words.absent:
        if not names & (present | denied) and random.random() < 0.8:
            sentences[", ".join(sorted(names))] = _pick(random, statements)
            denied |= names
    if not sentences:
        sentences[""] = words.unremarkable
    return sentences, frozenset(denied)


def _conclude(case: Case, random: np.random.Generator, words: Words) -> str:
    if not case.findings:
        return _pick(random, words.normal)
    ordered = sorted(case.findings, key=lambda finding: phrases.URGENCY.index(finding.name))
    sentences = [
        _sentence(finding, random, words, words.concluded if finding.certain else words.concluded_doubt)
        for finding in ordered
    ]
    if not {finding.name for finding in ordered} & phrases.ACUTE:
        sentences.append(_pick(random, words.normal[:2]))
    if len(sentences) > 1 and random.random() < 0.5:
        return " ".join(f"{number}. {sentence}" for number, sentence in enumerate(sentences, start=1))
    return " ".join(sentences)


def _sentence(finding: Finding, random: np.random.Generator, words: Words, frames: tuple[str, ...]) -> str:
    phrase, frame = _phrase(finding, random, words), _pick(random, frames)
    plural = any(word in phrase for word in words.plurals)
    if frame in words.without_article:
        phrase = re.sub(r"^an? ", "", phrase)
    verbs = {name: forms[plural] for name, forms in words.verbs.items()}
    return frame.format(phrase=phrase, Phrase=phrase[0].upper() + phrase[1:], **verbs)


def _phrase(finding: Finding, random: np.random.Generator, words: Words) -> str:
    side, zone, kind = finding.place
    key = next(key for key in (f"{finding.name}/{kind or side}", finding.name) if key in words.phrases)
    fields = words.fields(finding)
    place = _pick(random, words.places[zone]).format(**fields) if zone else ""
    return _pick(random, words.phrases[key]).format(**fields, place=place)


def _section(header: str, text: str) -> str:
    items = re.split(r" (?=\d\. [A-Z])", f"{header}:  {text}" if header else text)
    return "\n".join(f" {line}" for item in items for line in textwrap.wrap(item, width=78, break_on_hyphens=False))


def _pick(random: np.random.Generator, choices: tuple[str, ...]) -> str:
    return choices[random.integers(len(choices))]


def _often(random: np.random.Generator, usual: str, rare: tuple[str, ...]) -> str:
    return usual if random.random() < 0.88 else _pick(random, rare)
