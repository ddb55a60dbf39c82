"""How a photo becomes a model's input, with the record of where every input pixel came from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from mmexplain.errors import InputError, ModelError
from mmexplain.geometry import Geometry, Size
from mmexplain.io import Photo

Interpolation = Literal["nearest", "bilinear", "bicubic"]
Colour = tuple[float, float, float]

_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
# The shorter side is scaled before the crop, so a photo of 1×10,000 would become 224×2,240,000 on the way.
_MAX_RESIZED = 64_000_000


@runtime_checkable
class PhotoPreprocess(Protocol):
    """How a photo becomes a model's input: :class:`Preprocess`, or another library's way with a record of it."""

    def __call__(self, photo: Photo | Image.Image) -> tuple[Tensor, Geometry]:
        """One photo (upright RGB) → ``[C, h, w]`` float32, and how it lies over the original."""

    @property
    def size(self) -> Size:
        """``(h, w)`` of the input; some usual one where it follows the photo's."""

    @property
    def black(self) -> Sequence[float]:
        """What a black pixel becomes, for each channel."""

    def to_dict(self) -> dict[str, Any]:
        """What was done to the photo, JSON-able."""


@dataclass(frozen=True)
class Preprocess:
    """Resize, crop at the centre, normalise: ``(pixel / 255 − mean) / std · scale``.

    Attributes:
        resize: None, the length of the shorter side (the other follows, rounded down as torchvision does), or
            ``(h, w)``, to which the photo is squashed.
        crop: None, or ``(h, w)`` cut out at the centre, black beyond a photo that is smaller.
        interpolation: how ``resize`` resamples.
        antialias: with Pillow's filters, which widen as the photo shrinks; without, between the nearest pixels alone,
            as the video models of torchvision are evaluated.
        mean: per channel, of values from 0 to 1.
        std: per channel, of values from 0 to 1.
        scale: factor on the normalised values.
    """

    resize: int | Size | None = None
    crop: Size | None = None
    interpolation: Interpolation = "bilinear"
    mean: Colour = (0.0, 0.0, 0.0)
    std: Colour = (1.0, 1.0, 1.0)
    scale: float = 1.0
    antialias: bool = True

    def __post_init__(self) -> None:
        if self.interpolation not in _RESAMPLING:
            known = ", ".join(get_args(Interpolation))
            raise ModelError(f"interpolation {self.interpolation!r} is not supported; there are: {known}")

    def __call__(self, photo: Photo | Image.Image) -> tuple[Tensor, Geometry]:
        """One photo (upright RGB) as the model's input.

        Returns:
            ``[3, h, w]`` float32, and how it lies over the original.

        Raises:
            InputError: the image is not RGB, or far too narrow to be resized.
        """
        if isinstance(photo, Photo):
            image, geometry = photo.image, photo.geometry
        else:
            image, geometry = photo, Geometry.identity(photo.height, photo.width)
        if image.mode != "RGB":
            raise InputError(f"preprocessing takes an RGB image, got mode {image.mode!r}; use load_image first")
        if self.resize is not None:
            height, width = self.resized(image.height, image.width)
            if height * width > _MAX_RESIZED:
                size = f"{geometry.original[1]}×{geometry.original[0]}"
                raise InputError(f"the photo of {size} pixels is too narrow for the model; cut out a part of it")
            image = self._resample(image, height, width)
            geometry = geometry.resize(height, width)
        if self.crop is not None:
            height, width = self.crop
            top, left = _centred(image.height, height), _centred(image.width, width)
            image = image.crop((left, top, left + width, top + height))
            geometry = geometry.crop(top, left, height, width)
        values = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div_(255)
        mean, std = (torch.tensor(colour).view(3, 1, 1) for colour in (self.mean, self.std))
        values.sub_(mean).div_(std)
        return values if self.scale == 1.0 else values.mul_(self.scale), geometry

    def _resample(self, image: Image.Image, height: int, width: int) -> Image.Image:
        if self.antialias or self.interpolation == "nearest":
            return image.resize((width, height), _RESAMPLING[self.interpolation])
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float()
        resized = functional.interpolate(pixels, (height, width), mode=self.interpolation, align_corners=False)
        return Image.fromarray(resized[0].clamp(0, 255).round().byte().permute(1, 2, 0).numpy())

    @property
    def black(self) -> Colour:
        """What a black pixel becomes."""
        red, green, blue = (-mean / std * self.scale for mean, std in zip(self.mean, self.std, strict=True))
        return red, green, blue

    @property
    def size(self) -> Size:
        """``(h, w)`` of the input; 224 × 224 where it follows the photo's."""
        if self.crop is not None:
            return self.crop
        return self.resized(224, 224) if self.resize is not None else (224, 224)

    def resized(self, height: int, width: int) -> Size:
        """``(h, w)`` that a photo of ``height`` × ``width`` is resized to."""
        match self.resize:
            case None:
                return height, width
            case int(shorter):
                longer = int(shorter * max(height, width) / min(height, width))
                return (shorter, longer) if height <= width else (longer, shorter)
            case size:
                return size

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able form; :meth:`from_dict` reads it back."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in vars(self).items()}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Preprocess:
        """Inverse of :meth:`to_dict`."""
        fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in record.items()}
        return cls(**fields)

    @classmethod
    def imagenet(cls) -> Preprocess:
        """What most ImageNet models expect: short side 256, centre 224, ImageNet's mean and deviation."""
        return cls(resize=256, crop=(224, 224), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))

    @classmethod
    def from_torchvision(cls, transforms: Any) -> Preprocess:
        """What ``weights.transforms()`` of a torchvision classifier does, to each frame if it is one of videos.

        Raises:
            ModelError: it is not torchvision's ``ImageClassification`` or ``VideoClassification`` preset.
        """
        try:
            resize, crop = list(transforms.resize_size), list(transforms.crop_size)
            return cls(
                resize=resize[0] if len(resize) == 1 else (resize[0], resize[1]),
                crop=(crop[0], crop[-1]),
                interpolation=transforms.interpolation.value,
                mean=_colour(transforms.mean),
                std=_colour(transforms.std),
                antialias=hasattr(transforms, "antialias"),  # videos' preset has it off, and no attribute to say so
            )
        except (AttributeError, TypeError, IndexError):
            raise ModelError(f"not a preset for classification of torchvision: {transforms!r:.200}") from None

    @classmethod
    def from_timm(cls, config: Mapping[str, Any]) -> Preprocess:
        """What ``timm.data.create_transform(**config, is_training=False)`` does.

        Args:
            config: from ``timm.data.resolve_data_config``.

        Raises:
            ModelError: the configuration asks for something else than a squash or a crop of a square.
        """
        height, width = (int(side) for side in config["input_size"][-2:])
        fraction, mode = config.get("crop_pct") or 0.875, config.get("crop_mode") or "center"
        size = math.floor(height / fraction), math.floor(width / fraction)
        if mode not in ("center", "squash") or (mode == "center" and height != width):
            raise ModelError(f"crop_mode {mode!r} to {height}×{width} is not supported; use 'squash'")
        return cls(
            resize=size if mode == "squash" else size[0],
            crop=(height, width),
            interpolation=config["interpolation"],
            mean=_colour(config["mean"]),
            std=_colour(config["std"]),
        )


def _centred(length: int, wanted: int) -> int:
    """Where a centred cut begins. Torchvision rounds half to even where it crops, and down where it pads."""
    return round((length - wanted) / 2) if wanted <= length else -((wanted - length) // 2)


def _colour(values: Any) -> Colour:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
