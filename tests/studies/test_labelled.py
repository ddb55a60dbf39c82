"""Photos and their image-level labels: how they are read, what is explained, and copies of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from mmexplain.errors import InputError
from mmexplain.evaluate.data.labelled import Labelled
from mmexplain.studies.annotation.labelled import labels_of, read, wanted
from mmexplain.studies.annotation.photo_files import copy_upright, require_apart
from tests.evaluate.objects import colours, lines, photo, xml


def test_classes_are_those_of_marked_objects_or_of_folders(tmp_path: Path) -> None:
    photo(tmp_path / "coco" / "images" / "a.png")
    lines(tmp_path / "coco", ("a.png", [("red", (0, 0, 4, 4)), ("kite", (0, 0, 4, 4)), ("red", (8, 8, 4, 4))]))
    (found,) = read(tmp_path / "coco")
    assert found.names == ("red", "kite") and found.scene is not None and found.scene.size == (64, 64)
    photo(tmp_path / "voc" / "JPEGImages" / "a.png")
    xml(tmp_path / "voc" / "Annotations" / "a.xml", (64, 64), ("green", (1, 1, 4, 4), 0), ("blue", (9, 9, 8, 8), 0))
    (found,) = read(tmp_path / "voc")
    assert found.key == "a" and found.names == ("green",), "the blue box is turned inside out"
    for name in ("red/a.png", "more/blue/b.png", "c.png"):
        photo(tmp_path / "folders" / name)
    assert [(one.key, one.names, one.scene) for one in read(tmp_path / "folders")] == [
        ("c.png", (), None),
        ("more/blue/b.png", ("more",), None),
        ("red/a.png", ("red",), None),
    ]
    with pytest.raises(InputError, match="no file in"):
        (tmp_path / "empty").mkdir()
        read(tmp_path / "empty")
    with pytest.raises(InputError, match="no such file"):
        read(tmp_path / "nowhere")


def test_what_is_explained() -> None:
    """The likeliest label of each class, and beside it one of no class of the photo, whatever else there is."""
    labels = {"dog": (0, 1, 2), "cat": (3, 4), "kite": (7,)}
    logits = torch.tensor([0.0, 5.0, 1.0, 2.0, 1.0, 9.0, 9.0, 9.0, 9.0])
    drawn = set()
    for number in range(60):
        rows = wanted(Labelled(str(number), Path(), ("dog", "bus", "cat")), labels, logits, 0)
        assert [(one.name, one.label) for one in rows] == [("dog", 1), ("cat", 3)]
        assert rows[0].other != rows[1].other
        drawn |= {one.other for one in rows}
    assert drawn == {5, 6, 7, 8}
    one, again, another = (
        wanted(Labelled("a", Path(), ("dog",)), labels, torch.arange(500.0), seed)[0].other for seed in (0, 0, 1)
    )
    assert one == again != another
    (alone,) = wanted(Labelled("a", Path(), ("dog",)), {"dog": (0, 1)}, torch.zeros(2), 0)
    assert alone.other is None and alone.numbers == [0]


def test_classes_that_the_model_lacks(tmp_path: Path) -> None:
    photos = [Labelled("a", Path(), ("red", "kite"))]
    assert labels_of(colours(), photos, tmp_path) == {"red": (0,)}
    with pytest.raises(InputError, match="put them into folders"):
        labels_of(colours(), [Labelled("a", Path(), ())], tmp_path)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_copies_lie_upright(tmp_path: Path, orientation: int) -> None:
    """As the package itself shows the photo."""
    from mmexplain.io import load_image

    image = Image.new("RGB", (48, 32), (10, 10, 10))
    image.paste((240, 20, 20), (0, 0, 24, 16))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "a.jpg", exif=exif, quality=98, subsampling=0)
    copy_upright(tmp_path / "a.jpg", tmp_path / "out" / "a.jpg")
    copied, shown = Image.open(tmp_path / "out" / "a.jpg"), load_image(tmp_path / "a.jpg").image
    assert copied.size == shown.size and copied.getexif().get(0x0112, 1) == 1
    for x in (4, copied.width - 4):
        for y in (4, copied.height - 4):
            pair = [one.convert("RGB").getpixel((x, y)) for one in (copied, shown)]
            assert all(abs(a - b) < 12 for a, b in zip(*pair, strict=True))
    same = (tmp_path / "a.jpg").read_bytes() == (tmp_path / "out" / "a.jpg").read_bytes()
    assert same == (orientation == 1)


def test_the_data_is_not_written_over(tmp_path: Path) -> None:
    photos = [tmp_path / "voc" / "JPEGImages" / "a.jpg"]
    require_apart(tmp_path / "new", tmp_path / "voc", photos, "JPEGImages")
    require_apart(tmp_path, tmp_path / "voc", photos, "JPEGImages")
    for out, data in (("voc", "voc"), ("voc", "voc/ImageSets/Main/train.txt"), ("voc/JPEGImages", "voc")):
        with pytest.raises(InputError, match="own folder"):
            require_apart(tmp_path / out, tmp_path / data, photos, "JPEGImages")
