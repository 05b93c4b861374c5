"""A process to kill: python predict_parts.py MODEL IMAGES OUT embeds a folder in parts of 4 images."""

import sys
from pathlib import Path

from imitate.data.writer import Engine
from imitate.inference import parts
from imitate.inference.bulk import Question, predict_in_parts

if __name__ == "__main__":
    parts.PART = 4
    model, images, out = sys.argv[1:]
    predict_in_parts(Question("embed", model), Path(out), images=Path(images), engine=Engine(workers=1))
