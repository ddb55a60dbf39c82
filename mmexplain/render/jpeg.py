"""Pictures as JPEG, encoded where they are."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import lru_cache

import torch
from PIL import Image
from torch import Tensor

QUALITY = 88


def jpegs(pictures: Tensor, quality: int = QUALITY) -> list[bytes]:
    """Files of K pictures ``[K, 3, h, w]`` uint8, of quality 1 to 100.

    On the CPU they are the bytes that Pillow writes. On a GPU nvJPEG makes them, so that only the files leave it; it
    keeps the colours at full resolution, which makes them larger.
    """
    encode = _encoder(pictures.device.type)
    if encode is None:
        return [_by_pillow(picture, quality) for picture in pictures.movedim(1, -1).cpu()]
    if pictures.is_cuda:
        pictures = pictures.contiguous()
    files = [encode(picture, quality) for picture in pictures]
    return [file.cpu().numpy().tobytes() for file in files]


@lru_cache
def _encoder(device: str) -> Callable[[Tensor, int], Tensor] | None:
    """torchvision's, if it has one for this kind of device. Other threads go on meanwhile; Pillow holds them up."""
    try:
        from torchvision.io import encode_jpeg

        encode_jpeg(torch.zeros(3, 16, 16, dtype=torch.uint8, device=device), QUALITY)
    except torch.cuda.OutOfMemoryError:
        raise  # another time there may be room
    except (ImportError, AttributeError, RuntimeError):  # built without one, or of a release that has none
        return None
    return encode_jpeg  # type: ignore[no-any-return]


def _by_pillow(picture: Tensor, quality: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture.contiguous().numpy()).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
