import torch
from torch import nn

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
