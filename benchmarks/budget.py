"""Seconds of a training step of each objective of the confirmation, in turn: from it follow its steps.

Forward and backward of 64 pairs in float32 on the network of the studies, on one thread. ``pooled`` is the selected
objective: all levels pooled, with sections. An objective looks at two views only if it compares them.

    python benchmarks/budget.py
"""

import torch

from aggregation import METHODS, PLAIN, POOLED, SMALL, TWO_VIEWS, table
from measuring import finish, options

COMPARED = {name: METHODS[name] for name in ("CLIP", "ConVIRT", "SLIP", "IMITATE, published")}


def main() -> None:
    arguments = options(__doc__).parse_args()
    torch.set_num_threads(1)
    methods = {
        name: (model, objective if name in TWO_VIEWS else {**objective, "views": 1})
        for name, (model, objective) in (COMPARED | {"pooled": (POOLED, PLAIN)}).items()
    }
    finish(arguments, "budget", {"steps": table(SMALL, 64, methods, 2 if arguments.quick else 120)})


if __name__ == "__main__":
    main()
