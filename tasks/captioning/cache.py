"""What the frozen layers see, computed once: augmented photos → the features of ``blocks.2``, on disk.

Everything before ``blocks.3`` stays as ImageNet made it, so its output is the same in every epoch. It is kept for
a few augmented versions of each training photo and for the clean photo; training starts from there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from .encoder import MEAN, STD, GridEncoder
from .flickr8k import Photo, load_image

STORED = 224
"""Side of the photos as Flickr8k is stored here."""

Progress = Callable[[str, int, int], None]
"""Called with (what is being done, how much is done, out of how much)."""


def normalize(images: Tensor, size: int) -> Tensor:
    """uint8 ``[B, 3, H, W]`` → normalised float32 ``[B, 3, size, size]``."""
    return _standardize(F.interpolate(images.float() / 255, size=(size, size), mode="bilinear", align_corners=False))


def _standardize(images: Tensor) -> Tensor:
    mean = torch.tensor(MEAN).view(1, 3, 1, 1)
    std = torch.tensor(STD).view(1, 3, 1, 1)
    return ((images - mean) / std).contiguous(memory_format=torch.channels_last)


def augment(images: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Random resized crop (area 60-100 %, aspect 3:4 to 4:3), mirror and mild colour jitter.

    Args:
        images: uint8 ``[B, 3, H, W]``.
        size: side of the result.
        generator: source of all randomness.

    Returns:
        Normalised float32 ``[B, 3, size, size]``.
    """
    n = images.shape[0]

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(n, generator=generator) * (high - low) + low

    area, aspect = uniform(0.6, 1.0), torch.exp(uniform(math.log(3 / 4), math.log(4 / 3)))
    width = (area * aspect).sqrt().clamp(max=1.0)
    height = (area / aspect).sqrt().clamp(max=1.0)
    mirror = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = width * mirror, height
    theta[:, 0, 2] = uniform(-1, 1) * (1 - width)
    theta[:, 1, 2] = uniform(-1, 1) * (1 - height)
    where = F.affine_grid(theta, [n, 3, size, size], align_corners=False)
    crops = F.grid_sample(images.float() / 255, where, padding_mode="border", align_corners=False)
    brightness, contrast, saturation = (uniform(0.8, 1.2).view(n, 1, 1, 1) for _ in range(3))
    crops = crops * brightness
    mean = crops.mean((1, 2, 3), keepdim=True)
    crops = (crops - mean) * contrast + mean
    gray = crops.mean(1, keepdim=True)
    crops = (crops - gray) * saturation + gray
    return _standardize(crops.clamp(0, 1))


class FeatureCache:
    """Low-level features of all photos on disk, one memory-mapped ``.npy`` a version.

    Version 0 is the clean photo, versions 1 .. A are augmented ones (of training photos only).

    Args:
        root: folder of the cache; made if missing. Whatever is already there and finished is kept.
        size: side of the network's input.
    """

    def __init__(self, root: Path, size: int) -> None:
        self.root = root / f"features-{size}"
        self.size = size
        self.root.mkdir(parents=True, exist_ok=True)

    def build(
        self,
        data: Path,
        photos: Sequence[Photo],
        encoder: GridEncoder,
        versions: int,
        progress: Progress,
        batch: int = 64,
    ) -> list[NDArray[np.float16]]:
        """Compute what is missing and open everything.

        Args:
            data: folder of Flickr8k.
            photos: N photos; the cache is valid for this very list.
            encoder: whose ``low`` makes the features.
            versions: number A of augmented versions.
            progress: told how far it is.
            batch: photos at a time.

        Returns:
            1 + A arrays float16 ``[N, 40, size/8, size/8]``; augmented rows of photos outside the training split
            hold zeros.
        """
        files = [photo.file for photo in photos]
        listing = self.root / "photos.json"
        if listing.exists() and json.loads(listing.read_text()) != files:
            raise ValueError(f"{self.root} holds features of other photos; give another --work folder")
        pictures = self._pictures(data, photos, progress)
        listing.write_text(json.dumps(files))
        train = np.array([i for i, photo in enumerate(photos) if photo.split == "train"], dtype=np.int64)
        side = math.ceil(self.size / 8)
        arrays = []
        for version in range(versions + 1):
            path = self.root / f"version-{version}.npy"
            if not path.exists():
                rows = train if version else np.arange(len(photos))
                partial = path.with_suffix(".partial")
                out = np.lib.format.open_memmap(
                    partial, mode="w+", dtype=np.float16, shape=(len(photos), 40, side, side)
                )
                generator = torch.Generator().manual_seed(version)
                for begin in range(0, len(rows), batch):
                    at = rows[begin : begin + batch]
                    raw = torch.from_numpy(pictures[at])
                    images = augment(raw, self.size, generator) if version else normalize(raw, self.size)
                    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
                        out[at] = encoder.low(images).to(torch.float16).numpy()
                    progress(f"features, version {version} of {versions}", begin + len(at), len(rows))
                out.flush()
                partial.rename(path)
            arrays.append(np.load(path, mmap_mode="r", allow_pickle=False))
        return arrays

    def _pictures(self, data: Path, photos: Sequence[Photo], progress: Progress) -> NDArray[np.uint8]:
        """Decoded photos, uint8 ``[N, 3, 224, 224]``."""
        path = self.root.parent / "photos.npy"
        if not path.exists():
            partial = path.with_suffix(".partial")
            out = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=(len(photos), 3, STORED, STORED))
            for row, photo in enumerate(photos):
                out[row] = load_image(data, photo, STORED)
                if row % 100 == 99 or row + 1 == len(photos):
                    progress("decoding photos", row + 1, len(photos))
            out.flush()
            partial.rename(path)
        pictures: NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
        return pictures
