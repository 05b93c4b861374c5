"""``imitate compare``: paired tests between results on the same test images."""

from pathlib import Path
from typing import TYPE_CHECKING

from imitate.names import AnyPath, Names, Paths, several

if TYPE_CHECKING:
    from imitate.tasks.comparison import Difference


def compare(
    a: AnyPath,
    b: AnyPath,
    more: Paths = (),
    /,
    *,
    metric: Names = (),
    out: AnyPath | None = None,
    resamples: int = 1000,
) -> "list[Difference]":
    """Test whether other results differ from the first, on the same test images.

    The tests are paired by patient and by seed (docs/statistics.md). Results of other modes, splits or images
    are refused; other differences are listed. Macro averages are compared over the classes that both files have.

    Args:
        a: The results file to compare with.
        b: The results file to compare.
        more: Further results files to compare with the first.
        metric: Metrics to compare; default: the main metric of the task. All tests share one Holm correction.
        out: Where to write the differences, .json.
        resamples: Number of bootstrap samples for each interval and test.
    """
    from imitate.tasks.comparison import compare_results

    files = [Path(each) for each in (a, b, *several(more))]
    return compare_results(files, metrics=several(metric), out=None if out is None else Path(out), resamples=resamples)
