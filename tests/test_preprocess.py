"""Preprocess against torchvision's and timm's own transforms."""

import json

import numpy as np
import pytest
import timm.data
import torch
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize, ToTensor
from torchvision.transforms._presets import ImageClassification, VideoClassification

from mmexplain.errors import InputError, ModelError
from mmexplain.io import Photo
from mmexplain.preprocess import Preprocess

SIZES = [(333, 501), (501, 333), (224, 224), (97, 411), (256, 257), (31, 47), (1, 9)]


def photo(height, width):
    """Smooth colours with grain, as photos have."""
    generator = np.random.default_rng(height * width)
    y, x = np.mgrid[:height, :width] / max(height, width)
    waves = np.stack([np.sin(9 * x + 3 * y), np.cos(5 * x - 7 * y), np.sin(20 * x * y)], -1)
    pixels = 128 + 90 * waves + generator.normal(0, 20, (height, width, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "preset",
    [
        ImageClassification(crop_size=224),
        ImageClassification(crop_size=224, resize_size=232, interpolation=InterpolationMode.BICUBIC),
        ImageClassification(crop_size=299, resize_size=100, mean=(0.5, 0.4, 0.3), std=(0.1, 0.2, 0.3)),
        ImageClassification(crop_size=65, resize_size=64, interpolation=InterpolationMode.NEAREST),
    ],
    ids=["bilinear", "bicubic", "padded", "nearest"],
)
def test_equal_to_torchvision(preset, size):
    image = photo(*size)
    tensor, geometry = Preprocess.from_torchvision(preset)(image)
    assert torch.equal(tensor, preset(image))
    assert geometry.input == tuple(tensor.shape[1:]) and geometry.original == size


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "preset",
    [
        VideoClassification(crop_size=(112, 112), resize_size=(128, 171)),
        VideoClassification(crop_size=(224, 224), resize_size=(256,), mean=(0.45,) * 3, std=(0.225,) * 3),
        VideoClassification(crop_size=(9, 9), resize_size=(7, 8), interpolation=InterpolationMode.BICUBIC),
    ],
    ids=["squash", "crop", "bicubic"],
)
def test_frames_are_prepared_as_torchvision_prepares_videos(preset, size):
    image = photo(*size)
    tensor, geometry = Preprocess.from_torchvision(preset)(image)
    clip = preset(torch.from_numpy(np.array(image)).permute(2, 0, 1)[None])
    assert torch.equal(tensor, clip[:, 0])
    assert geometry.input == tuple(tensor.shape[1:]) and geometry.original == size


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "config",
    [
        {"input_size": (3, 224, 224), "interpolation": "bicubic", "mean": (0.5,) * 3, "std": (0.5,) * 3}
        | {"crop_pct": 0.875, "crop_mode": "center"},
        {"input_size": (3, 240, 240), "interpolation": "bilinear", "mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.4)}
        | {"crop_pct": 1.0, "crop_mode": "squash"},
        {"input_size": (3, 160, 128), "interpolation": "bicubic", "mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.4)}
        | {"crop_pct": 0.95, "crop_mode": "squash"},
    ],
    ids=["centre", "squash", "squash and crop"],
)
def test_equal_to_timm(config, size):
    image = photo(*size)
    tensor, _ = Preprocess.from_timm(config)(image)
    assert torch.equal(tensor, timm.data.create_transform(**config, is_training=False)(image))


@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0", "vit_tiny_patch16_224", "convnext_atto"])
def test_equal_to_timm_models(name):
    config = timm.data.resolve_data_config({}, pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    image = photo(301, 477)
    tensor, _ = Preprocess.from_timm(config)(image)
    assert torch.equal(tensor, timm.data.create_transform(**config, is_training=False)(image))


def test_timm_modes_that_are_not_supported_say_so():
    config = timm.data.resolve_data_config({"img_size": 224})
    with pytest.raises(ModelError, match="'border'"):
        Preprocess.from_timm(config | {"crop_mode": "border"})
    with pytest.raises(ModelError, match="160×128"):
        Preprocess.from_timm(config | {"input_size": (3, 160, 128)})
    with pytest.raises(ModelError, match=r"'lanczos'.*bicubic"):
        Preprocess.from_timm(config | {"interpolation": "lanczos"})
    with pytest.raises(ModelError, match="Compose"):
        Preprocess.from_torchvision(Compose([ToTensor()]))


def test_every_preset_of_torchvision_is_understood():
    from torchvision import models

    for name in [*models.list_models(module=models), *models.list_models(module=models.video)]:
        transforms = models.get_model_weights(name).DEFAULT.transforms()
        preprocess = Preprocess.from_torchvision(transforms)
        assert preprocess.crop == (transforms.crop_size[0],) * 2


def test_the_caffe_style_of_normalisation():
    image = photo(40, 40)
    preprocess = Preprocess(mean=(127 / 255,) * 3, std=(128 / 255,) * 3)
    expected = (torch.from_numpy(np.array(image)).permute(2, 0, 1).float() - 127) / 128
    torch.testing.assert_close(preprocess(image)[0], expected, atol=1e-6, rtol=0)
    raw = Preprocess(scale=255.0)
    torch.testing.assert_close(raw(image)[0], torch.from_numpy(np.array(image)).permute(2, 0, 1).float())


@pytest.mark.parametrize("size", SIZES[:-1])
@pytest.mark.parametrize(
    "preprocess", [Preprocess(256, (224, 224)), Preprocess((224, 160)), Preprocess(100, (120, 90))]
)
def test_geometry_says_where_every_input_pixel_came_from(preprocess, size):
    """The photo's own coordinates as its colours must arrive at the places that the geometry tells."""
    height, width = size
    y, x = np.mgrid[:height, :width] + 0.5
    geometry = preprocess(photo(*size))[1]
    resized = preprocess.resized(*size)
    transform = Compose([Resize(resized, antialias=True), CenterCrop(preprocess.crop or resized)])
    coordinates = transform(torch.from_numpy(np.stack([x, y])))
    h, w = geometry.input
    rows, columns = torch.meshgrid(torch.arange(h) + 0.5, torch.arange(w) + 0.5, indexing="ij")
    expected = torch.stack(geometry.point_to_original(columns, rows))
    # A filter of few taps keeps a ramp to a few hundredths of a pixel, is one-sided at the photo's borders, and
    # there is nothing to compare with in the padding.
    margin = max(height / resized[0], width / resized[1], 1.0) * 2
    left, top, right, bottom = geometry.visible
    inner = (expected[0] > left + margin) & (expected[0] < right - margin)
    inner &= (expected[1] > top + margin) & (expected[1] < bottom - margin)
    inner &= (coordinates > 0).all(0)
    assert inner.any()
    assert (coordinates - expected)[:, inner].abs().max() < 0.05 * margin


def test_reduced_photos_keep_the_original_pixels():
    preprocess = Preprocess(64, (56, 56))
    _, geometry = preprocess(Photo(photo(100, 200), (300, 600)))
    assert geometry == preprocess(photo(300, 600))[1]


def test_survives_json():
    for preprocess in (
        Preprocess(),
        Preprocess(256, (224, 224), "bicubic", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), 2.0),
        Preprocess((3, 4)),
    ):
        assert Preprocess.from_dict(json.loads(json.dumps(preprocess.to_dict()))) == preprocess


def test_photos_that_cannot_be_preprocessed():
    with pytest.raises(InputError, match="mode 'L'"):
        Preprocess()(Image.new("L", (5, 5)))
    with pytest.raises(InputError, match="20000×1 pixels is too narrow"):
        Preprocess(256, (224, 224))(Image.new("RGB", (20_000, 1)))


def test_the_same_as_a_hand_written_pipeline():
    image = photo(123, 321)
    transform = Compose([Resize((64, 96)), ToTensor(), Normalize((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))])
    tensor, geometry = Preprocess((64, 96), mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))(image)
    assert torch.equal(tensor, transform(image))
    assert geometry.box == (0, 0, 321, 123)
