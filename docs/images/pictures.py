"""Pictures of the documentation: a synthetic radiograph, augmented at random, and the first screen of a report page.

python docs/images/pictures.py --report demo/report.html
"""

import argparse
import sys
from io import BytesIO
from pathlib import Path

import torch
from PIL import Image, ImageDraw

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
COUNT, SIDE, GAP = 6, 168, 8  # images in a line, their size and distance in px
SEED, CASE = 0, 3
ROWS = {"as published": "reference", "that keep left and right apart": "imitate_rn50"}
sys.path.insert(0, str(ROOT / "tests" / "support"))

from browser import chromium  # noqa: E402

from imitate.config import Recipe, load_config  # noqa: E402
from imitate.data.augment import draw_views, warp  # noqa: E402
from imitate.synthetic.cases import draw_case  # noqa: E402
from imitate.synthetic.phantom import render  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", type=Path, help="a page of `imitate report`; default: the augmentation alone")
    parser.add_argument("--out", type=Path, default=HERE)
    arguments = parser.parse_args()
    views().save(arguments.out / "views.png", optimize=True)
    if arguments.report:
        for name in ("light", "dark"):
            shot = Image.open(BytesIO(page(arguments.report, dark=name == "dark"))).convert("RGB")
            shot.save(arguments.out / f"report-{name}.png", optimize=True)


def views() -> Image.Image:
    """A line a recipe: the prepared image, and its augmentations as one step draws them."""
    step, top = SIDE + GAP, 26
    sheet = Image.new("RGB", ((COUNT + 1) * step + 3 * GAP, len(ROWS) * (step + top) + GAP), "#f6f8f8")
    pen = ImageDraw.Draw(sheet)
    for row, (words, name) in enumerate(ROWS.items()):
        recipe = load_config(Recipe, ROOT / "recipes" / f"{name}.yaml")
        prepared = torch.from_numpy(render(draw_case(SEED, CASE), recipe.model.prepared_size).image)[None]
        generator = torch.Generator().manual_seed(SEED)
        draw = draw_views(COUNT, recipe.augment, recipe.model, generator)
        drawn = warp(prepared.expand(COUNT, -1, -1), draw, recipe.model)[:, 0]
        gray = (drawn * recipe.model.std[0] + recipe.model.mean[0]).clamp(0, 1)
        y = row * (step + top) + GAP
        pen.text((GAP, y), "prepared", fill="#1d2b2e", font_size=14)
        pen.text((step + 3 * GAP, y), f"views {words} (recipes/{name}.yaml)", fill="#1d2b2e", font_size=14)
        sheet.paste(Image.fromarray(prepared[0].numpy()).resize((SIDE, SIDE)), (GAP, y + top))
        for column, view in enumerate(gray):
            picture = Image.fromarray((view * 255).round().byte().numpy()).resize((SIDE, SIDE))
            sheet.paste(picture, ((column + 1) * step + 3 * GAP, y + top))
    return sheet


def page(report: Path, *, dark: bool) -> bytes:
    """The first screen."""
    with chromium(width=1100, height=900, dark=dark) as browser:
        browser.get(report.resolve().as_uri())
        content: bytes = browser.get_screenshot_as_png()
        return content


if __name__ == "__main__":
    main()
