"""VOC's layout: boxes that count from 1, splits, difficult flags, and XML that must not be trusted."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from mmexplain.errors import InputError
from mmexplain.evaluate.data.objects import read
from mmexplain.evaluate.data.voc_xml import parse
from tests.evaluate.objects import photo, xml


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    folder = tmp_path / "VOC2007"
    for name in ("000001", "000002", "000003"):
        photo(folder / "JPEGImages" / f"{name}.jpg", size=(20, 10))
        xml(folder / "Annotations" / f"{name}.xml", (20, 10), ("dog", (1, 1, 20, 10), 0), ("cat", (3, 4, 3, 4), 1))
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    (folder / "ImageSets" / "Main" / "test.txt").write_text("000003\n000001  1\n\n")
    return folder


def test_boxes_count_from_one_and_hold_their_last_pixel(voc: Path) -> None:
    scenes = read(voc)
    assert [scene.key for scene in scenes] == ["000001", "000002", "000003"]
    assert scenes[0].size == (10, 20) and scenes[0].path == voc / "JPEGImages" / "000001.jpg"
    dog, cat = scenes[0].things
    assert dog.box == (0, 0, 20, 10) and not dog.difficult and scenes[0].mask("dog").all()
    assert cat.box == (2, 3, 3, 4) and cat.difficult and cat.area == 1
    mask = scenes[0].mask("cat")
    assert mask.sum() == 1 and mask[3, 2]


def test_a_split_names_photos_in_its_order(voc: Path) -> None:
    assert [scene.key for scene in read(voc / "ImageSets" / "Main" / "test.txt")] == ["000003", "000001"]


def test_what_is_missing_or_damaged_is_told(voc: Path, tmp_path: Path) -> None:
    (voc / "JPEGImages" / "000002.jpg").unlink()
    with pytest.raises(InputError, match=r"000002\.jpg', which has annotations, is missing"):
        read(voc)
    split = voc / "ImageSets" / "Main" / "test.txt"
    split.write_text("../../etc/passwd\n")
    with pytest.raises(InputError, match="is no name of a photo"):
        read(split)
    split.write_text("000009\n")
    with pytest.raises(InputError, match=r"cannot read '.*000009.xml': no such file"):
        read(split)
    with pytest.raises(InputError, match="no such file or folder"):
        read(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation>", "is not XML"),
        ("", "is not XML"),
        ("<annotation></annotation>", "<size><height> is missing"),
        ("<a><size><width>0</width><height>5</height></size></a>", "no extent"),
        ("<a><size><width>x</width><height>5</height></size></a>", "no annotation"),
        (
            "<a><size><width>5</width><height>5</height></size><object><name>dog</name></object></a>",
            "<bndbox><xmin> is missing",
        ),
    ],
)
def test_damaged_xml(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.xml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        parse(path, 1)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entities_are_refused(tmp_path: Path, encoding: str) -> None:
    """Neither entities that grow without end nor those that open another file are read, in any encoding."""
    secret = tmp_path / "secret"
    secret.write_text("dog")
    grow = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 9))
    for declared in (f'<!ENTITY a0 "lol">{grow}', f'<!ENTITY a8 SYSTEM "{secret.as_uri()}">'):
        path = tmp_path / "a.xml"
        text = f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE a [{declared}]><a><name>&a8;</name></a>'
        path.write_bytes(text.encode(encoding))
        with pytest.raises(InputError, match="document type"):
            parse(path, 1)


def test_a_box_that_is_nowhere_is_damaged_data(tmp_path: Path) -> None:
    photo(tmp_path / "JPEGImages" / "a.png")
    xml(tmp_path / "Annotations" / "a.xml", (64, 64), ("dog", (1, math.nan, 5, 5), 0))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="is no annotation of a photo: a box is nowhere"):
        read(tmp_path)
