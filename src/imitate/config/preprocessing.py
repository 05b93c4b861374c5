"""What an encoder wants of an image."""

from typing import Annotated

from pydantic import Field, model_validator

from imitate.config.base import Config
from imitate.names import Resize, Tone

WIDEST = 2**16  # of an embedding, and of gray values
Percent = Annotated[float, Field(ge=0, le=100)]
Gray = Annotated[float, Field(ge=-WIDEST, le=WIDEST)]


class Preprocessing(Config):
    """What an encoder wants of an image: a centre crop of a prepared one, its gray values scaled and normalised."""

    prepared_size: int = Field(256, ge=8, le=8192)  # side of the prepared images
    image_size: int = Field(224, ge=8, le=8192)  # side of the crop that the encoder sees
    resize: Resize = "stretch"  # how images are resized to the prepared square
    percentiles: tuple[Percent, Percent] | None = None  # percentiles of the gray values that become black and white
    tone: Tone = "unknown"  # tone of the training images
    range: tuple[Gray, Gray] = (0.0, 1.0)  # gray values of black and white before normalisation
    mean: tuple[Gray, ...] = Field((0.485, 0.456, 0.406), min_length=1)  # mean gray value, one for each channel
    std: tuple[Annotated[float, Field(ge=1e-3, le=WIDEST)], ...] = Field((0.229, 0.224, 0.225), min_length=1)

    @property
    def channels(self) -> int:
        return len(self.mean)

    @model_validator(mode="after")
    def _fits_together(self) -> "Preprocessing":
        if self.image_size > self.prepared_size:
            raise ValueError(f"image_size {self.image_size} exceeds prepared_size {self.prepared_size}")
        if len(self.mean) != len(self.std):
            raise ValueError(f"mean {self.mean} and std {self.std} must have one entry for each channel")
        if self.range[0] >= self.range[1]:
            raise ValueError(f"range {self.range} must increase from black to white")
        return self
