import pytest
import torch
from torch import nn
from two_processes import both

from imitate.models import heads
from imitate.models.heads import PresentBatchNorm, Projection


def test_full_batch_equals_batchnorm_with_running_statistics():
    torch.manual_seed(0)
    ours, theirs, x = PresentBatchNorm(5), nn.BatchNorm1d(5), torch.randn(7, 5) * 3 + 1
    torch.testing.assert_close(ours(x), theirs(x))
    for name in ("running_mean", "running_var"):
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name))
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


def test_statistics_are_those_of_present_rows():
    torch.manual_seed(0)
    present = torch.tensor([True, False, True, True, False])
    x = torch.randn(5, 4)
    ours, theirs = PresentBatchNorm(4, affine=False), nn.BatchNorm1d(4, affine=False)
    torch.testing.assert_close(ours(x, present)[present], theirs(x[present]))
    torch.testing.assert_close(ours.running_var, theirs.running_var)


def test_one_or_no_present_row_is_finite_and_none_leaves_the_statistics_alone():
    head, x = Projection(4, 6, 3), torch.randn(3, 4, requires_grad=True)
    for present in (torch.tensor([True, False, False]), torch.zeros(3, dtype=torch.bool)):
        before = head[1].running_mean.clone()
        out = head(x, present)
        out.sum().backward()
        assert torch.isfinite(out).all() and torch.isfinite(x.grad).all()
    assert torch.equal(head[1].running_mean, before)


def test_parameter_names_are_the_published_ones():
    names = set(Projection(4, 6, 3).state_dict())
    assert {"0.weight", "1.running_mean", "3.bias", "4.running_var"} <= names and "4.weight" not in names


def test_each_section_is_evaluated_by_its_own_statistics_where_they_are_kept():
    torch.manual_seed(0)
    texts = {"findings": torch.randn(64, 4) * 3 + 5, "impression": torch.randn(64, 4) - 2}
    apart, shared = Projection(4, 6, 3), Projection(4, 6, 3)
    for norm in (apart[1], apart[4]):
        norm.keep_sections()
    shared.load_state_dict(apart.state_dict(), strict=False)
    trained = {}
    for _ in range(200):
        for name, text in texts.items():
            trained[name] = apart(text, section=name)
            shared(text, section=name)
    apart.eval(), shared.eval()
    for name, text in texts.items():
        torch.testing.assert_close(apart(text, section=name), trained[name], atol=0.02, rtol=0.02)  # unbiased variance
        assert (shared(text, section=name) - trained[name]).abs().max() > 0.5
        for other in (None, "report"):
            torch.testing.assert_close(apart(text, section=other), shared(text))
    assert not any(name.startswith("section") for name in shared.state_dict())


@pytest.fixture
def two(monkeypatch):
    return both(monkeypatch, heads)


def _random_norm() -> PresentBatchNorm:
    norm = PresentBatchNorm(4, eps=0.1).double()
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([0.5, 2.0, -1.0, 3.0]))
        norm.bias.copy_(torch.tensor([1.0, -2.0, 0.25, 4.0]))
    norm.keep_sections()
    return norm.double()


@pytest.mark.parametrize("rows", [[True] * 7, [True, False, True, True, False, True, True], [False] * 3 + [True] * 4])
def test_synchronised_statistics_are_those_of_all_processes(two, rows):
    torch.manual_seed(0)
    present = None if all(rows) else torch.tensor(rows)
    x, gradient = torch.randn(7, 4, dtype=torch.float64) * 3 + 1, torch.randn(7, 4, dtype=torch.float64)
    gradient *= torch.tensor(rows).unsqueeze(1)
    alone, whole = _random_norm(), x.clone().requires_grad_()
    expected = alone(whole, present, "impression")
    expected.backward(gradient)

    def process(rank: int):
        part, norm = (slice(0, 3), slice(3, 7))[rank], _random_norm()
        norm.synchronised = True
        own = x[part].clone().requires_grad_()
        out = norm(own, None if present is None else present[part], "impression")
        out.backward(gradient[part])
        return out.detach(), own.grad, norm

    (first, above, norm), (last, below, other) = two(process)
    torch.testing.assert_close(torch.cat([first, last]), expected.detach())
    torch.testing.assert_close(torch.cat([above, below]), whole.grad)
    torch.testing.assert_close(norm.weight.grad + other.weight.grad, alone.weight.grad)
    for each in (norm, other):
        torch.testing.assert_close(dict(each.named_buffers()), dict(alone.named_buffers()))


def test_nothing_is_exchanged_unless_synchronised_among_several(monkeypatch):
    x = torch.randn(5, 4)

    def exchange(tensor: torch.Tensor) -> torch.Tensor:
        raise AssertionError("exchanged")

    monkeypatch.setattr(heads, "gather", exchange)
    for synchronised, world in ((True, 1), (False, 2)):
        monkeypatch.setattr(heads, "world_size", lambda world=world: world)
        norm = PresentBatchNorm(4)
        norm.synchronised = synchronised
        torch.testing.assert_close(norm(x), nn.BatchNorm1d(4)(x))


def test_scale_and_shift_follow_the_normalisation_and_double_stays_double():
    x, norm = torch.randn(6, 4, dtype=torch.float64), _random_norm()
    expected = nn.functional.batch_norm(x, None, None, norm.weight, norm.bias, training=True, eps=0.1)
    torch.testing.assert_close(norm(x), expected, rtol=1e-12, atol=1e-12)
    assert PresentBatchNorm(4)(x.half()).dtype == torch.float32 and norm.num_batches_tracked == 1


@pytest.mark.parametrize("synchronised", [False, True])
def test_one_present_row_is_its_own_mean(two, synchronised):
    """It normalises to zero, and the running mean moves towards it by the momentum."""
    x, present = torch.tensor([[3.0, -2.0], [9.0, 9.0]]), torch.tensor([True, False])

    def process(rank: int):
        norm = PresentBatchNorm(2, affine=False)
        norm.synchronised = synchronised
        return norm(x, present & (rank == 0)), norm

    (out, norm), (_, other) = two(process)
    assert torch.equal(out[0], torch.zeros(2))
    torch.testing.assert_close(norm.running_mean, 0.1 * x[0])
    torch.testing.assert_close(norm.running_var, torch.full((2,), 0.9))
    assert torch.equal(other.running_mean, norm.running_mean if synchronised else torch.zeros(2))
