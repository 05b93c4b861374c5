import numpy as np
import pytest
import torch

from imitate.config import Preprocessing
from imitate.data.augment import evaluation_view
from imitate.data.evaluation import evaluation_array

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 37, 37), np.uint8)


@pytest.mark.parametrize(
    "options",
    [
        {},  # ImageNet's three channels
        {"mean": (0.5,), "std": (0.25,)},
        {"range": (-1024.0, 1024.0), "mean": (0.0,), "std": (1.0,)},
        {"range": (0.0, 255.0), "mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)},
    ],
)
@pytest.mark.parametrize("side", [37, 36, 32, 9])
def test_arrays_and_tensors_are_normalised_to_the_same_bits(options, side):
    config = Preprocessing(prepared_size=37, image_size=side, **options)
    expected = evaluation_view(torch.from_numpy(IMAGES), config).numpy()
    found = evaluation_array(IMAGES, config)
    assert found.dtype == np.float32 and found.shape == (3, config.channels, side, side)
    np.testing.assert_array_equal(found, expected)


def test_the_centre_is_seen_and_scaled_to_the_range():
    config = Preprocessing(prepared_size=37, image_size=9, range=(-2.0, 2.0), mean=(1.0,), std=(0.5,))
    found = evaluation_array(IMAGES, config)
    np.testing.assert_allclose(found[:, 0], (IMAGES[:, 14:23, 14:23] / 255 * 4 - 2 - 1) / 0.5, rtol=1e-5, atol=1e-5)
