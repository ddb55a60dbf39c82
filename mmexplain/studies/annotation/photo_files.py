"""Photos beside what was made of them: names of files, and copies whose pixels lie as masks and boxes do."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageOps

from mmexplain.errors import InputError
from mmexplain.evaluate.data.labelled import Labelled
from mmexplain.filenames import safe
from mmexplain.render.whole import whole

QUALITY = 95
_ORIENTATION = 0x0112


def flat_names(photos: Sequence[Labelled]) -> list[str]:
    """A file name without suffix for each photo: its own, or with the folders in front where that is not enough.

    Raises:
        InputError: two photos differ by their suffix only.
    """
    short = [photo.path.stem for photo in photos]
    if len(set(short)) == len(short):
        return short
    found = [safe(str(Path(photo.key).with_suffix("")).replace("/", "_")) for photo in photos]
    seen: dict[str, Labelled] = {}
    for name, photo in zip(found, photos, strict=True):
        if seen.setdefault(name, photo) is not photo:
            raise InputError(f"{seen[name].key!r} and {photo.key!r} cannot be told apart in file names: rename one")
    return found


def require_apart(out: Path, data: Path, photos: Sequence[Path], folder: str) -> None:
    """Refuse to write over what is read.

    Args:
        out: where is written.
        data: what is read.
        photos: its photos.
        folder: of ``out``, where copies of photos go.

    Raises:
        InputError: ``out`` is the data's own folder.
    """
    here, lying = out.resolve(), {photo.resolve().parent for photo in photos}
    if here == data.resolve() or here in lying or here / folder in lying:
        raise InputError(f"--out {str(out)!r} is the data's own folder, which would be overwritten: name another one")


def copy_upright(photo: Path, to: Path) -> None:
    """Write a photo as JPEG whose pixels lie as masks and boxes do: byte for byte if it is one that lies so already,
    otherwise turned as EXIF says and encoded anew.

    Args:
        photo: to read.
        to: the file to write.

    Raises:
        InputError: the system refused to write.
    """
    to.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(photo) as image, whole(to) as partial:
        if image.format == "JPEG" and image.getexif().get(_ORIENTATION, 1) == 1:
            shutil.copyfile(photo, partial)
        else:
            ImageOps.exif_transpose(image).convert("RGB").save(partial, "JPEG", quality=QUALITY)
