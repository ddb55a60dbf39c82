"""Photos of every unusual kind: they work, or one line says why they do not and the exit code is 2."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.command_line import picture, record, refusal

pytest_plugins = ["tests.command_line_fixtures"]
pytestmark = pytest.mark.usefixtures("own_folder")


# -- photos that cannot be used ---------------------------------------------------------------------------------------


def missing(path: Path) -> None:
    pass


def empty(path: Path) -> None:
    path.write_bytes(b"")


def folder(path: Path) -> None:
    path.mkdir()


def text(path: Path) -> None:
    path.write_text("this is no image")


def truncated_jpeg(path: Path) -> None:
    picture().save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:2000])


def truncated_png(path: Path) -> None:
    picture().save(path, "PNG")
    path.write_bytes(path.read_bytes()[:2000])


def header_alone(path: Path) -> None:
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR")


def animated(path: Path) -> None:
    picture().save(path, "GIF", save_all=True, append_images=[picture().rotate(180)])


def gigantic(path: Path) -> None:
    """The header of a PNG that claims 10 gigapixels."""
    picture().save(path, "PNG")
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack(">II", 100_000, 100_000)
    path.write_bytes(content)


BAD_PHOTOS = (missing, empty, folder, text, truncated_jpeg, truncated_png, header_alone, animated, gigantic)


@pytest.mark.parametrize("spoil", BAD_PHOTOS, ids=lambda spoil: spoil.__name__)
def test_a_photo_that_cannot_be_used_is_named_in_one_line(
    verb: str, model: str, spoil: Callable[[Path], None], tmp_path: Path
) -> None:
    path = tmp_path / "photo.jpg"
    spoil(path)
    assert "photo.jpg" in refusal(verb, path, "--model", model, "--json")


def test_a_missing_photo_needs_no_model(verb: str) -> None:
    assert "no such file" in refusal(verb, "nowhere.jpg", "--model", "unheard-of")


# -- photos that look unusual and work --------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["CMYK", "L", "LA", "RGBA", "P", "1"])
def test_unusual_modes_work(verb: str, model: str, mode: str, tmp_path: Path) -> None:
    path = tmp_path / ("photo.tif" if mode == "CMYK" else "photo.png")
    picture().convert(mode).save(path)
    assert record(verb, path, "--model", model)["targets"]


def test_a_cmyk_jpeg_works(verb: str, model: str, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    picture().convert("CMYK").save(path)
    assert record(verb, path, "--model", model)["targets"]


def test_a_16_bit_photo_scores_as_its_8_bit_twin(verb: str, model: str, tmp_path: Path) -> None:
    grey = np.array(picture().convert("L"))
    Image.fromarray(grey).save(tmp_path / "8.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "16.png")
    eight, sixteen = (record(verb, tmp_path / name, "--model", model)["targets"] for name in ("8.png", "16.png"))
    assert sixteen == eight


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_a_rotated_photo_is_explained_upright(verb: str, model: str, orientation: int, tmp_path: Path) -> None:
    back = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture().save(tmp_path / "upright.png")
    picture().transpose(back[orientation]).save(tmp_path / "turned.png", exif=exif)
    upright, turned = (
        record(verb, tmp_path / name, "--model", model)["targets"] for name in ("upright.png", "turned.png")
    )
    assert turned == upright


HUGE = """
import json, resource, sys
from click.testing import CliRunner
from mmexplain.cli import cli
used = []
for photo in sys.argv[2:]:
    result = CliRunner().invoke(cli, ["classify", photo, "--model", sys.argv[1], "--json"])
    assert result.exit_code == 0, result.output
    used.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
print(json.dumps([used, json.loads(result.stdout)["targets"][0]["peak"]]))
"""


def test_100_megapixels_fit_into_bounded_memory(classifier: str, photo: Path, tmp_path: Path) -> None:
    huge = tmp_path / "huge.jpg"
    Image.new("RGB", (12_500, 8_000), (90, 120, 200)).save(huge, quality=30)
    done = subprocess.run(
        [sys.executable, "-c", HUGE, classifier, str(photo), str(huge)], capture_output=True, text=True, check=True
    )
    (small, large), _ = json.loads(done.stdout)
    assert large - small < 250 * 2**20, "decoded, the photo takes 286 MiB"
