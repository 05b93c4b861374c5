"""What the branches of a model learn from: texts of the report, each with the branch that it is compared with."""

from typing import Literal

from pydantic import Field, model_validator

from imitate.config.base import Config
from imitate.names import Section, Texts

TextName = Literal["findings", "impression", "report", "sentences"]


class TextLevel(Config):
    """One text, the branch of the image that it is compared with, and the weight of that term in the loss."""

    text: TextName  # sentences: some of the report's, drawn anew at each step
    branch: Section
    weight: float = Field(1.0, gt=0, le=100)
    draw: int = Field(1, ge=1, le=100)  # of sentences: how many, whose embeddings are averaged

    @model_validator(mode="after")
    def _draws_sentences(self) -> "TextLevel":
        if self.draw > 1 and self.text != "sentences":
            raise ValueError(f"draw has no effect on the text {self.text}: only sentences are drawn")
        return self


def _levels(*pairs: tuple[TextName, Section]) -> tuple[TextLevel, ...]:
    return tuple(TextLevel(text=text, branch=branch) for text, branch in pairs)


_SECTIONS = _levels(("findings", "findings"), ("impression", "impression"))
_REPORT = _levels(("report", "findings"), ("report", "impression"))
TEXT_LEVELS: dict[Texts, tuple[TextLevel, ...]] = {
    "sections": _SECTIONS,
    "swapped": _levels(("impression", "findings"), ("findings", "impression")),
    "report": _REPORT,
    "both": _SECTIONS + _REPORT,
}
"""What the names stand for."""


def text_levels(texts: Texts | tuple[TextLevel, ...]) -> tuple[TextLevel, ...]:
    return TEXT_LEVELS[texts] if isinstance(texts, str) else texts


def term_names(levels: tuple[TextLevel, ...]) -> list[str]:
    """Of the loss, one a level: the branch, and the text where its branch has several."""
    branches = [level.branch for level in levels]
    return [level.branch if branches.count(level.branch) == 1 else f"{level.branch}_{level.text}" for level in levels]
