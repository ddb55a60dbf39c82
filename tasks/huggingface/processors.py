"""Image processors of transformers: their own pixels, and how these lie over the photo."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from PIL import Image
from torch import Tensor

from mmexplain.errors import InputError, ModelError
from mmexplain.geometry import Geometry, Size
from mmexplain.io import Photo
from mmexplain.tasks.huggingface.checkpoint import quiet

_PLAIN = ("resize", "center_crop", "pad")
_STILL = (
    "rescale",
    "normalize",
    "convert_rgb",
    "flip_channel_order",
    "reduce_labels",
    "convert_annotations",
    "sample_frames",
)
_HARMLESS = frozenset((*_PLAIN, *_STILL))
"""Steps ``do_...`` of image processors that are reckoned with here, or that move no pixel."""

_WARPED = 384
"""ConvNeXt's processor squashes to a square of that side or more, and crops for smaller ones."""


def geometry_of(image_processor: Any, size: Size | Geometry) -> Geometry:
    """How the pixels of an image processor lie over a photo: the closed form of resizing, centre crop and padding.

    Args:
        image_processor: of transformers, either backend.
        size: ``(H, W)`` of the photo, or how the photo that is handed over lies over its file.

    Raises:
        ModelError: it does something else (cuts tiles, turns the photo, resizes by a rule of its own).
        InputError: the photo is so narrow that nothing would be left of a side.
    """
    geometry = size if isinstance(size, Geometry) else Geometry.identity(*size)
    _require_plain(image_processor)
    if _said(image_processor, "do_resize"):
        height, width = _resized(image_processor, geometry.input)
        if min(height, width) < 1:
            raise InputError(f"the photo of {geometry.original[1]}×{geometry.original[0]} pixels is too narrow")
        geometry = geometry.resize(height, width)
    if _crops_on_resizing(image_processor):
        geometry = _cropped(image_processor, geometry, (image_processor.size.shortest_edge,) * 2)
    if _said(image_processor, "do_center_crop"):
        crop = image_processor.crop_size
        geometry = _cropped(image_processor, geometry, (crop.height, crop.width))
    pad = getattr(image_processor, "pad_size", None)
    if _said(image_processor, "do_pad") and pad is not None and pad.height and pad.width:
        geometry = geometry.crop(0, 0, pad.height, pad.width)
    return geometry


class ProcessorPreprocess:
    """Photo → the pixels that an image processor of transformers makes of it, with their geometry.

    Args:
        image_processor: of transformers.
    """

    def __init__(self, image_processor: Any) -> None:
        self.image_processor = image_processor
        self._black: tuple[float, ...] | None = None

    def __call__(self, photo: Photo | Image.Image) -> tuple[Tensor, Geometry]:
        """One photo (upright RGB) as the model's input.

        Returns:
            ``[3, h, w]`` float32, ``image_processor(image)["pixel_values"][0]``, and how it lies over the original.

        Raises:
            InputError: the photo is too narrow for the processor.
            ModelError: the processor does something that has no closed form here.
        """
        image = photo.image if isinstance(photo, Photo) else photo
        start = photo.geometry if isinstance(photo, Photo) else Geometry.identity(image.height, image.width)
        geometry = geometry_of(self.image_processor, start)
        pixels = self.pixels(image)
        if tuple(pixels.shape[-2:]) != geometry.input:
            made, known = ("×".join(map(str, size[::-1])) for size in (tuple(pixels.shape[-2:]), geometry.input))
            raise ModelError(
                f"{type(self.image_processor).__name__} makes {made} pixels where its settings tell of {known}: it "
                "does more than resize, crop and pad"
            )
        return pixels, geometry

    def pixels(self, image: Image.Image) -> Tensor:
        """What the processor makes of one photo, ``[3, h, w]`` float32."""
        made = self.made(image)["pixel_values"]
        if made.ndim != 4:
            raise ModelError(f"{type(self.image_processor).__name__} makes {list(made.shape)} of one photo")
        found: Tensor = made[0].float()
        return found

    def made(self, image: Image.Image) -> Any:
        """All that the processor makes of one photo, by name."""
        try:
            with quiet():
                return self.image_processor(images=[image], return_tensors="pt")
        except (ValueError, RuntimeError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise InputError(
                f"{type(self.image_processor).__name__} cannot take a photo of {image.width}×{image.height} pixels: "
                f"{reason:.200}"
            ) from error

    @property
    def size(self) -> Size:
        """``(h, w)`` of the input of a square photo."""
        return geometry_of(self.image_processor, (224, 224)).input

    @property
    def black(self) -> Sequence[float]:
        """What a black pixel becomes, for each channel."""
        if self._black is None:
            side = max(*self.size, 8)
            self._black = tuple(self.pixels(Image.new("RGB", (side, side)))[:, side // 4, side // 4].tolist())
        return self._black

    def to_dict(self) -> dict[str, Any]:
        """The processor's own settings, JSON-able."""
        record: dict[str, Any] = json.loads(self.image_processor.to_json_string())
        return record


def _said(processor: Any, name: str) -> bool:
    return bool(getattr(processor, name, False))


def _crops_on_resizing(processor: Any) -> bool:
    """Whether it is ConvNeXt's, which crops what it has resized."""
    edge = getattr(processor.size, "shortest_edge", None) if _said(processor, "do_resize") else None
    return edge is not None and edge < _WARPED and _is_convnext(processor)


def _require_plain(processor: Any) -> None:
    """Raise a ModelError for a step that has no closed form here."""
    name = type(processor).__name__
    steps = [step for step in dir(processor) if step.startswith("do_") and _said(processor, step)]
    unknown = [step for step in steps if step.removeprefix("do_") not in _HARMLESS]
    unknown += [step for step in ("crop_to_patches", "image_grid_pinpoints") if _said(processor, step)]
    if _said(processor, "do_resize") and not _is_convnext(processor) and not _ordinary_resize(processor):
        unknown.append("resizing by a rule of its own")
    if unknown:
        raise ModelError(
            f"{name} does more to a photo than to resize, crop and pad it ({', '.join(unknown)}), so places in its "
            "input cannot be found in the photo"
        )


def _ordinary_resize(processor: Any) -> bool:
    from transformers.image_processing_backends import PilBackend, TorchvisionBackend

    return getattr(type(processor), "resize", None) in (PilBackend.resize, TorchvisionBackend.resize)


def _is_convnext(processor: Any) -> bool:
    from transformers.models.convnext.image_processing_convnext import ConvNextImageProcessor
    from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil

    return getattr(type(processor), "resize", None) in (ConvNextImageProcessor.resize, ConvNextImageProcessorPil.resize)


def _resized(processor: Any, size: Size) -> Size:
    """``(h, w)`` that a photo of ``size`` is resized to."""
    from transformers.image_transforms import get_size_with_aspect_ratio
    from transformers.image_utils import get_image_size_for_max_height_width

    wanted = processor.size
    if _is_convnext(processor):
        edge = wanted.shortest_edge
        return (edge, edge) if edge >= _WARPED else _by_shorter(size, int(edge / processor.crop_pct))
    if wanted.shortest_edge and wanted.longest_edge:
        height, width = get_size_with_aspect_ratio(size, wanted.shortest_edge, wanted.longest_edge)
        return height, width
    if wanted.shortest_edge:
        return _by_shorter(size, wanted.shortest_edge)
    if wanted.max_height and wanted.max_width:
        height, width = get_image_size_for_max_height_width(size, wanted.max_height, wanted.max_width)
        return height, width
    return wanted.height, wanted.width


def _by_shorter(size: Size, shorter: int) -> Size:
    """The shorter side scaled to ``shorter``, the other along with it, rounded down."""
    height, width = size
    longer = int(shorter * max(size) / min(size))
    return (longer, shorter) if width <= height else (shorter, longer)


def _cropped(processor: Any, geometry: Geometry, crop: Size) -> Geometry:
    """Cut out at the centre; a photo that is smaller is padded with black first, and by the two backends unlike."""
    up = getattr(processor, "backend", "torchvision") == "pil"
    starts = []
    for have, want in zip(geometry.input, crop, strict=True):
        over = want - have
        starts.append(-((over + up) // 2) if over > 0 else (have - want) // 2)
    return geometry.crop(starts[0], starts[1], *crop)
