"""What an aggregation costs: a training step with each, beside a step of CLIP on the same backbone, in turn.

Forward and backward in float32 with the views drawn before. In the first table all objectives look at the same two
views; ``channels`` is the published aggregation without the terms between them. The second table is of the small
network of the studies, where only objectives that compare views look at two: from it follows how many steps of each
method fit into the same CPU time.

    python benchmarks/aggregation.py
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from imitate.config import OPTIONS, ImitateConfig, Recipe, TrainingConfig
from imitate.models.imitate import seeded_model
from imitate.training.draws import draw_step
from imitate.training.objectives import training_module
from measuring import Row, alternate, finish, options, ratio

REPORT = {"texts": "report"}
PLAIN = {"visual_visual": 0, "kernel": "none"}
TWO_VIEWS = ("IMITATE, published", "SLIP")  # which compare them
DEEPEST = {"levels": (4,)}
SPATIAL, POOLED = {"aggregation": "spatial"}, {"aggregation": "pooled"}
METHODS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # what the model has, and the objective
    "CLIP": ({}, {"name": "clip"}),
    "ConVIRT": ({}, {"name": "convirt"}),
    "SLIP": ({}, {"name": "clip", "visual_visual": 1.0}),
    "IMITATE, published": ({}, {"name": "imitate"}),
    "channels": (REPORT, PLAIN),
    "channels, deepest level": (REPORT | DEEPEST | {"keep": (0.1,)}, PLAIN),
    "spatial": (REPORT | SPATIAL, PLAIN),
    "spatial, deepest level": (REPORT | SPATIAL | DEEPEST, PLAIN),
    "pooled": (REPORT | POOLED, PLAIN),
    "pooled, deepest level": (REPORT | POOLED | DEEPEST, PLAIN),
    "spatial, sections and prior": (SPATIAL, {"visual_visual": 0}),
    "spatial, grounding": (REPORT | SPATIAL, PLAIN | {"grounding": 1.0}),
}
SMALL: dict[str, Any] = {  # the network of the studies
    "backbone": "resnet18",
    "backbone_options": {"channels": [16, 32, 64, 128]},
    "prepared_size": 72,
    "image_size": 64,
    "joint_width": 128,
    "text_width": 128,
    "token_width": 128,
}


def step(config: dict[str, Any], model: dict[str, Any], objective: dict[str, Any], batch: int) -> Callable[[], None]:
    """Forward and backward of one batch."""
    recipe = Recipe(
        model=ImitateConfig(**config, **model),
        pretrained=False,
        objective=OPTIONS[objective.get("name", "imitate")](**({"name": "imitate"} | objective)),
        training=TrainingConfig(batch_size=batch),
    ).resolved()
    generator = torch.Generator().manual_seed(0)
    side, width = recipe.model.prepared_size, recipe.model.text_width
    sample: dict[str, Any] = {
        "images": torch.randint(0, 256, (batch, side, side), dtype=torch.uint8, generator=generator)
    }
    for text in ("findings", "impression", "report"):
        sample[text] = torch.randn(batch, width, generator=generator)
        sample[f"has_{text}"] = torch.ones(batch, dtype=torch.bool)
    made = training_module(seeded_model(recipe.model, pretrained=False, seed=0), recipe.objective)
    made = made.to(memory_format=torch.channels_last)
    draw = draw_step(made.model, recipe, step=0)  # type: ignore[arg-type]

    def run() -> None:
        sum(made(sample, draw).values()).backward()
        made.zero_grad(set_to_none=True)

    return run


def table(config: dict[str, Any], batch: int, names: Mapping[str, Any], rounds: int) -> list[Row]:
    seconds = alternate(
        {name: step(config, model, objective, batch) for name, (model, objective) in names.items()}, rounds=rounds
    )
    clip = seconds["CLIP"]
    return [
        {"method": name, "s a step": sorted(each)[len(each) // 2], "of CLIP's step": ratio(each, clip)}
        for name, each in seconds.items()
    ]


def main() -> None:
    arguments = options(__doc__).parse_args()
    torch.set_num_threads(1)
    few = {name: METHODS[name] for name in ("CLIP", "channels", "spatial", "pooled", "IMITATE, published")}
    large: dict[str, Any] = {"backbone": "resnet50"}
    rounds = 2 if arguments.quick else 10
    tables = {}
    if not arguments.quick:
        tables["large"] = _with_grid(large, 16, few, rounds // 2)
    single = {
        name: (model, objective if name in TWO_VIEWS else {**objective, "views": 1})
        for name, (model, objective) in METHODS.items()
    }
    tables["small"] = _with_grid(SMALL, 64, single, rounds)
    finish(arguments, "aggregation", tables)


def _with_grid(config: dict[str, Any], batch: int, names: Mapping[str, Any], rounds: int) -> list[Row]:
    """``grid`` is 16 of the published aggregation, and 7 or 4 of places, at 224 or 64 pixels."""
    cells = 7 if config["backbone"] == "resnet50" else 4
    made = {
        name: ({"grid": cells, **model} if model.get("aggregation") == "spatial" else model, objective)
        for name, (model, objective) in names.items()
    }
    return table(config, batch, made, rounds)


if __name__ == "__main__":
    main()
