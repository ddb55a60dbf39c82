"""All maps of a photo at once, where they are: the same pictures as Pillow's, and nothing waits for the device."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from mmexplain.errors import InputError
from mmexplain.explanation import Explanation, MapKey
from mmexplain.geometry import Geometry
from mmexplain.methods import find
from mmexplain.picture import Picture
from mmexplain.render import overlay
from mmexplain.render.colors import rgba_table
from mmexplain.render.heat import quantile
from mmexplain.render.on_device import Canvas, over, under
from tests.render.conftest import GEOMETRIES, GRID, HEIGHT, WIDTH

KEYS = (("encoder.6", "gradcam"), ("fc", "cam"), ("input", "occlusion"), ("input", "input-x-gradient"))

SIDEWAYS = {
    **GEOMETRIES,
    "both": Geometry.identity(HEIGHT, WIDTH).resize(48, 72).crop(4, -9, 40, 60),
    "enlarged": Geometry.identity(HEIGHT, WIDTH).resize(480, 300),
    "unseen": Geometry.identity(HEIGHT, WIDTH).crop(-100, 0, 50, 50),
}


def noisy(make, name: str) -> Explanation:
    """Maps and a photo of noise."""
    found = make(geometry="squashed", keys=KEYS, pixels=True)
    found.geometry = SIDEWAYS[name]
    noise = torch.Generator().manual_seed(3)
    for key, values in found.maps.items():
        found.maps[key] = torch.randn(values.shape, generator=noise)
    photo = torch.randint(0, 256, (HEIGHT, WIDTH, 3), dtype=torch.uint8, generator=noise)
    found.picture = Picture(photo, None)
    return found


def by_pillow(found: Explanation, key: MapKey, number: int, alpha: float = 0.65) -> np.ndarray:
    """The picture worked out pixel by pixel in float64, and laid over the photo by Pillow: ``[h, w, 3]``."""
    method = find(key.method)
    pixels = key.method in found.pixel_methods
    raw = found.maps[key][number].double()
    raw = raw.where(raw.isfinite(), 0.0)
    if method.grainy and not pixels:
        limit = np.quantile(raw.abs().numpy(), 0.98)
        raw = raw.clamp(-limit, limit)
    raw = raw / raw.abs().max() if raw.any() else raw
    laid = found.geometry.to_original(raw).double().numpy()
    seen = found.geometry.seen().numpy()
    within = laid[..., seen]
    strength = np.abs(within)
    if pixels:
        limit = np.quantile(strength, 0.995) if seen.any() else 0.0
    else:
        flat = not seen.any() or within.max() - within.min() <= 1e-6 * strength.max()
        limit = 0.0 if flat else strength.max() if method.signed else max(within.max(), 0.0)
    shares = np.zeros_like(laid) if limit == 0 else np.clip(np.nan_to_num(laid) / limit, -1, 1)
    photo = found.picture.pixels.numpy()
    if pixels:
        colours = np.round((np.moveaxis(shares, 0, -1) + 1) * 127.5)
        rgba = np.concatenate([np.broadcast_to(colours, photo.shape), np.full((*seen.shape, 1), 255.0)], axis=2)
    elif method.signed:
        rgba = rgba_table(method.colormap or "fire-ice", True)[np.round((shares + 1) / 2 * 255).astype(int)]
    else:
        rgba = rgba_table("inferno", False)[np.round(shares.clip(0) * 255).astype(int)]
    rgba = rgba.astype(float)
    rgba[..., 3] = np.where(seen, np.round(rgba[..., 3] * (1.0 if pixels else alpha)), 0)
    hatched = np.zeros((*seen.shape, 4), np.uint8)
    for y, x in zip(*np.nonzero(~seen), strict=True):
        hatched[y, x] = (150, 153, 158, 165) if (x + y) % 6 == 0 else (52, 54, 58, 150)
    picture = Image.fromarray(photo).convert("RGBA")
    for layer in (rgba.astype(np.uint8), hatched):
        picture = Image.alpha_composite(picture, Image.fromarray(layer))
    return np.asarray(picture.convert("RGB")).astype(int)


def differences(found: Explanation, key: MapKey) -> np.ndarray:
    """By how much the pictures of a (layer, method) differ from Pillow's."""
    pictures = Canvas(found, key, found.picture.pixels).overlays().movedim(1, -1).numpy().astype(int)
    assert len(pictures) == len(found.targets)
    return np.abs(pictures - np.stack([by_pillow(found, key, number) for number in range(len(pictures))]))


@pytest.mark.parametrize("name", SIDEWAYS)
def test_the_pictures_are_pillows(make, name) -> None:
    found = noisy(make, name)
    for key in found.maps:
        wrong = differences(found, key)
        assert wrong.max() <= 2, f"{key} differs by {wrong.max()} levels"
        assert (wrong > 0).mean() < 0.01


@pytest.mark.parametrize("values", [0.0, 3.0, -2.0, torch.nan, torch.inf, -torch.inf], ids=str)
@pytest.mark.parametrize("name", ["cropped", "squashed"])
def test_maps_that_say_nothing_change_nothing(make, name, values) -> None:
    found = noisy(make, name)
    for key, maps in found.maps.items():
        maps[1] = values
        assert differences(found, key).max() <= 2
        seen = found.geometry.seen()
        picture = Canvas(found, key, found.picture.pixels).overlays(slice(1, 2))[0].movedim(0, -1)
        if key.method not in found.pixel_methods:
            assert (picture[seen] == found.picture.pixels[seen]).all()


@pytest.mark.parametrize("spoilt", [torch.nan, torch.inf, -torch.inf], ids=str)
def test_single_values_that_are_not_finite(make, spoilt) -> None:
    found = noisy(make, "padded")
    for key, maps in found.maps.items():
        maps[:, ..., 2, 3] = spoilt
        assert differences(found, key).max() <= 2


@pytest.mark.parametrize("dtype, scale", [(torch.float64, 1e-42), (torch.float32, 1e30), (torch.float16, 1.0)])
def test_maps_of_any_size_and_type(make, dtype, scale) -> None:
    found = noisy(make, "cropped")
    for key, maps in found.maps.items():
        found.maps[key] = (maps.double() * scale).to(dtype)
        assert differences(found, key).max() <= 2


def test_negative_maps_are_no_evidence(make) -> None:
    found = noisy(make, "squashed")
    key = found.key(method="gradcam")
    found.maps[key][:] = -1 - torch.rand(len(found.targets), GRID, GRID)
    pictures = Canvas(found, key, found.picture.pixels).overlays()
    assert (pictures.movedim(1, -1) == found.picture.pixels).all()


def test_one_or_all_at_once(make) -> None:
    found = noisy(make, "both")
    for key in found.maps:
        canvas = Canvas(found, key, found.picture.pixels)
        together = canvas.overlays(colormap="viridis", alpha=0.4, signed=False)
        apart = [canvas.overlays(slice(n, n + 1), colormap="viridis", alpha=0.4, signed=False) for n in range(6)]
        assert together.shape == (6, 3, HEIGHT, WIDTH) and together.dtype == torch.uint8
        assert (together == torch.cat(apart)).all()
        one = overlay(found, 2, key.layer, key.method, colormap="viridis", alpha=0.4, signed=False)
        assert (np.asarray(one) == together[2].movedim(0, -1).numpy()).all()


@pytest.mark.parametrize("alpha", [0.0, 0.31, 0.65, 1.0])
@pytest.mark.parametrize("colormap, kind", [("inferno", "evidence"), ("red-blue", "signed")])
def test_every_level_over_every_value_is_rounded_as_pillow_does(colormap, kind, alpha) -> None:
    photo = torch.arange(256, dtype=torch.uint8)[None, :, None].repeat(256, 1, 3)
    levels = torch.arange(256.0)[:, None].repeat(1, 256)
    table = np.array(rgba_table(colormap, kind == "signed"))
    table[:, 3] = np.round(table[:, 3] * alpha)
    painted = Image.fromarray(table[levels.int().numpy()])
    expected = Image.alpha_composite(Image.fromarray(photo.numpy()).convert("RGBA"), painted).convert("RGB")
    found = over(under(photo), levels[None], colormap, kind, alpha)[0].movedim(0, -1)
    assert (found.numpy() == np.asarray(expected)).all()


@pytest.mark.parametrize("name", SIDEWAYS)
def test_no_value_is_read_on_the_way(make, name) -> None:
    """Tensors of the device "meta" have no values: whatever would wait for one of them fails."""
    found = noisy(make, name)
    for key, maps in list(found.maps.items()):
        found.maps[key] = maps.to("meta")
        pictures = Canvas(found, key, found.picture.pixels).overlays()
        assert pictures.is_meta and pictures.shape == (6, 3, HEIGHT, WIDTH)
    with pytest.raises(NotImplementedError):
        pictures.cpu()


def test_what_cannot_be_is_refused(make) -> None:
    found = noisy(make, "squashed")
    canvas = Canvas(found, found.key(), found.picture.pixels)
    with pytest.raises(InputError, match=r"opacity 1.5"):
        canvas.overlays(alpha=1.5)
    with pytest.raises(InputError, match="'inferrno'; closest: 'inferno'"):
        canvas.overlays(colormap="inferrno")


@pytest.mark.parametrize("count", [1, 2, 3, 199, 200, 201, 5000])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.98, 0.995, 1.0])
def test_quantiles_are_numpys(count, share) -> None:
    values = torch.rand(3, count, dtype=torch.float64, generator=torch.Generator().manual_seed(count))
    np.testing.assert_allclose(quantile(values, share), np.quantile(values.numpy(), share, axis=1), rtol=1e-12)


@pytest.mark.cuda
@pytest.mark.parametrize("name", SIDEWAYS)
def test_a_gpu_draws_the_same_and_is_not_waited_for(make, name) -> None:
    found = noisy(make, name)
    expected = {key: Canvas(found, key, found.picture.pixels).overlays() for key in found.maps}
    for key, maps in list(found.maps.items()):
        found.maps[key] = maps.cuda()
        Canvas(found, key, found.picture.pixels).overlays()  # loads what is loaded but once
        torch.cuda.set_sync_debug_mode("error")
        try:
            pictures = Canvas(found, key, found.picture.pixels).overlays()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert pictures.is_cuda
        assert (pictures.cpu().int() - expected[key].int()).abs().max() <= 2
