"""A Gradio Space: how much a radiograph resembles sentences, and where. Research software, not a medical device."""

import os
from functools import cache
from typing import Any

import numpy as np

import imitate
from imitate.errors import UserError

MODEL = os.environ.get("IMITATE_MODEL", "model")  # a folder beside this file, or hf-hub:OWNER/NAME@REVISION
NOTICE = """**Research software, not a medical device.** The numbers are not a diagnosis and must not be used for
patient care. Upload nothing that you may not share: remove names from DICOM files and from the pixels."""


@cache
def model() -> imitate.Predictor:
    return imitate.load(MODEL)


def examine(file: str | None, findings: str) -> tuple[dict[str, float], np.ndarray, str]:
    """For each finding how much the image resembles it, a heat-map of the first, and what the numbers are."""
    named = [name.strip() for name in findings.split(",") if name.strip()]
    if file is None or not named:
        raise UserError("choose a radiograph, and write at least one finding")
    image = model().read(file)
    table = model().classify(image, {name: name for name in named})
    gray, heat = image.pixels[..., None] / 255, model().heatmap(image.pixels, named[0])[..., None]
    colours = (255 * (gray * (1 - 0.6 * heat) + 0.6 * heat * np.array([1, 0.3, 0]))).astype(np.uint8)
    about = "; ".join(sorted(set(table.attrs["calibration"].values())))
    return {name: float(table[name].iloc[0]) for name in named}, colours, f"{about}. {model()!r}"


def interface() -> Any:
    """The page. Only this needs gradio."""
    import gradio as gr

    def examined(file: str | None, findings: str) -> tuple[dict[str, float], np.ndarray, str]:
        try:
            return examine(file, findings)
        except UserError as error:
            raise gr.Error(str(error)) from error

    wanted = [gr.File(label="DICOM, PNG or JPEG"), gr.Textbox("pleural effusion, pulmonary edema", label="Findings")]
    shown = [gr.Label(label="Resemblance"), gr.Image(label="Where, for the first finding"), gr.Textbox(label="Model")]
    kept = {"delete_cache": (600, 600), "flagging_mode": "never", "analytics_enabled": False}  # nothing is kept
    return gr.Interface(examined, wanted, shown, title="imitate", description=NOTICE, api_name="examine", **kept)


if __name__ == "__main__":
    interface().launch(max_file_size="100mb")
