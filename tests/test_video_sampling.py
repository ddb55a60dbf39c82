"""Which frames are chosen: worked by hand, and properties that hold for every length."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmexplain.errors import InputError
from mmexplain.video import dense, uniform, windows

few = st.integers(1, 12)
length = st.integers(1, 200)


@pytest.mark.parametrize(
    ("n_frames", "count", "expected"),
    [
        (10, 5, (1, 3, 5, 7, 9)),
        (10, 4, (1, 3, 6, 8)),  # segments of 2.5 frames, centres 1.25, 3.75, 6.25, 8.75
        (100, 1, (50,)),
        (3, 3, (0, 1, 2)),
        (3, 6, (0, 0, 1, 1, 2, 2)),
        (1, 4, (0, 0, 0, 0)),
    ],
)
def test_uniform(n_frames, count, expected):
    assert uniform(n_frames, count) == expected


@given(length, few)
def test_uniform_is_the_test_sampling_of_tsn(n_frames, count):
    tick = n_frames / count  # TSN: int(tick / 2 + tick * x) for each segment x
    assert all(abs(number - (tick / 2 + tick * x)) <= 1 for x, number in enumerate(uniform(n_frames, count)))
    assert uniform(n_frames, count)[-1] < n_frames


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((20, 4, 2), (6, 8, 10, 12)),  # spans 7 frames: 13 are left, 6 of them before
        ((20, 4), (8, 9, 10, 11)),
        ((7, 4, 2), (0, 2, 4, 6)),
        ((5, 4, 2), (0, 2, 4, 4)),
        ((1, 3, 5), (0, 0, 0)),
        ((20, 4, 2, 0), (0, 2, 4, 6)),
        ((20, 4, 2, 15), (15, 17, 19, 19)),
    ],
)
def test_dense(arguments, expected):
    assert dense(*arguments) == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((8, 4), [(0, 1, 2, 3), (4, 5, 6, 7)]),
        ((10, 4), [(0, 1, 2, 3), (4, 5, 6, 7), (6, 7, 8, 9)]),
        ((8, 4, 1, 2), [(0, 1, 2, 3), (2, 3, 4, 5), (4, 5, 6, 7)]),
        ((16, 4, 2), [(0, 2, 4, 6), (8, 10, 12, 14)]),
        ((17, 4, 2), [(0, 2, 4, 6), (8, 10, 12, 14), (10, 12, 14, 16)]),
        ((20, 4, 3), [(0, 3, 6, 9), (9, 12, 15, 18)]),
        ((3, 4), [(0, 1, 2, 2)]),
        ((4, 4), [(0, 1, 2, 3)]),
    ],
)
def test_windows(arguments, expected):
    assert windows(*arguments) == expected


@given(length, few, few, st.none() | few)
def test_windows_lose_nothing(n_frames, count, stride, step):
    taken = windows(n_frames, count, stride, step)
    assert all(len(window) == count and min(window) >= 0 and max(window) < n_frames for window in taken)
    assert taken == sorted(set(taken))
    starts = [window[0] for window in taken]
    assert starts[0] == 0 and starts[-1] + count * stride >= n_frames
    assert (starts[-1] - starts[max(0, len(starts) - 2)]) % stride == 0 or step is not None
    if step is None:
        assert all(after - before <= count * stride for before, after in itertools.pairwise(starts))


@pytest.mark.parametrize(
    "call",
    [
        lambda: uniform(0, 3),
        lambda: uniform(3, 0),
        lambda: dense(9, 3, 0),
        lambda: dense(9, 3, 1, 9),
        lambda: windows(9, 3, 1, 0),
        lambda: windows(9, -1),
    ],
)
def test_bad_numbers(call):
    with pytest.raises(InputError, match=r"^[^\n]+$"):
        call()
