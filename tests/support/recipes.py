"""A recipe that trains in a second."""

from imitate.config import ImitateConfig, Recipe, TrainingConfig

TINY_MODEL = ImitateConfig(
    backbone="resnet18", backbone_options={"channels": [4, 8, 16, 32]}, prepared_size=36, image_size=32,
    grid=4, slots=64, joint_width=16, text_width=12,
)  # fmt: skip


def tiny_recipe(**training: object) -> Recipe:
    settings = {"batch_size": 8, "epochs": 2, "precision": "32-true", "learning_rate": 1e-3, "log_every": 1, **training}
    return Recipe(model=TINY_MODEL, pretrained=False, text="lsa-8", training=TrainingConfig(**settings))
