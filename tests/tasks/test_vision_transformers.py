"""A ViT-tiny and a DINOv2-small of random weights, from pre-training to an export."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch
import yaml
from folders import write_shards
from recipes import tiny_recipe
from runs import pretrain

from imitate.data.corpus import Corpus
from imitate.inference.encoder import load_encoder
from imitate.inference.export import export_model
from imitate.tasks.base import Budget
from imitate.tasks.retrieval import Retrieval
from imitate.tasks.segmentation import Segmentation


def write_squares(root: Path, size: int) -> Path:
    """Bright squares with masks, and reports that say where they are."""
    rows = 24
    images, masks = np.full((rows, size, size), 40, np.uint8), np.zeros((rows, size, size), np.uint8)
    table = pd.DataFrame({"image_id": [f"i{i}" for i in range(rows)], "patient": [f"p{i}" for i in range(rows)]})
    for i in range(rows):
        x, y = (i * 7) % (size - 20), (i * 11) % (size - 20)
        images[i, y : y + 16, x : x + 16] = masks[i, y : y + 16, x : x + 16] = 1
        images[i] *= 1 + 4 * masks[i]
    table["study"] = table["image_id"]
    table["split"] = np.repeat(["train", "val", "test"], [12, 6, 6])
    table["findings"] = [f"an opacity at {i} of the lung" + " right" * (i % 3) for i in range(rows)]
    table["impression"] = ["pneumonia" + " left" * (i % 4) for i in range(rows)]
    return write_shards(root, table, images, masks=masks)


@pytest.mark.parametrize(("name", "size"), [("vit_tiny_patch16_224", 64), ("vit_small_patch14_dinov2", 56)])
def test_a_vit_is_trained_evaluated_segmented_and_exported(tmp_path, name, size):
    data, out = write_squares(tmp_path / "data", size), tmp_path / "run"
    settings = tiny_recipe(epochs=1, steps=1, batch_size=4, layer_decay=0.75).model_dump(
        mode="json", exclude_unset=True
    )
    settings["training"] |= {
        "gradient_checkpointing": True,
        "precision": "bf16-mixed",
        "image_sizes": [size // 2, size],
    }
    settings["model"] = {"backbone": name, "prepared_size": size, "image_size": size, "grid": 4, "slots": 512}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(settings))
    assert pretrain(tmp_path / "recipe.yaml", data, out, "--training.steps", "2") == 0
    prepared = Corpus.open(data)
    encoder, budget = load_encoder(str(out), data=prepared), Budget()
    task = Retrieval()
    assert all(np.isfinite(list(task.measure(task.predict(encoder, prepared, budget)).values())))
    for options in ({}, {"image_size": 2 * size}):  # more pixels than it was trained on
        dense = Segmentation(epochs=1, batch_size=4, width=16, **options)
        assert 0 <= dense.measure(dense.predict(encoder, prepared, budget))["dice"] <= 1
    export_model(str(out), tmp_path / "exported")
    network = timm.create_model(f"local-dir:{tmp_path / 'exported'}", pretrained=True).eval()
    images = encoder.prepare(torch.from_numpy(prepared.images[:2]))
    with torch.no_grad():
        torch.testing.assert_close(network(images), encoder.image(images).pooled)
