"""Plots on white, each as a data URI: the same bytes for the same numbers on every machine."""

import base64
import warnings
from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

GRAY = "#777777"
EAST_ASIAN = 0x2E80  # Chinese, Japanese and Korean letters begin here; the usual fonts lack them
EAST_ASIAN_FONTS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "Source Han Sans SC", "WenQuanYi Zen Hei"),
    *("Microsoft YaHei", "PingFang SC", "Hiragino Sans", "Malgun Gothic"),
)
SETTINGS: dict[str, Any] = {
    "font.size": 9,
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"],
    "axes.edgecolor": GRAY,
    "grid.color": "#e6e6e6",
    "svg.fonttype": "none",
    "svg.hashsalt": "imitate",
    **dict.fromkeys(("axes.grid", "axes.axisbelow"), True),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon", "text.parse_math"), False),
}

styled = matplotlib.style.context(["default", SETTINGS])  # whatever the user's own settings are


def svg(paint: Callable[[Axes], None], size: tuple[float, float], legend: Sequence[Any]) -> str:
    """``size`` in inches, without the legend, which goes below."""
    figure = Figure((size[0], size[1] + 0.18 * len(legend)), layout="constrained")
    paint(figure.subplots())
    figure.legend(handles=legend, loc="outside lower center", fontsize=8, labelspacing=0.2, borderpad=0)
    for text in figure.findobj(Text):
        if any(ord(letter) >= EAST_ASIAN for letter in text.get_text()):
            text.set_fontfamily(["DejaVu Sans", *_installed(), "sans-serif"])
    file = BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the reader's browser has a font, even if we have none
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    return _uri("image/svg+xml", file.getvalue())


def _installed() -> list[str]:
    found = set(font_manager.get_font_names())
    return [name for name in EAST_ASIAN_FONTS if name in found]


def png(image: np.ndarray, paint: Callable[[Axes], None]) -> str:
    figure = Figure((3.2, 3.2), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(image, cmap="gray", vmin=0, vmax=255)
    paint(axes)
    axes.set(xlim=(-0.5, image.shape[1] - 0.5), ylim=(image.shape[0] - 0.5, -0.5))
    axes.set_axis_off()
    file = BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return _uri("image/png", file.getvalue())


def _uri(media: str, data: bytes) -> str:
    return f"data:{media};base64,{base64.b64encode(data).decode()}"
