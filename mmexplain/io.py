"""Reading photos safely: whatever the file, an upright RGB image comes out, or one line that says what is wrong."""

from __future__ import annotations

import io
import os
import re
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.Image import Transpose
from torch import Tensor

from mmexplain.errors import InputError
from mmexplain.geometry import Geometry, Size, fit
from mmexplain.paths import check_path
from mmexplain.pixels import reduce_to_rgb

MAX_PIXELS = 300_000_000
"""Photos with more pixels are refused."""

MAX_DECODED = 32_000_000
"""Photos with more pixels are held at a half, a third, ... of their size, until they have no more than this."""

Source = str | os.PathLike[str] | Image.Image | NDArray[Any] | Tensor

# More than one picture in the file, but the first one is the photo: the others are previews, depth maps, layers.
_FIRST_IS_THE_PHOTO = {"MPO", "PSD"}

# EPS runs Ghostscript; the others are stubs without a decoder, or video.
_NEVER = {"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG"}

_UPRIGHT = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
_ORIENTATION = 0x0112

_NOT_PHOTOS = (
    (rb"^.{4}ftyp(heic|heix|heim|hevc|mif1|msf1)", "an HEIC photo; convert it to JPEG or PNG"),
    (rb"^.{4}ftyp|^\x1aE\xdf\xa3|^RIFF.{4}AVI ", "a video, not a photo; save one of its frames as JPEG or PNG"),
    (rb"^\x00\x00\x01[\xba\xb3]", "a video, not a photo; save one of its frames as JPEG or PNG"),
    (rb"^%!PS", "a PostScript drawing; convert it to PNG"),
    (rb"^%PDF", "a PDF, not a photo; save the page as JPEG or PNG"),
    (rb"(?i)^\s*(<\?xml.*)?<svg", "an SVG drawing; convert it to PNG"),
    (rb"(?i)^\s*<(!doctype html|html|head)", "a web page, not the photo it shows; download the photo itself"),
    (rb"^version https://git-lfs", "a Git LFS pointer, not the photo itself; run `git lfs pull`"),
)


@dataclass(frozen=True, eq=False)
class Photo:
    """A decoded photo.

    Attributes:
        image: upright RGB; photos of more than :data:`MAX_DECODED` pixels are held at reduced size.
        original: ``(H, W)`` of the upright original, pixels.
        source: the path it came from, None for one given in memory.
        shown: whether people will look at it, so that what is made of it keeps a copy for display.
    """

    image: Image.Image
    original: Size
    source: str | None = None
    shown: bool = True

    @property
    def geometry(self) -> Geometry:
        """How ``image`` lies over the original, which is what preprocessing starts from."""
        return Geometry.identity(*self.original).resize(self.image.height, self.image.width)


def load_image(source: Source, frame: int | None = None) -> Photo:
    """Decode a photo.

    EXIF orientation is applied. CMYK, palette, grey and 16-bit images become 8-bit RGB; transparent ones are laid
    over white. Large photos are held at reduced size, see :class:`Photo`.

    Args:
        source: a path; a PIL image (its current frame); an array ``[H, W, 3]`` or ``[H, W]``, or a tensor
            ``[3, H, W]``, uint8 or floating point from 0 to 1.
        frame: which frame or page of a file that has several, counted from 0.

    Raises:
        InputError: it cannot be read; the message quotes the source and says how to mend it.
    """
    match source:
        case Image.Image():
            return _from_pil(source)
        case np.ndarray():
            return _from_array(source)
        case Tensor():
            return _from_tensor(source)
        case str() | os.PathLike():
            return _from_file(os.fspath(source), frame)
    raise InputError(f"a photo is a path, PIL image, array or tensor, not {type(source).__name__}: {source!r:.80}")


def display(photo: Photo, max_side: int = 1600) -> Tensor:
    """The photo for people: ``[h, w, 3]`` uint8 RGB, its longer side reduced to ``max_side`` where it is longer."""
    height, width = fit(photo.original, max_side)
    image = photo.image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=1.5)
    return torch.from_numpy(np.array(image))


def decode_image(data: bytes, source: str, frame: int | None = None) -> Photo:
    """Decode a photo from the bytes of its file, as :func:`load_image` does.

    Args:
        data: the whole file.
        source: where the bytes came from, which messages quote and the photo keeps.
        frame: which frame or page of a file that has several, counted from 0.

    Raises:
        InputError: it cannot be decoded; the message quotes the source and says how to mend it.
    """
    if not data:
        raise InputError(f"{source!r} is empty (0 bytes); copy or download it again")
    return _decode(lambda: io.BytesIO(data), source, frame)


def _from_file(name: str, frame: int | None) -> Photo:
    path = check_path(name)
    return _decode(lambda: path.open("rb"), name, frame)


def _decode(open_file: Callable[[], BinaryIO], name: str, frame: int | None) -> Photo:
    # Pillow warns of damaged metadata that nobody needs. Appended, the rule yields to any that the user has set;
    # and as it stays, no thread can undo what another has set, as leaving a `catch_warnings` would.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.", append=True)
    try:
        with open_file() as file, _open(file, name) as image:
            frames = getattr(image, "n_frames", 1)
            if frame is not None:
                if not 0 <= frame < frames:
                    raise InputError(f"{name!r} has no frame {frame}: it has {frames}, counted from 0")
                image.seek(frame)
            elif frames > 1 and image.format not in _FIRST_IS_THE_PHOTO:
                kind = "pages" if image.format == "TIFF" else "frames (it is animated)"
                raise InputError(
                    f"{name!r} has {frames} {kind}; save one of them as PNG (or, from Python, pass frame=0)"
                )
            return _finish(image, name, repr(name), ours=True)
    except InputError:
        raise
    except PermissionError:
        raise InputError(f"{name!r} cannot be read: permission denied; try `chmod +r`") from None
    except UnidentifiedImageError:
        with open_file() as file:
            raise InputError(f"{name!r} is {_what_it_is(file.read(256))}") from None
    except MemoryError:
        raise InputError(f"{name!r} does not fit into memory; make it smaller first") from None
    # Decoders meet bytes from anywhere and raise anything: OSError, SyntaxError, ValueError, struct.error, ...
    except Exception as error:
        raise InputError(f"{name!r} is cut short or damaged ({_reason(error)}); copy or download it again") from None


def _open(file: BinaryIO, name: str) -> Image.Image:
    """``Image.open`` without its size limit, which is a global of Pillow's that warns at 90 megapixels and refuses
    at 179; ours is applied by :func:`_finish`, before anything is decoded.
    """
    prefix = file.read(16)
    damage: Exception | None = None
    tried = set(_NEVER)
    for find_formats in (Image.preinit, Image.init):
        find_formats()
        for kind in [kind for kind in Image.ID if kind not in tried]:
            tried.add(kind)
            factory, accept = Image.OPEN[kind]
            if accept is not None and accept(prefix) is not True:
                continue
            file.seek(0)
            try:
                return factory(file, name)
            except (SyntaxError, IndexError, TypeError, struct.error) as error:
                # Pillow's way of saying "not mine". Of a photo's usual format, its first bytes prove that it is.
                damage = error if kind in ("JPEG", "PNG", "GIF", "WEBP", "TIFF") else damage
    raise damage or UnidentifiedImageError()


def _what_it_is(start: bytes) -> str:
    for pattern, what in _NOT_PHOTOS:
        if re.match(pattern, start, re.DOTALL):
            return what
    return "not an image that can be read; convert it to JPEG or PNG"


def _from_pil(image: Image.Image) -> Photo:
    source = str(getattr(image, "filename", "") or "") or None
    name = repr(source) if source else "the image"
    try:
        return _finish(image, source, name)
    except InputError:
        raise
    except Exception as error:  # a lazily opened file is decoded here, so anything may come, as above
        raise InputError(f"{name} cannot be decoded ({_reason(error)})") from None


def _from_array(array: NDArray[Any]) -> Photo:
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)) or 0 in array.shape:
        hint = "; give one photo of the batch" if array.ndim == 4 else ""
        raise InputError(f"an array photo is [H, W, 3] or [H, W], got {list(array.shape)}{hint}")
    if array.dtype != np.uint8:
        if not np.issubdtype(array.dtype, np.floating):
            raise InputError(f"an array photo is uint8, or floating point from 0 to 1, got {array.dtype}")
        low, high = float(array.min()), float(array.max())
        if not (low >= 0.0 and high <= 1.0):
            mend = "divide by 255" if low >= 0.0 and high <= 255.0 else "undo its normalisation"
            raise InputError(f"a floating-point photo runs from 0 to 1, got {low:g} to {high:g}; {mend}")
        array = np.rint(array * 255.0).astype(np.uint8)
    return _finish(Image.fromarray(array), None, "the array")


def _from_tensor(tensor: Tensor) -> Photo:
    if tensor.ndim != 3 or tensor.shape[0] != 3:
        hint = "; give one photo of the batch" if tensor.ndim == 4 else ""
        raise InputError(f"a tensor photo is [3, H, W], got {list(tensor.shape)}{hint}")
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point():
        tensor = tensor.float()  # numpy has no bfloat16
    return _from_array(tensor.permute(1, 2, 0).numpy())


def _finish(image: Image.Image, source: str | None, name: str, ours: bool = False) -> Photo:
    """Check the size, decode no larger than needed, convert, set upright.

    An image that is not ``ours`` is only read: choosing a decoding size would change it for the caller.
    """
    width, height = image.size
    if min(width, height) < 1:
        raise InputError(f"{name} has no pixels: its size is {width}×{height}")
    if width * height > MAX_PIXELS:
        megapixels, limit = width * height / 1e6, MAX_PIXELS / 1e6
        raise InputError(f"{name} has {megapixels:,.0f} megapixels; make it smaller, the limit is {limit:.0f}")
    if ours and width * height > MAX_DECODED:
        # JPEG decodes to 1/2, 1/4 or 1/8 of its size at a fraction of the time; other formats ignore this.
        scale = next((s for s in (2, 4) if width * height <= MAX_DECODED * s * s), 8)
        image.draft(None, (width // scale, height // scale))
    image.load()
    orientation = _orientation(image)
    try:
        upright = reduce_to_rgb(image, MAX_DECODED)
    except InputError as error:
        raise InputError(f"{name} cannot be shown: {error}") from None
    if orientation in _UPRIGHT:
        upright = upright.transpose(_UPRIGHT[orientation])
    upright.info.clear()
    return Photo(upright, (width, height) if orientation >= 5 else (height, width), source)


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 (upright) to 8; 1 where there is none or it cannot be read."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged metadata: the photo itself is fine
        return 1
    return value if value in _UPRIGHT else 1


def _reason(error: Exception) -> str:
    """What a decoder says, on one line."""
    return " ".join(str(error).split()) or type(error).__name__
