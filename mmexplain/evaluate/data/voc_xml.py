"""Annotations in VOC's XML, which ImageNet uses too."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from mmexplain.errors import InputError
from mmexplain.evaluate.data.scene import Thing
from mmexplain.geometry import Size


@dataclass(frozen=True)
class Annotation:
    """What one file says: the photo's ``(h, w)`` and its objects."""

    size: Size
    things: tuple[Thing, ...]


def parse(path: Path, first: int) -> Annotation:
    """Read one file.

    Files with a document type are refused, so that nothing can declare entities: neither those that grow without end
    nor those that open other files.

    Args:
        path: of the XML file.
        first: number of the first pixel, 1 in VOC; the last pixel of a box belongs to it.

    Raises:
        InputError: the file cannot be read, is no such XML, or has a document type.
    """
    root = _tree(path)
    try:
        size = (int(_text(root, "size/height")), int(_text(root, "size/width")))
        if min(size) < 1:
            raise ValueError("the photo has no extent")
        things = tuple(_thing(found, first, size) for found in root.findall("object"))
    except ValueError as error:
        raise InputError(f"{str(path)!r} is no annotation of a photo: {error}") from None
    return Annotation(size, things)


def _thing(found: Element, first: int, size: Size) -> Thing:
    left, top, right, bottom = (float(_text(found, f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax"))
    if not all(map(math.isfinite, (left, top, right, bottom))):
        raise ValueError("a box is nowhere")
    height, width = size
    box = (left - first, top - first, min(right - first + 1, width), min(bottom - first + 1, height))
    difficult = (found.findtext("difficult") or "0").strip() == "1"
    return Thing(_text(found, "name"), box, difficult=difficult)


def _text(element: Element, name: str) -> str:
    text = (element.findtext(name) or "").strip()
    if not text:
        raise ValueError(f"<{name.replace('/', '><')}> is missing")
    return text


def _tree(path: Path) -> Element:
    builder = TreeBuilder()
    parser = expat.ParserCreate()

    def refuse(*_: Any) -> None:
        raise InputError(f"{str(path)!r} has a document type (<!DOCTYPE>), which annotations do not need: refused")

    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(path.read_bytes(), True)
    except OSError as error:
        raise InputError(f"cannot read {str(path)!r}: {(error.strerror or str(error)).lower()}") from None
    except expat.ExpatError as error:
        raise InputError(f"{str(path)!r} is not XML: {error}") from None
    return builder.close()
