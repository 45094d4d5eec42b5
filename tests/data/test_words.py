import pytest

from data.words import byte_size, duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (0.25, "0.25 s"),
        (50, "50 s"),
        (600, "10 min"),
        (200, "3.3 min"),
        (9000, "2.5 h"),
        (200_000, "2.3 days"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (8_210_000, "8.21 MB"), (1.2e12, "1.2 TB"), (5e15, "5e+03 TB")],
)
def test_sizes(amount, text):
    assert byte_size(amount) == text
