import pytest
import torch

from imitate.inference import nearest as module
from imitate.inference.nearest import nearest


@pytest.fixture
def vectors():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(7, 12, generator=generator), torch.randn(50, 12, generator=generator)


@pytest.mark.parametrize("k", [1, 5, 50])
@pytest.mark.parametrize("gallery_block, cells", [(2**16, 2**24), (8, 24), (3, 1)])
def test_blocks_find_what_sorting_all_products_finds(vectors, monkeypatch, k, gallery_block, cells):
    queries, gallery = vectors
    monkeypatch.setattr(module, "GALLERY", gallery_block)
    monkeypatch.setattr(module, "CELLS", cells)
    assert torch.equal(nearest(queries, gallery, k), (-(queries @ gallery.T)).argsort(1)[:, :k])
