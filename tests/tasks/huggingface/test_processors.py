"""The closed forms of image processors against what they do to a photo whose pixels are its coordinates."""

import numpy as np
import pytest
import torch
import transformers as hf
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil

from mmexplain.errors import InputError, ModelError
from mmexplain.geometry import Geometry
from mmexplain.io import load_image
from mmexplain.preprocess import PhotoPreprocess
from mmexplain.tasks.huggingface.processors import ProcessorPreprocess, geometry_of
from tests.tasks.huggingface import tiny

SIZES = [(60, 41), (41, 61), (33, 50), (30, 22), (100, 30), (48, 48)]
CROP = {"height": 32, "width": 32}
PROCESSORS = {
    "squash": hf.ViTImageProcessor(size={"height": 30, "width": 40}),
    "squash and crop": hf.DeiTImageProcessor(size={"height": 40, "width": 44}, crop_size=CROP),
    "shorter and crop": hf.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=CROP),
    "shorter and crop, Pillow": CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=CROP),
    "shorter, no crop": hf.CLIPImageProcessor(size={"shortest_edge": 32}, do_center_crop=False),
    "crop alone": hf.CLIPImageProcessor(do_resize=False, crop_size={"height": 20, "width": 15}),
    "pad": hf.CLIPImageProcessor(do_resize=False, crop_size={"height": 75, "width": 64}),
    "pad, Pillow": CLIPImageProcessorPil(do_resize=False, crop_size={"height": 75, "width": 64}),
    "both sides bounded": hf.ViTImageProcessor(size={"shortest_edge": 32, "longest_edge": 64}),
    "within": hf.ViTImageProcessor(size={"max_height": 32, "max_width": 48}),
    "convnext": hf.ConvNextImageProcessor(size={"shortest_edge": 32}),
    "convnext, Pillow": ConvNextImageProcessorPil(size={"shortest_edge": 32}),
    "convnext, large": hf.ConvNextImageProcessor(size={"shortest_edge": 384}),
    "blip": hf.BlipImageProcessor(size=CROP),
    "siglip": hf.SiglipImageProcessor(size=CROP),
}


@pytest.mark.parametrize("name", PROCESSORS)
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_coordinates_come_out_where_the_geometry_says(name, width, height):
    processor = PROCESSORS[name]
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32) + 0.5
    ramp = np.stack([columns, rows, np.ones_like(rows)])
    plain = {"do_rescale": False, "do_normalize": False, "do_convert_rgb": False, "return_tensors": "pt"}
    # Pillow takes bytes: twice a coordinate is a whole number.
    pillow = processor.backend == "pil"
    given = (ramp * 2).astype(np.uint8) if pillow else torch.from_numpy(ramp)
    made = processor(given, input_data_format="channels_first", **plain)["pixel_values"][0].float() / (1 + pillow)
    geometry = geometry_of(processor, (height, width))
    assert tuple(made.shape[1:]) == geometry.input
    y, x = np.mgrid[0 : geometry.input[0], 0 : geometry.input[1]] + 0.5
    expected_x, expected_y = geometry.point_to_original(torch.from_numpy(x), torch.from_numpy(y))
    inside = (expected_x > 3) & (expected_x < width - 3) & (expected_y > 3) & (expected_y < height - 3)
    assert inside.any()
    assert float((made[0] - expected_x)[inside].abs().max()) < (0.5 if pillow else 0.2)
    assert float((made[1] - expected_y)[inside].abs().max()) < (0.5 if pillow else 0.2)
    # What is padded is black, and not seen.
    beyond = (expected_x < -1) | (expected_x > width + 1) | (expected_y < -1) | (expected_y > height + 1)
    assert float(made[2][beyond].abs().sum()) == 0


@pytest.mark.parametrize("name", PROCESSORS)
def test_pixels_are_the_processors_own(name):
    processor, photo = PROCESSORS[name], tiny.photo(61, 43)
    preprocess = ProcessorPreprocess(processor)
    pixels, geometry = preprocess(load_image(photo))
    assert torch.equal(pixels, processor(photo, return_tensors="pt")["pixel_values"][0].float())
    assert geometry == geometry_of(processor, (43, 61)) and geometry.original == (43, 61)
    assert isinstance(preprocess, PhotoPreprocess)
    record = preprocess.to_dict()
    assert record["image_mean"] == list(processor.image_mean)


def test_black_and_size():
    preprocess = ProcessorPreprocess(hf.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=CROP))
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # as CLIP's paper has it
    assert preprocess.black == pytest.approx([-m / s for m, s in zip(mean, std, strict=True)], rel=1e-5)
    assert preprocess.size == (32, 32)


def test_a_reduced_photo_keeps_its_own_geometry():
    start = Geometry.identity(120, 200).resize(60, 100)
    found = geometry_of(PROCESSORS["shorter and crop"], start)
    assert found.original == (120, 200) and found.input == (32, 32)
    assert found.box == pytest.approx((200 * 10 / 53, 0, 200 * 42 / 53, 120))


@pytest.mark.parametrize(
    ("processor", "step"),
    [
        (hf.DonutImageProcessor(), "align_long_axis|thumbnail"),
        (hf.Idefics3ImageProcessor(), "do_image_splitting"),
        (hf.LlavaNextImageProcessor(), "image_grid_pinpoints"),
        (hf.DPTImageProcessor(), "resizing by a rule of its own"),
    ],
)
def test_other_steps_are_refused_by_name(processor, step):
    with pytest.raises(ModelError, match=step):
        geometry_of(processor, (60, 100))


def test_photos_that_are_too_narrow():
    with pytest.raises(InputError, match="too narrow"):
        geometry_of(PROCESSORS["both sides bounded"], (1, 1000))
    preprocess = ProcessorPreprocess(PROCESSORS["both sides bounded"])
    with pytest.raises(InputError, match="too narrow"):
        preprocess(Image.new("RGB", (1000, 1)))
