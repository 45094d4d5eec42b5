import pytest

from pretrain.report.axis import Axis, words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.12345, "0.123"),
        (-3.14159, "-3.14"),
        (1234.5, "1234"),
        (15000, "15k"),
        (2.5e6, "2.5M"),
        (3e9, "3G"),
        (0.00002, "2.0e-5"),
    ],
)
def test_numbers_in_few_characters(value, text):
    assert words(value) == text


def test_a_linear_axis_with_round_numbers():
    axis = Axis([1.0, 9.0], room=0)
    assert (axis.at(1), axis.at(5), axis.at(9)) == (0, 500, 1000)
    assert [text for _, text in axis.ticks()] == ["2", "4", "6", "8"]
    assert axis.at(100) == 1000  # what lies outside is drawn at the edge
    assert Axis([0.0, 1.0]).low == 0.0


def test_powers_where_values_are_far_apart():
    axis = Axis([1e-5, 10.0])
    assert axis.log
    assert axis.at(0.01) == pytest.approx(500, abs=10)
    assert [text for _, text in axis.ticks()] == ["1.0e-5", "0.001", "0.1", "10"] or len(axis.ticks()) >= 2
    assert axis.at(-1.0) == 0
    assert not Axis([1e-5, 10.0], log=False).log
    assert not Axis([0.0, 10.0]).log


@pytest.mark.parametrize("values", [[], [5.0], [0.0, 0.0], [float("nan")], [-1e-300, 1e-300], [1e9, 1e9 + 1]])
def test_any_values_give_an_axis(values):
    axis = Axis(values)
    assert axis.high > axis.low
    assert len(axis.ticks()) <= 12
    assert all(-1e-6 <= place <= 1000 + 1e-6 for place, _ in axis.ticks())
