"""The band below a clip says where in the curve a frame stands, and whether the model saw it."""

from __future__ import annotations

import numpy as np
import pytest

from mmexplain.render.band import GROUND, Band, band_height

SIZE = (240, 50)


def changed(band: Band, one: int, other: int) -> np.ndarray:
    """Columns in which the bands of two frames differ."""
    pictures = [np.asarray(band.at(number, "")).astype(int) for number in (one, other)]
    return np.flatnonzero(np.abs(pictures[0] - pictures[1]).sum(axis=(0, 2)))


def test_the_playhead_moves_with_the_frames() -> None:
    band = Band(SIZE, "jumping", "50%", np.linspace(0, 1, 100, dtype=np.float32))
    edge = 6
    for one, other in ((10, 60), (0, 99)):
        columns = changed(band, one, other)
        for number, found in ((one, columns.min()), (other, columns.max())):
            assert abs(edge + (number + 0.5) / 100 * (240 - 2 * edge) - found) <= 6, "half of the mark's width"


def test_it_rises_with_the_curve_and_is_hollow_between_frames_that_were_seen() -> None:
    curve = np.full(11, np.nan, np.float32)
    curve[[2, 4, 8]] = 1.0, 0.0, 0.5
    band = Band(SIZE, "jumping", "", curve)

    def mark(number: int) -> tuple[float, np.ndarray]:
        """Row of the playhead's mark, told by its white rim, and the colour inside."""
        picture = np.asarray(band.at(number, ""))[22:]
        rows, columns = np.nonzero((picture > 200).all(axis=2))
        row, column = round(rows.mean()), round(columns.mean())
        return rows.mean(), picture[row, column].astype(int)

    (top, full), (bottom, _), (middle, hollow) = mark(2), mark(4), mark(6)
    assert top < middle < bottom, "frame 6 lies between 0 and a half"
    assert full[0] > 200 and full[2] < 100 and np.abs(hollow - GROUND).max() < 20
    assert not (np.asarray(band.at(10, ""))[22:] > 200).all(axis=2).any(), "nothing marks what was not seen"


@pytest.mark.parametrize("spike", [0, 1, 7_003, 7_004, 14_999])
def test_a_spike_of_a_long_clip_is_drawn(spike: int) -> None:
    """One frame of 15,000, whichever it is, on 240 pixels."""
    curve = np.full(15_000, 0.01, np.float32)
    curve[spike] = 1.0
    other = spike - 200 if spike > 200 else spike + 2000  # where the playhead stands
    picture = np.asarray(Band(SIZE, "", "", curve).at(other, "")).astype(int)[25:44]
    warm = picture[..., 0] - picture[..., 2] > 15
    rows, columns = np.nonzero(warm[:12])
    assert len(rows), "above the middle there is nothing but the spike"
    wanted = 6 + (spike + 0.5) / 15_000 * (240 - 12)
    assert np.abs(columns[rows < 4] - wanted).max() <= 2


@pytest.mark.parametrize("width", [12, 40, 120])
def test_long_and_foreign_labels_are_cut_to_the_width(width: int) -> None:
    shown = Band((width, 50), "日本 " + "long " * 40 + "\n", "100%", np.ones(3, np.float32)).at(1, "0.04 s")
    assert shown.size == (width, 50)


def test_a_note_stands_in_place_of_the_curve() -> None:
    band = Band(SIZE, "jumping", "", np.ones(5, np.float32), note="flat map: zero everywhere")
    assert not len(changed(band, 0, 4)), "no playhead"
    assert (np.asarray(band.at(0, ""))[30:] > 100).any()
    assert len(np.unique(np.asarray(Band(SIZE, "", "").at(0, "")))) == len(set(GROUND))


def test_its_height_follows_the_picture() -> None:
    assert [band_height(height) for height in (60, 256, 400, 2160)] == [48, 51, 80, 120]
