"""Requests and responses over HTTP."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from imitate.config import Config
from imitate.inference.calibration import OperatingPoint
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
    """``png``: colours, as opaque as the map is high, to be stretched over the image; ``npy``: float32, 0 to 1."""

    phrase: Text
    format: Literal["png", "npy"] = "png"


class ReportsQuestion(Question):
    k: int = Field(5, ge=1, le=50)


class TextsQuestion(Question):
    texts: Annotated[list[Text], Field(min_length=1, max_length=256)]


class Result(BaseModel):
    """``notes``: what the asker should know about the question, such as words that the model does not know."""

    notice: str = NOTICE
    notes: list[str] = []


class Pixels(BaseModel):
    """Gray values to show, 0 the darkest, and what is black (``low``) and white (``high``) to begin with."""

    width: int
    height: int
    bits: Literal[8, 16]
    low: int
    high: int


class Uploaded(BaseModel):
    """To be asked about by its id, until newer images take its room. ``width`` and ``height`` are the file's."""

    id: str
    width: int
    height: int
    pixels: Pixels


class Sentence(BaseModel):
    text: str
    cosine: float  # with the image


class Score(BaseModel):
    """One class.

    ``score`` is the weight of the positive sentences in a softmax over the two sides: uncalibrated, it ranks images.
    ``percentile`` is the percentage of the index's images with a lower score. ``probability``, and its ``threshold``,
    come from the model's calibration, where it has one of this class, these sentences and this branch; ``provenance``
    says on which images that was found. ``problem``: why there is nothing, such as that the model knows no word.
    """

    name: str
    score: float | None = None
    percentile: float | None = None
    probability: float | None = None
    threshold: float | None = None  # a probability
    above_threshold: bool | None = None  # or at it
    provenance: str = ""
    positive: list[Sentence] = []
    negative: list[Sentence] = []
    problem: str | None = None


class Classified(Result):
    classes: list[Score]


class Report(BaseModel):
    """A report of the index, and how many of its images have it."""

    similarity: float
    findings: str | None = None
    impression: str | None = None
    image_id: str
    images: int


class Reports(Result):
    reports: list[Report]


class Vectors(Result):
    """Unit vectors; a product of an image's and a text's of the same branch is their cosine."""

    vectors: list[list[float]]


class Example(Uploaded):
    """A synthetic radiograph, and the phrase for what it shows."""

    title: str
    phrase: str


class Calibrated(BaseModel):
    """What is known of the model's probabilities and thresholds; ``operating`` by class."""

    provenance: str
    branch: Branch | None
    operating: dict[str, OperatingPoint]


class Flagged(BaseModel):
    """A difference between groups of patients that is more than chance; ``said`` has its numbers."""

    name: str  # of the class
    metric: str
    by: str
    said: str


class Groups(BaseModel):
    """What an audit found: of ``tested`` differences those that are ``flagged``."""

    measured: str
    threshold: str
    tested: int
    flagged: list[Flagged]
    notes: list[str]


class About(BaseModel):
    """``branch`` is the one to begin with."""

    notice: str = NOTICE
    model: str
    backbone: str
    index: str | None
    compared: int | None  # images of the index, among which a score has its percentile
    max_bytes: int
    maps: bool  # whether the model has heat-maps; one in ONNX has none
    temperature: float  # of the model, unless a question says another
    branch: Branch
    calibration: Calibrated | None
    groups: Groups | None
    prompts: dict[str, Pair]
    examples: list[Example]


class Problem(BaseModel):
    """What is wrong and the way out, in one line."""

    error: str
