"""Where a result is written: one file, or a folder with everything."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from mmexplain.errors import InputError
from mmexplain.filenames import safe

if TYPE_CHECKING:
    from PIL.Image import Image

    from mmexplain.explanation import Explanation
    from mmexplain.render.footage import Footage

REPORT = "report.html"
STRIP = "filmstrip.png"
SUFFIXES = (".html", ".png", ".pdf", ".svg", ".safetensors")
CLIP_SUFFIXES = (*SUFFIXES, ".mp4", ".gif")
MARK = "mmexplain"
_OURS = (MARK.encode(), b"matplotlib")
_HEAD = 65536
_LONGEST = 40

Made = TypeVar("Made")


class Destination:
    """A place that results can be written to, checked before the work begins.

    Args:
        out: file or folder; a name without a suffix, or with a slash at its end, is a folder, made if needed.
        source: the photo or the clip that is explained, which must survive.
        clip: it is a clip, which can be written as one too.
        suffixes: the kinds of file that can be written; those of an explanation if None.

    Raises:
        InputError: the kind of file is unknown, its folder is missing or closed, or a file that is not ours is there.
    """

    def __init__(
        self, out: str, source: str | None = None, clip: bool = False, suffixes: tuple[str, ...] | None = None
    ) -> None:
        self.path = Path(out)
        self.source = source
        self.kind = "clip" if clip else "photo"
        suffixes = suffixes or (CLIP_SUFFIXES if clip else SUFFIXES)
        self.is_folder = self.path.is_dir() or out.endswith(("/", os.sep)) or not self.path.suffix
        if self.is_folder:
            if self.path.exists() and not self.path.is_dir():
                raise InputError(f"cannot write into {out!r}: it is a file; name a folder, or FILE{SUFFIXES[0]}")
            if source is not None and self.path.exists() and self.path.samefile(source):
                raise InputError(f"{out!r} is the {self.kind}'s own folder; write to another")
            _require_writable(next(folder for folder in (self.path, *self.path.parents) if folder.exists()), out)
            self._spare(self.path / REPORT)
            return
        if self.path.suffix.lower() not in suffixes:
            raise InputError(
                f"cannot write {out!r}: the name should end in {', '.join(suffixes)}, or in / for a folder"
            )
        if not self.path.parent.is_dir():
            raise InputError(f"cannot write {out!r}: there is no folder {str(self.path.parent)!r}")
        _require_writable(self.path.parent, out)
        self._spare(self.path)

    def write(self, explanation: Explanation, written: list[str], say: Callable[[str], None] | None = None) -> None:
        """Write the explanation; the path of each file is appended to ``written`` when it is complete. ``say`` is told
        how far it is.

        A folder gets the report, a picture of every map (of a clip a clip, and the film strip of its decisive frames)
        and all maps in one file.

        Raises:
            InputError: the system refused; the message says why.
        """
        if not self.is_folder:
            self.keep(explanation.save, written)
            return
        self.put(REPORT, explanation.save, written)
        clip = explanation.geometry.frames is not None
        footage = None
        if clip:
            from mmexplain.render.footage import Footage

            self.put(STRIP, explanation.save, written)
            footage = Footage(explanation)
        for name, layer, method, number in overlay_names(explanation):
            if clip:
                progress = None if say is None else partial(_pictures_done, say, name)
                self.put(name, partial(_save_clip, explanation, number, layer, method, footage, progress), written)
            else:
                self.put(name, partial(_save_png, explanation.overlay(number, layer, method)), written)
        self.put("explanation.safetensors", explanation.save, written)

    def keep(self, save: Callable[[Path], object], written: list[str]) -> None:
        """Have ``save`` write the one file that was asked for.

        Raises:
            InputError: the system refused; the message says why.
        """
        self._put(self.path, save, written)

    def put(self, name: str, save: Callable[[Path], object], written: list[str]) -> None:
        """Have ``save`` write the file ``name`` in the folder, which is made if needed.

        Raises:
            InputError: the system refused; the message says why.
        """
        _guarded(self.path, lambda path: path.mkdir(parents=True, exist_ok=True))
        self._put(self.path / name, save, written)

    def _put(self, path: Path, save: Callable[[Path], object], written: list[str]) -> None:
        self._spare(path)
        _guarded(path, save)
        if str(path) not in written:
            written.append(str(path))

    def _spare(self, path: Path) -> None:
        """Only what mmexplain wrote before may be replaced."""
        if not path.exists():
            return
        if path.is_dir():
            raise InputError(f"cannot write {str(path)!r}: it is a folder")
        if self.source is not None and Path(self.source).exists() and path.samefile(self.source):
            raise InputError(f"{str(path)!r} is the {self.kind} itself; write to another name")
        with _guarded(path, lambda readable: readable.open("rb")) as file:
            shown = file.read(_HEAD)
            if path.suffix.lower() == ".pdf":  # tells at its end who made it
                file.seek(max(0, path.stat().st_size - _HEAD))
                shown += file.read()
        marks = _OURS if path.suffix.lower() == ".png" else _OURS[:1]
        if shown and not any(mark in shown.lower() for mark in marks):
            raise InputError(f"{str(path)!r} exists and is not from mmexplain; remove it or choose another name")


def overlay_names(explanation: Explanation) -> list[tuple[str, str, str, int]]:
    """``(file name, layer, method, target number)`` of every map; names are safe on any file system and differ,
    however long and alike the layers' names are."""
    several_layers, several_methods = len(explanation.layers) > 1, len(explanation.methods) > 1
    suffix = ".png" if explanation.geometry.frames is None else ".mp4"
    names: dict[str, tuple[str, str, str, int]] = {}
    for key in explanation.maps:
        for number, target in enumerate(explanation.targets):
            parts = [f"{number:02d}", _safe(target.label)[:_LONGEST]]
            parts += [_safe(key.method)[:_LONGEST]] if several_methods else []
            parts += [_safe(key.layer)[-_LONGEST:]] if several_layers else []  # long layer names differ at their end
            stem = name = "_".join(parts)
            again = 1
            while name.casefold() in names:
                again += 1
                name = f"{stem}_{again}"
            names[name.casefold()] = (f"{name}{suffix}", key.layer, key.method, number)
    return list(names.values())


def _safe(text: str) -> str:
    return safe(text) or "unnamed"


def _save_png(picture: Image, path: Path) -> None:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("Software", MARK)
    picture.save(path, pnginfo=info)


def _save_clip(
    explanation: Explanation,
    number: int,
    layer: str,
    method: str,
    footage: Footage | None,
    progress: Callable[[int, int], None] | None,
    path: Path,
) -> None:
    from mmexplain.render import save_clip

    save_clip(explanation, path, number, layer, method, footage=footage, progress=progress)


def _pictures_done(say: Callable[[str], None], name: str, done: int, total: int) -> None:
    say(f"writing {name}: {done} of {total} pictures")


def _require_writable(folder: Path, out: str) -> None:
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"cannot write {out!r}: the folder {str(folder)!r} does not allow it")


def _guarded(path: Path, action: Callable[[Path], Made]) -> Made:
    try:
        return action(path)
    except OSError as error:
        reason = (error.strerror or str(error) or type(error).__name__).lower()
        hint = "; free some space" if error.errno == errno.ENOSPC else ""
        raise InputError(f"cannot write {str(path)!r}: {reason}{hint}") from None
