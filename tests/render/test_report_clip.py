"""The report of a clip: the right frames, heat where the map is, the curve of importance, and a bounded size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmexplain.explanation import Explanation, MapKey
from mmexplain.picture import Picture
from mmexplain.render import notebook_html, report_html
from mmexplain.targets import Target
from tests.render.conftest import GEOMETRIES
from tests.render.page import Page, decode
from tests.render.samples import GRID, HEIGHT, N_FRAMES, SEEN, SHARES, WIDTH, clip


def cell_of(page: Page, name: str, frame: int) -> np.ndarray:
    """Strengths from 0 to 1 of one frame's heat, cut out of its sheet as the player does."""
    record = page.data()[0]["clip"]
    columns, border, (width, height) = record["columns"], record["border"], record["cell"]
    place = next(one["cell"] for one in record["frames"] if one["number"] == frame)
    sheet = np.asarray(decode(page.images()[name])) / 127
    top = place // columns * (height + 2 * border) + border
    left = place % columns * (width + 2 * border) + border
    return sheet[top : top + height, left : left + width]


def test_each_frame_is_stored_once_and_is_the_right_one() -> None:
    page = Page(report_html([clip()]))
    pictures = {name: uri for name, uri in page.images().items() if name.startswith("e0-f")}
    assert [one["number"] for one in page.data()[0]["clip"]["frames"]] == list(range(N_FRAMES))
    assert len(pictures) == N_FRAMES
    for place in (0, 7, 19):
        assert np.asarray(decode(pictures[f"e0-f{place}"])).mean() == pytest.approx(10 * place, abs=1.5)


@pytest.mark.parametrize("name", sorted(GEOMETRIES))
@pytest.mark.parametrize("cell", [(1, 4), (3, 1)])
def test_heat_lies_where_the_map_is(name, cell) -> None:
    explanation = clip(GEOMETRIES[name], cell)
    page = Page(report_html([explanation]))
    x, y, width, height = page.data()[0]["clip"]["window"]
    heat = cell_of(page, "e0-0-0", 2)
    rows, columns = np.nonzero(heat == heat.max())
    found = (
        x + (columns.mean() + 0.5) / heat.shape[1] * width,
        y + (rows.mean() + 0.5) / heat.shape[0] * height,
    )
    left, top, right, bottom = explanation.geometry.box
    wanted = (left + (cell[1] + 0.5) / GRID * (right - left), top + (cell[0] + 0.5) / GRID * (bottom - top))
    assert found == pytest.approx(wanted, abs=1.0)
    whole = np.nan_to_num(explanation.heatmap(0)[2].numpy(), nan=-1)
    peak_y, peak_x = np.unravel_index(whole.argmax(), whole.shape)
    assert found == pytest.approx((peak_x + 0.5, peak_y + 0.5), abs=1.5)


def test_frames_share_one_scale() -> None:
    page = Page(report_html([clip()]))
    strengths = [cell_of(page, "e0-0-0", frame).max() for frame in SEEN]
    assert strengths == pytest.approx([share / 100 for share in SHARES], abs=0.01)
    turned = [cell_of(page, "e0-0-1", frame).max() for frame in SEEN]
    assert turned == pytest.approx(strengths[::-1], abs=0.01)


def test_the_curve_is_the_importance_of_each_frame() -> None:
    page = Page(report_html([clip()]))
    data = page.data()[0]
    first = data["cells"][0][0]
    assert [share for share in first["shares"] if share is not None] == SHARES
    assert [n for n, share in enumerate(first["shares"]) if share is not None] == list(SEEN)
    bars = [f"M{frame} 100V{100 - round(0.92 * share)}h1V100z" for frame, share in zip(SEEN, SHARES, strict=True)]
    assert first["curve"] == "".join(bars)
    assert data["clip"]["floor"] == "".join(f"M{frame} 100V0h1V100z" for frame in SEEN)
    assert (data["clip"]["n_seen"], data["clip"]["n_frames"]) == (6, 20)
    assert first["peak"] == list(clip().peak(0)) and first["peak"][2] == 2
    assert first["peak_along"] == pytest.approx(100 * 2.5 / 20)
    assert data["cells"][0][1]["peak"][2] == 17


def test_neighbouring_frames_are_one_shape_and_crowded_ones_keep_their_largest() -> None:
    from mmexplain.render.curve import curve

    assert curve(np.array([np.nan, 1.0, 0.5, np.nan, 0.0]), tallest=100) == "M1 100V0h1V50h1V100zM4 100V100h1V100z"
    long = np.zeros(4800)
    long[4799] = 1
    assert curve(long).endswith("V8h1V100z") and curve(long).count("h1") == 480


def test_without_a_script_the_decisive_frame_stands_with_its_heat() -> None:
    page = Page(report_html([clip()]))
    photo = page.with_class("photo")[0]
    assert photo["href"] == "#e0-f2"
    stage = page.with_class("heat")[0]
    record = page.data()[0]["clip"]
    assert stage["viewbox"] == f"1 1 {record['cell'][0]} {record['cell'][1]}", "frame 2 is the first of the sheet"
    assert float(stage["x"]) == record["window"][0] == pytest.approx(WIDTH / 6, abs=1)
    assert page.with_class("head")[0]["style"] == "left: 12.5%"
    assert "hidden" in page.with_class("veil")[0] and "hidden" in page.with_class("play")[0]
    assert "When and where the model looked" in report_html([clip()])
    assert "20 frames; the model saw 6 of them inside the box 15, 0, 75, 60" in report_html([clip()])


def test_it_starts_where_most_of_the_frame_counts_and_not_at_the_strongest_place() -> None:
    """A single cell of 5 in the second step, a whole grid of 1 in the third: a mean of 5/36 against 1."""
    explanation = clip()
    for maps in explanation.maps.values():
        maps.zero_()
        maps[0, 1, 3, 3] = 5.0
        maps[0, 2] = 1.0
    page = Page(report_html([explanation]))
    record, first = page.data()[0]["clip"], page.data()[0]["cells"][0][0]
    importance = explanation.importance(0).nan_to_num(-1)
    assert record["frames"][record["start"]]["number"] == int(importance.argmax()) == 17
    assert first["peak"][2] in (8, 11) and explanation.peak(0)[2] == first["peak"][2]
    assert page.with_class("photo")[0]["href"] == "#e0-f17"


def test_the_most_important_frame_of_a_long_clip_is_pictured() -> None:
    explanation = long_clip(15_000, range(15_000), range(0, 15_000, 100))
    for maps in explanation.maps.values():
        maps.zero_()
        maps[0, 301] = 1.0  # frames 2408 to 2415
        maps[0, 900, 3, 3] = 5.0
    record = Page(report_html([explanation])).data()[0]["clip"]
    assert record["frames"][record["start"]]["number"] == 2400
    assert 7200 in [one["number"] for one in record["frames"]], "and so is the peak"


def test_a_frame_that_was_skipped_has_no_heat() -> None:
    frames = Page(report_html([clip()])).data()[0]["clip"]["frames"]
    assert [one["number"] for one in frames if one["cell"] is not None] == list(SEEN)
    assert [one["cell"] for one in frames if one["cell"] is not None] == list(range(6))
    assert frames[3]["seconds"] == 0.3


def long_clip(n_frames: int, seen: range, kept: range) -> Explanation:
    generator = torch.Generator().manual_seed(0)
    explanation = clip()
    explanation.geometry = explanation.geometry.sample(tuple(seen), n_frames)
    explanation.targets = [Target(name, "action", (n,)) for n, name in enumerate("abc")]
    explanation.scores = explanation.probabilities = torch.tensor([0.5, 0.3, 0.2])
    explanation.maps = {MapKey("conv", "gradcam"): torch.randn(3, len(seen) // 8, 7, 7, generator=generator)}
    noise = torch.rand(1, 3, 45, 60, generator=generator) * 255
    picture = torch.nn.functional.interpolate(noise, size=(300, 400), mode="bilinear")[0].permute(1, 2, 0)
    pixels = picture.to(torch.uint8)[None].expand(len(kept), 300, 400, 3)
    explanation.picture = Picture(pixels, "/clips/long.mp4", tuple(kept))
    return explanation


def test_the_report_of_a_long_video_is_bounded() -> None:
    explanation = long_clip(15_000, range(15_000), range(0, 15_000, 100))
    html = report_html([explanation])
    assert len(html) < 4e6
    record = Page(html).data()[0]["clip"]
    assert len(record["frames"]) == 64 and record["bins"] == 480
    assert record["frames"][0]["number"] == 0 and record["frames"][-1]["number"] == 14_900
    assert record["frames"][0]["seconds"] is None
    peaks = [cell["peak"][2] for cell in Page(html).data()[0]["cells"][0]]
    near = [min(abs(one["number"] - peak) for one in record["frames"]) for peak in peaks]
    assert max(near) <= 50, "the kept frames nearest to the peaks are pictured"


def test_what_the_model_saw_is_pictured_before_what_it_skipped() -> None:
    frames = Page(report_html([long_clip(400, range(0, 400, 10), range(400))])).data()[0]["clip"]["frames"]
    assert len(frames) == 64
    assert {one["number"] for one in frames if one["cell"] is not None} == set(range(0, 400, 10))


def test_maps_in_pixel_space_are_drawn_as_scalar_ones() -> None:
    explanation = clip()
    maps = torch.zeros(2, 3, 6, 48, 48)
    maps[0, 1, 0, 20, 30], maps[0, 2, 5, 20, 30] = 1.0, -1.0
    maps[1] = maps[0].flip(1)
    explanation.maps = {MapKey("input", "guided-backprop"): maps}
    explanation.pixel_methods = frozenset({"guided-backprop"})
    page = Page(report_html([explanation]))
    assert page.data()[0]["cells"][0][0]["kind"] == "signed"
    assert decode(page.images()["e0-0-0"]).mode == "P"


def test_flat_broken_and_unseen_maps_survive_and_are_named() -> None:
    explanation = clip()
    for maps in explanation.maps.values():
        maps[0], maps[1] = 0, torch.nan
    page = Page(report_html([explanation]))
    flat, broken = page.data()[0]["cells"][0]
    assert flat["note"] == "flat map: zero everywhere" and broken["note"] == "the whole map is NaN or infinite"
    assert flat["peak"] is broken["peak"] is None and flat["peak_along"] is None
    assert "e0-0-0" not in page.images()
    assert set(flat["shares"]) == {None, 0}
    explanation = clip()
    explanation.picture = Picture(explanation.picture.pixels[:2], None, (0, 1))
    frames = Page(report_html([explanation])).data()[0]["clip"]["frames"]
    assert [one["cell"] for one in frames] == [None, None], "none of the kept frames was seen"


def test_more_maps_take_no_more_room_each() -> None:
    sizes = {}
    for count in (2, 40):
        explanation = clip()
        explanation.targets = [Target(f"t{n}", "action", (n,)) for n in range(count)]
        explanation.scores, explanation.probabilities = torch.zeros(count), None
        explanation.maps = {MapKey("conv", "gradcam"): torch.rand(count, 3, GRID, GRID)}
        sizes[count] = Page(report_html([explanation])).data()[0]["clip"]["cell"]
    assert sizes[2][1] > sizes[40][1] >= 24


def test_it_trusts_no_text_and_is_the_same_each_time() -> None:
    hostile = "<script>alert('x')</script>\"'>"
    explanation = clip()
    explanation.targets[0] = Target(hostile, "action", (0,))
    explanation.picture = Picture(explanation.picture.pixels, hostile, explanation.picture.frames)
    html = report_html([explanation])
    assert html == report_html([explanation])
    page = Page(html)
    assert len(page.scripts) == 2 and "<script>alert" not in html
    for tag, attributes in page.elements:
        assert attributes.get("href", "#").startswith(("#", "data:image/")), (tag, attributes)


def test_the_notebook_shows_the_decisive_frames() -> None:
    page = Page(notebook_html(clip()))
    names = [image["alt"] for image in page.of("img")]
    assert names == ["jump", "importance of each frame", "fall", "importance of each frame"]
    assert "frame 2" in notebook_html(clip()) and "frame 17" in notebook_html(clip())
    still = np.asarray(decode(page.of("img")[2]["src"]).convert("L"), dtype=float)
    assert still[HEIGHT // 2, WIDTH // 2] == pytest.approx(170, abs=4), "frame 17 without heat in its middle"
    assert len(clip()._repr_html_()) < 100_000
