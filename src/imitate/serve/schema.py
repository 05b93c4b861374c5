"""What is asked and answered over HTTP."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from imitate.config import Config
from imitate.inference.prompts import Prompts
from imitate.names import Branch

NOTICE = "Research software, not a medical device."
Text = Annotated[str, Field(max_length=500)]
Name = Annotated[str, Field(max_length=80)]
Sentences = Annotated[tuple[Text, ...], Field(min_length=1, max_length=20)]


class Question(Config):
    """``findings``: compare with what reports describe; ``impression``: with what they conclude."""

    branch: Branch = "both"


class Pair(Prompts):
    """What a report says where a finding is there, and where it is not."""

    positive: Sentences
    negative: Sentences


class ClassifyQuestion(Question):
    """A class by two sets of sentences, or by a phrase; without prompts the built-in classes."""

    prompts: Annotated[dict[Name, Text | Pair], Field(min_length=1, max_length=50)] | None = None
    temperature: float | None = Field(None, gt=0, le=100)


class HeatmapQuestion(Question):
    """``png``: colours, as opaque as the map is high; ``npy``: float32, 0 to 1. Both over the image as shown."""

    phrase: Text
    format: Literal["png", "npy"] = "png"


class ReportsQuestion(Question):
    k: int = Field(5, ge=1, le=50)


class TextsQuestion(Question):
    texts: Annotated[list[Text], Field(min_length=1, max_length=256)]


class Answer(BaseModel):
    """``notes``: what the asker should know about the question, such as words that the model does not know."""

    notes: list[str] = []


class Uploaded(BaseModel):
    """To be asked about by its id, until newer images take its room."""

    id: str
    width: int
    height: int


class Probability(BaseModel):
    """``problem``: why there is no probability, such as that the model knows no word of the prompts."""

    name: str
    probability: float | None
    problem: str | None = None


class Classified(Answer):
    """Not calibrated: probabilities rank images, their heights say little."""

    classes: list[Probability]


class Report(BaseModel):
    """A report of the index, and how many of its images have it."""

    similarity: float
    findings: str | None = None
    impression: str | None = None
    image_id: str
    images: int


class Reports(Answer):
    reports: list[Report]


class Vectors(Answer):
    """Unit vectors; a product of an image's and a text's of the same branch is their cosine."""

    vectors: list[list[float]]


class Example(Uploaded):
    """A drawing, and the phrase for what was drawn."""

    title: str
    phrase: str


class About(BaseModel):
    notice: str = NOTICE
    model: str
    backbone: str
    index: str | None
    max_bytes: int
    temperature: float  # of the model, unless a question says another
    prompts: dict[str, Pair]
    examples: list[Example]


class Problem(BaseModel):
    """What is wrong and the way out, in one line."""

    error: str
