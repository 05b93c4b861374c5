"""Pictures of the viewer, light and dark, over what `make demo` leaves: a synthetic radiograph.

python docs/images/viewer.py --model demo/run --index demo/mimic-cxr
"""

import argparse
import io
import sys
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
STEP = 4  # of 256
STAGE = 1.3 / 2.3  # of the width, as viewer.css has it
sys.path.insert(0, str(HERE.parents[1] / "tests" / "support"))

from browser import chromium, wait  # noqa: E402
from served import serving  # noqa: E402

from imitate import load  # noqa: E402
from imitate.data.corpus import Corpus  # noqa: E402
from imitate.serve.server import create  # noqa: E402
from imitate.serve.service import Service  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo/run")
    parser.add_argument("--index", type=Path, default=Path("demo/mimic-cxr"))
    parser.add_argument("--out", type=Path, default=HERE)
    arguments = parser.parse_args()
    with serving(create(Service(load(arguments.model), Corpus.open(arguments.index)))) as address:
        for name in ("light", "dark"):
            save(picture(address, dark=name == "dark"), arguments.out / f"viewer-{name}.png")


def picture(address: str, *, dark: bool) -> bytes:
    """The second example, asked about what reports describe."""
    with chromium(width=1280, height=900, dark=dark) as page:
        page.get(address)
        wait(page, lambda _: page.find_elements("css selector", "#examples button"))
        page.find_elements("css selector", "#branch label")[1].click()
        page.find_elements("css selector", "#examples button")[1].click()
        wait(page, lambda _: page.execute_script("return document.querySelector('#heat').naturalWidth > 0"))
        wait(page, lambda _: page.find_elements("css selector", "#reports .words"))
        wait(page, lambda _: not page.find_elements("css selector", "[aria-busy]"))
        page.execute_script("return Promise.all(document.getAnimations().map(each => each.finished))")
        content: bytes = page.get_screenshot_as_png()
        return content


def save(content: bytes, path: Path) -> None:
    """The stage in steps of each colour, which the grain of the radiograph hides, at two thirds of the size."""
    steps = [min(255, round(value / STEP) * STEP) for value in range(256)]
    with Image.open(io.BytesIO(content)) as image:
        whole = image.convert("RGB")
    stage = whole.crop((0, 0, round(whole.width * STAGE), whole.height))
    whole.paste(stage.point(steps * 3), (0, 0))
    whole.save(path, optimize=True)


if __name__ == "__main__":
    main()
