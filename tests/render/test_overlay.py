"""A map lands on the pixels it is about; the photo stays legible elsewhere; the unseen is never painted as zero."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from mmexplain.errors import InputError, LayerError, MethodError, TargetError
from mmexplain.explanation import Explanation, MapKey
from mmexplain.render import heatmap_rgba, overlay
from mmexplain.render.heat import heat


def cell_centre(explanation: Explanation, row: int, column: int, grid: int = 6) -> tuple[float, float]:
    """(x, y) of a map cell's centre in the photo, worked out from the input's box alone."""
    left, top, right, bottom = explanation.geometry.box
    return left + (column + 0.5) / grid * (right - left), top + (row + 0.5) / grid * (bottom - top)


@pytest.mark.parametrize("row,column", [(2, 1), (3, 4), (2, 3)])
def test_a_one_hot_map_is_brightest_where_its_cell_lies(make, geometry_name, row, column) -> None:
    explanation = make(geometry=geometry_name, spots={1: (row, column)})
    x, y = cell_centre(explanation, row, column)
    alpha = np.asarray(heatmap_rgba(explanation, "dog", alpha=1.0).split()[3], dtype=float)
    # The opacity saturates near the peak: the middle of the saturated patch is the place.
    rows, columns = np.nonzero(alpha == alpha.max())
    assert abs(columns.mean() + 0.5 - x) <= 1.5 and abs(rows.mean() + 0.5 - y) <= 1.5

    photo = explanation.picture.pixels.numpy().astype(int)
    painted = np.asarray(overlay(explanation, "dog")).astype(int)
    change = np.abs(painted - photo).sum(axis=2)
    seen = explanation.geometry.seen().numpy()
    change[~seen] = 0
    assert change[int(y), int(x)] > 60
    far = np.hypot(np.arange(90)[None] + 0.5 - x, np.arange(60)[:, None] + 0.5 - y) > 32
    assert change[far & seen].max() == 0


def test_the_unseen_is_clear_in_the_layer_and_hatched_in_the_overlay(make) -> None:
    explanation = make(geometry="cropped")
    seen = explanation.geometry.seen().numpy()
    assert 0 < seen.mean() < 1
    assert (np.asarray(heatmap_rgba(explanation, 0))[~seen][:, 3] == 0).all()
    painted = np.asarray(overlay(explanation, 0))
    assert len(np.unique(painted[~seen].reshape(-1, 3), axis=0)) >= 2, "a veil and lines"
    assert not (painted[~seen] == 128).all(axis=1).any()


def test_nothing_is_hatched_where_all_was_seen(make) -> None:
    explanation = make(geometry="squashed")
    explanation.maps[explanation.key()][:] = 0
    assert (np.asarray(overlay(explanation, 0)) == 128).all(), "a flat map over a fully seen photo changes nothing"


def test_size_alpha_and_colour_map(make) -> None:
    explanation = make()
    picture = overlay(explanation, "dog", size=(30, 45))
    assert isinstance(picture, Image.Image) and picture.size == (45, 30) and picture.mode == "RGB"
    assert heatmap_rgba(explanation, "dog", size=(30, 45)).mode == "RGBA"
    seen = explanation.geometry.seen().numpy()
    assert (np.asarray(overlay(explanation, "dog", alpha=0))[seen] == 128).all()
    half, full = (np.asarray(heatmap_rgba(explanation, 0, alpha=a))[..., 3].max() for a in (0.5, 1.0))
    assert (half, full) == (128, 255)
    assert overlay(explanation, 0, colormap="viridis").tobytes() != overlay(explanation, 0).tobytes()


def test_what_does_not_exist_is_said_in_one_line(make) -> None:
    explanation = make()
    with pytest.raises(TargetError, match="'dgo' is not among the explained targets"):
        overlay(explanation, "dgo")
    with pytest.raises(MethodError):
        overlay(explanation, 0, method="magic")
    with pytest.raises(LayerError):
        overlay(explanation, 0, layer="nowhere")
    with pytest.raises(InputError, match="unknown colour map 'inferrno'; closest: 'inferno'"):
        overlay(explanation, 0, colormap="inferrno")
    with pytest.raises(InputError, match=r"opacity 1.5 is not between 0 and 1"):
        overlay(explanation, 0, alpha=1.5)


def test_evidence_is_the_positive_part_over_its_maximum(make) -> None:
    explanation = make(geometry="squashed", spots={0: (2, 2)})
    raw = explanation.maps[MapKey("encoder.6", "gradcam")]
    raw[0, 5, 5] = -7
    shown = heat(explanation, 0)
    assert shown.kind == "evidence" and shown.note is None
    assert shown.values.min() == 0 and shown.values.max() == 1


def test_signed_maps_are_scaled_symmetrically(make) -> None:
    explanation = make(geometry="squashed", keys=(("fc", "cam"),), spots={0: (2, 2)})
    explanation.maps[MapKey("fc", "cam")][0, 5, 5] = -4.0
    shown = heat(explanation, 0)
    assert shown.kind == "signed", "the registry says that CAM is signed"
    assert shown.values.min() == pytest.approx(-1)
    assert shown.values.max() == pytest.approx(0.5, abs=0.05), "2 against 4, read between the cells' centres"
    assert heat(explanation, 0, signed=False).kind == "evidence"
    against = np.asarray(heatmap_rgba(explanation, 0))[-1, -1]
    toward = np.asarray(heatmap_rgba(explanation, 0))[25, 37]
    assert against[2] > against[0] and toward[0] > toward[2], "blue against, red for"


def test_occlusion_is_blue_for_evidence_and_red_for_confusion(make) -> None:
    """As Fig. A5 of the Grad-CAM paper has it: the other way round than maps of other signed methods."""
    explanation = make(geometry="squashed", keys=(("input", "occlusion(patch=15)"), ("fc", "cam")), spots={0: (2, 2)})
    for values in explanation.maps.values():
        values[0, 5, 5] = -2.0
    for method, toward, against in (("occlusion(patch=15)", 2, 0), ("cam", 0, 2)):
        picture = np.asarray(heatmap_rgba(explanation, 0, method=method))
        evidence, confusion = picture[25, 37], picture[-1, -1]
        assert evidence[toward] > evidence[against] + 50 and evidence[3] > 200
        assert confusion[against] > confusion[toward] + 50 and confusion[3] > 200
    assert heat(explanation, 0, method="occlusion(patch=15)").colormap == "red-blue"
    own = heatmap_rgba(explanation, 0, method="occlusion(patch=15)", colormap="fire-ice")
    assert own.tobytes() == heatmap_rgba(explanation, 0, method="cam").tobytes(), "what the caller names comes first"
    positive = np.asarray(heatmap_rgba(explanation, 0, method="occlusion(patch=15)", signed=False))
    assert positive[-1, -1, 3] == 0 and positive[25, 37, 0] > positive[25, 37, 2], (
        "evidence alone has evidence's colours"
    )


def test_the_reports_legend_has_the_methods_colours(make) -> None:
    from mmexplain.render.colors import css_gradient
    from mmexplain.render.report import report_html
    from mmexplain.render.view import view

    explanation = make(keys=(("input", "occlusion"), ("fc", "cam"), ("fc", "gradcam")))
    maps = view(explanation, 0)["maps"]
    assert [made["ramp"] for made in maps] == [css_gradient("red-blue", True), "", ""]
    assert css_gradient("red-blue", True) in report_html([explanation])


def test_pixel_maps_are_grey_centred_colour_images(make) -> None:
    explanation = make(geometry="squashed", pixels=True)
    maps = explanation.maps[MapKey("input", "guided-backprop")]
    maps[0] = 0
    maps[0, 0, 10:20, 10:20] = 3.0
    picture = np.asarray(overlay(explanation, 0, method="guided-backprop"))
    assert tuple(picture[50, 80]) in {(127, 127, 127), (128, 128, 128)}
    red = picture[18, 28]
    assert red[0] == 255 and red[1] in (127, 128) and red[2] in (127, 128)


@pytest.mark.parametrize(
    "values,note",
    [
        (torch.zeros(6, 6), "flat map: zero everywhere"),
        (torch.full((6, 6), 3.0), "flat map: the same everywhere"),
        (torch.full((6, 6), -3.0).index_put((torch.tensor(0), torch.tensor(0)), torch.tensor(-1.0)), "no evidence"),
        (torch.full((6, 6), torch.nan), "the whole map is NaN or infinite"),
        (torch.full((6, 6), torch.inf), "the whole map is NaN or infinite"),
    ],
)
def test_maps_that_say_nothing_paint_nothing_and_say_so(make, values, note) -> None:
    explanation = make()
    explanation.maps[explanation.key()][0] = values
    shown = heat(explanation, 0)
    assert shown.note is not None and shown.note.startswith(note)
    assert not shown.values.any()
    assert np.asarray(heatmap_rgba(explanation, 0))[..., 3].max() == 0


def test_a_single_nan_is_told_but_does_not_hide_the_map(make) -> None:
    explanation = make(geometry="squashed")
    explanation.maps[explanation.key()][0, 5, 0] = torch.nan
    shown = heat(explanation, 0)
    assert shown.note == "1 of 36 values are NaN or infinite"
    assert shown.values.max() == 1 and np.isfinite(shown.values).all() and shown.seen.all()


@pytest.mark.parametrize("scale", [1e-42, 1e-30, 1e30])
def test_the_scale_of_a_map_does_not_matter(make, scale) -> None:
    explanation = make()
    before = heat(explanation, 1).values
    explanation.maps[explanation.key()] = explanation.maps[explanation.key()].double() * scale
    after = heat(explanation, 1)
    assert after.note is None and np.allclose(after.values, before, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_maps(make, dtype) -> None:
    explanation = make()
    explanation.maps[explanation.key()] = explanation.maps[explanation.key()].to(dtype)
    assert heat(explanation, 1).values.max() == 1
