"""What the command line writes with --out, and what it leaves alone."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from mmexplain.commands.output import Destination, overlay_names
from mmexplain.explanation import Explanation, MapKey
from mmexplain.geometry import Geometry
from mmexplain.picture import Picture
from mmexplain.targets import Target
from tests.command_line import CLASSES, one_line, picture, record, refusal, run, save_classifier, write_card

pytest_plugins = ["tests.command_line_fixtures"]
pytestmark = pytest.mark.usefixtures("own_folder")


@pytest.mark.parametrize("name", ["maps.html", "maps.png", "maps.safetensors", "MAPS.PNG", "maps.pdf", "maps.svg"])
def test_the_suffix_says_what_is_written(photo: Path, classifier: str, name: str) -> None:
    for _ in range(2):  # the second time over what the first one wrote
        assert record("classify", photo, "--model", classifier, "--out", name)["files"] == [name]
    if name.endswith("safetensors"):
        assert [target.label for target in Explanation.load(name).targets] != []
    elif name.endswith(".html"):
        assert "<html" in Path(name).read_text(encoding="utf-8")
    elif name.endswith(".svg"):
        root = ElementTree.parse(name).getroot()
        said = {"".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")}
        assert root.attrib["width"] == "234pt" and said.issuperset(CLASSES), "3.25 inches"
    elif name.endswith(".pdf"):
        assert Path(name).read_bytes().startswith(b"%PDF")
    else:
        Image.open(name).verify()


@pytest.mark.parametrize("name", ["strip.pdf", "strip.svg"])
def test_a_caption_and_a_clip_are_written_for_papers(
    photo: Path, captioner: str, clip: Path, mover: str, name: str
) -> None:
    assert record("caption", photo, "--model", captioner, "--out", name)["files"] == [name]
    small = Path(name).stat().st_size
    assert record("action", clip, "--model", mover, "--out", name)["files"] == [name], "over what is ours"
    assert Path(name).stat().st_size != small > 1000


def test_figures_of_others_survive(photo: Path, classifier: str) -> None:
    plot = Figure()
    plot.text(0.5, 0.5, "mine")
    for name in ("plot.pdf", "plot.svg"):
        plot.savefig(name)
        before = Path(name).read_bytes()
        assert "not from mmexplain" in refusal("classify", photo, "--model", classifier, "--out", name)
        assert Path(name).read_bytes() == before
    big = Figure(figsize=(9, 9), dpi=300)  # its creator is told after more than what the head of a file holds
    big.figimage(np.random.default_rng(0).integers(0, 255, (900, 900, 3), np.uint8))
    big.savefig("big.pdf", metadata={"Creator": "mmexplain"})
    assert b"mmexplain" not in Path("big.pdf").read_bytes()[:65536]
    assert record("classify", photo, "--model", classifier, "--out", "big.pdf")["files"] == ["big.pdf"]


@pytest.mark.parametrize("name", ["new", "new/", "deep/er/new", "with.dot/"])
def test_a_folder_gets_everything(photo: Path, classifier: str, name: str) -> None:
    arguments = ["--top", 2, "--method", "gradcam", "--method", "gradcam++", "--out", name]
    files = record("classify", photo, "--model", classifier, *arguments)["files"]
    assert sorted(map(str, Path(name).iterdir())) == sorted(files)
    assert [Path(file).suffix for file in files] == [".html", *[".png"] * 4, ".safetensors"]
    assert all(Image.open(file).size == (160, 120) for file in files if file.endswith(".png"))


def test_a_label_cannot_lead_out_of_the_folder(photo: Path, tmp_path: Path) -> None:
    model = tmp_path / "odd.safetensors"
    save_classifier(model)
    labels = ["../../outside", "C:\\con?*\x00\n.", "ø" * 300]
    write_card(model, {"architecture": "timm:test_resnet", "labels": labels})
    files = record("classify", photo, "--model", model, "--out", "in/")["files"]
    assert len(files) == 5
    assert all(Path(file).resolve().parent == tmp_path / "in" and len(Path(file).name) < 80 for file in files)


def test_names_of_maps_differ_however_long_the_names_of_layers_are(tmp_path: Path) -> None:
    deep = "backbone." * 8
    layers = [f"{deep}conv1", f"{deep}conv2", f"a{deep}conv2", f"b{deep}conv2", "Head", "head"]
    explanation = Explanation(
        task="classify",
        model="deep",
        text=None,
        targets=[Target("dog", "class", (0,)), Target("Dog", "class", (1,))],
        scores=torch.zeros(2),
        probabilities=None,
        maps={MapKey(layer, method): torch.rand(2, 3, 3) for layer in layers for method in ("gradcam", "cam")},
        geometry=Geometry.identity(30, 40),
        picture=Picture(torch.zeros(30, 40, 3, dtype=torch.uint8)),
    )
    names = overlay_names(explanation)
    assert {tuple(rest) for _, *rest in names} == {
        (key.layer, key.method, k) for key in explanation.maps for k in (0, 1)
    }
    assert len({name.casefold() for name, *_ in names}) == len(names) == 24
    assert all(len(name) < 140 for name, *_ in names)
    assert names[0][0].endswith("conv1.png")
    destination, written = Destination(str(tmp_path / "maps"), None), list[str]()
    for _ in range(2):
        destination.write(explanation, written)
    assert len(written) == len(set(written)) == 26


def test_the_photo_and_the_files_of_others_survive(classifier: str, tmp_path: Path) -> None:
    picture().save("photo.png")
    Path("notes.html").write_text("<html>my notes</html>")
    Path("folder").mkdir()
    Path("folder/report.html").write_text("<html>another program's report</html>")
    for out, expected in [
        ("photo.png", "the photo itself"),
        ("notes.html", "not from mmexplain"),
        ("photo.png/x.png", "folder"),
        ("photo.png/", "it is a file"),
        ("maps.gif", ".html"),
        ("nowhere/maps.html", "no folder 'nowhere'"),
        ("folder", "not from mmexplain"),
    ]:
        assert expected in refusal("classify", "photo.png", "--model", classifier, "--out", out)
    assert Path("notes.html").read_text() == "<html>my notes</html>"
    assert Path("folder/report.html").read_text() == "<html>another program's report</html>"
    with Image.open("photo.png") as image:
        assert image.tobytes() == picture().tobytes()


def test_an_empty_file_may_be_filled(photo: Path, classifier: str) -> None:
    Path("maps.html").touch()
    assert record("classify", photo, "--model", classifier, "--out", "maps.html")["files"] == ["maps.html"]


@pytest.mark.parametrize("as_json", [True, False])
def test_a_full_disk_does_not_cost_the_result(photo: Path, classifier: str, monkeypatch: Any, as_json: bool) -> None:
    def full(self: Explanation, path: Path) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(Explanation, "save", full)
    result = run("classify", photo, "--model", classifier, "--out", "maps.html", *(["--json"] if as_json else []))
    assert result.exit_code == 2
    assert "no space left on device" in one_line(result.stderr)
    if as_json:
        found = json.loads(result.stdout)
        assert (len(found["targets"]), found["files"]) == (3, [])
    else:
        assert all(label in result.stdout for label in CLASSES)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a file system that refuses even root")
@pytest.mark.parametrize("out", ["/proc/maps.html", "/proc/maps.png", "/proc/maps.safetensors", "/proc/maps/"])
def test_a_closed_folder_does_not_cost_the_result(photo: Path, classifier: str, out: str) -> None:
    result = run("classify", photo, "--model", classifier, "--out", out, "--json")
    assert result.exit_code == 2
    assert "/proc" in one_line(result.stderr)
    if result.stdout:  # root finds out when it writes, others before the work begins
        assert len(json.loads(result.stdout)["targets"]) == 3
