"""Which texts and images a phrase is compared with."""

import numpy as np

from imitate.tasks.grounding_pairs import NONE, Key, Pair, Pairs, other_images, other_texts, padded


def made(*described: tuple[int, str, str, str]) -> Pairs:
    """Row, phrase, class, patient."""
    pairs = [Pair(row, Key(phrase, is_phrase=True), label, patient, 1) for row, phrase, label, patient in described]
    return Pairs(pairs, np.zeros((len(pairs), 2, 2), bool))


def texts(pairs: Pairs) -> list[str | None]:
    return [key and key.text for key in other_texts(pairs)]


def test_another_text_is_of_a_class_that_is_not_marked_on_the_image() -> None:
    pairs = made((0, "a", "A", "p"), (0, "b", "B", "p"), (1, "c", "C", "q"), (2, "d", "A", "r"))
    first, second, third, fourth = texts(pairs)
    assert (first, second) == ("c", "c") and third in {"a", "b", "d"} and fourth in {"b", "c"}
    assert texts(pairs) == [first, second, third, fourth]


def test_where_every_class_is_marked_it_is_of_another_one_and_without_classes_another_phrase() -> None:
    assert texts(made((0, "a", "A", "p"), (0, "b", "B", "p"))) == ["b", "a"]
    assert texts(made((0, "a", "", "p"), (1, "b", "", "q"))) == ["b", "a"]
    assert texts(made((0, "a", "A", "p"), (1, "a", "A", "q"))) == [None, None]


def test_another_image_is_of_another_patient_and_of_the_class_where_there_is_one() -> None:
    pairs = made((0, "a", "A", "p"), (1, "a", "A", "p"), (2, "b", "B", "q"), (3, "a", "A", "r"))
    first, second, third, fourth = other_images(pairs)
    assert first == second == 3 and third in {0, 1, 3} and fourth in {0, 1}
    assert other_images(made((0, "a", "A", "p"), (1, "b", "A", "p"))) == [NONE, NONE]


def test_each_image_has_a_row_with_a_place_for_each_of_its_phrases() -> None:
    rows = np.array([2, 2, 5, 9, 9, 9])
    found = padded(np.arange(6.0), rows)
    np.testing.assert_array_equal(found, [[0, 1, np.nan], [2, np.nan, np.nan], [3, 4, 5]])
    assert padded(np.array([*"abcdef"]), rows).tolist() == [["a", "b", ""], ["c", "", ""], ["d", "e", "f"]]
    assert padded(np.ones((6, 2), np.uint8), rows)[1].tolist() == [[1, 1], [0, 0], [0, 0]]
