"""What was said of labelled images."""

import pytest
from glass_calibrate.answers import Answer, count_answers, group_tables

REAL = [Answer(False, label) for label in ("real", "real", "unsure", "fake")]
FAKE = [Answer(True, label) for label in ("fake", "fake", "fake", "unsure", "none", "real")]


def test_errors_count_among_all_images_of_a_class_and_wrong_ones_among_the_decided() -> None:
    found = count_answers([*REAL, *FAKE])
    assert (found.decided.count, found.decided.images) == (7, 10)
    assert (found.wrong.count, found.wrong.images) == (2, 7)
    assert (found.fpr.count, found.fpr.images) == (1, 4)
    assert (found.fnr.count, found.fnr.images) == (1, 6)


def test_no_image_has_no_rate() -> None:
    found = count_answers([])
    assert found.decided.value is found.wrong.value is found.fpr.value is None
    assert (found.fpr.low, found.fpr.high) == (0, 1)


def test_groups_have_a_table_for_each_error_with_the_worst_first() -> None:
    answers = [*REAL, *FAKE]
    groups = ["phone", "scan", "phone", "scan", "gan", "gan", "gan", "vae", None, "vae"]
    fpr, fnr = group_tables("source", groups, answers)
    assert [(row.group, row.rate.value) for row in fpr.rows] == [("scan", 0.5), ("phone", 0.0)]
    assert [(row.group, row.rate.value) for row in fnr.rows] == [("vae", 0.5), ("gan", 0.0)]
    assert (fpr.error, fnr.error) == ("fpr", "fnr")


@pytest.mark.parametrize("groups", [["one"] * 10, [None] * 10])
def test_one_group_alone_has_no_table(groups: list[str | None]) -> None:
    assert group_tables("source", groups, [*REAL, *FAKE]) == ()
