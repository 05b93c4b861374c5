"""The module in the loops of other people: a plain one, DistributedDataParallel, torch.export."""

import pytest
import torch
from recipes import TINY_MODEL as TINY
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from imitate.losses.baselines import info_nce
from imitate.models.imitate import seeded_model
from imitate.models.types import JointEmbedding

DRAWN = torch.Generator().manual_seed(0)
IMAGES, TEXTS = torch.randn(4, 3, 32, 32, generator=DRAWN), torch.randn(6, 12, generator=DRAWN)


def test_images_and_texts_become_unit_vectors_of_one_space():
    model = seeded_model(TINY, pretrained=False, seed=0).eval()
    out = model(IMAGES, TEXTS)
    assert isinstance(out, JointEmbedding)
    assert out.findings.shape == out.impression.shape == (4, 16) and out.texts.shape == (6, 16)
    seen = model.encode_image(IMAGES)
    assert torch.allclose(out.findings, F.normalize(seen.findings, dim=1))
    assert torch.allclose(out.impression, F.normalize(seen.impression, dim=1))
    assert torch.allclose(out.texts, F.normalize(model.encode_text(TEXTS), dim=1))
    assert model(IMAGES).texts is None


def test_texts_by_name_are_those_of_their_section():
    apart = seeded_model(TINY.model_copy(update={"text_statistics": "section"}), pretrained=False, seed=0)
    named = {"findings": TEXTS[:4], "impression": 3 + TEXTS[4:]}
    apart(IMAGES, named)  # moves the running statistics
    out = apart.eval()(IMAGES, named)
    assert {name: tuple(each.shape) for name, each in out.texts.items()} == {"findings": (4, 16), "impression": (2, 16)}
    expected = F.normalize(apart.encode_text(named["impression"], section="impression"), dim=1)
    assert torch.allclose(out.texts["impression"], expected)
    assert not torch.allclose(out.texts["impression"], apart(IMAGES, named["impression"]).texts)


def train(model: torch.nn.Module, steps: int = 4) -> list[float]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    present, found = torch.ones(4, dtype=torch.bool), []
    for _ in range(steps):
        out = model(IMAGES, {"findings": TEXTS[:4], "impression": TEXTS[1:5]})
        loss = info_nce(out.findings, out.texts["findings"], 0.1, present)
        loss = loss + info_nce(out.impression, out.texts["impression"], 0.1, present)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


@pytest.mark.parametrize("changes", [{}, {"aggregation": "pooled"}, {"levels": (), "keep": ()}])
def test_a_plain_loop_lowers_the_loss_and_reaches_every_weight(changes):
    model = seeded_model(TINY.model_copy(update=changes), pretrained=False, seed=0).train()
    losses = train(model)
    assert losses[-1] < losses[0]
    assert [name for name, each in model.named_parameters() if each.grad is None] == []


def test_in_ddp_no_weight_is_excluded(tmp_path):
    """Where one were, the second step would raise."""
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        alone = train(seeded_model(TINY, pretrained=False, seed=0).train())
        wrapped = train(DistributedDataParallel(seeded_model(TINY, pretrained=False, seed=0).train()))
    finally:
        torch.distributed.destroy_process_group()
    assert wrapped == pytest.approx(alone, rel=1e-4)


def test_it_is_exported_with_any_number_of_images_and_texts_and_works_on_afterwards():
    model = seeded_model(TINY, pretrained=False, seed=0).eval()
    images, texts = torch.export.Dim("images"), torch.export.Dim("texts")
    whole = torch.export.export(model, (IMAGES, TEXTS), dynamic_shapes=({0: images}, {0: texts})).module()
    with torch.no_grad():
        for count, more in ((4, 6), (2, 9)):
            given = torch.randn(count, 3, 32, 32), torch.randn(more, 12)
            for ours, theirs in zip(model(*given), whole(*given), strict=True):
                assert torch.allclose(ours, theirs, atol=1e-5)
