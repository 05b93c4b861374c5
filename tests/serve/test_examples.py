import numpy as np

from imitate.serve.examples import HEIGHT, WANTED, WIDTH, drawings


def test_one_drawing_a_finding():
    drawn = list(drawings())
    assert len(drawn) == len(WANTED)
    assert drawn[0].title == "No finding" and drawn[0].phrase == ""
    for wanted, drawing in zip(WANTED[1:], drawn[1:], strict=True):
        assert drawing.title.lower().startswith(wanted.lower()) and drawing.phrase.endswith(wanted.lower())
        assert "both" not in drawing.title
    assert all(drawing.pixels.shape == (HEIGHT, WIDTH) for drawing in drawn)
    assert all(not np.array_equal(drawn[0].pixels, each.pixels) for each in drawn[1:])
