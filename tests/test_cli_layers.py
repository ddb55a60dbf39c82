"""``mmexplain layers-report``: what it prints, what it writes, what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.command_line import record, refusal, run

pytest_plugins = ["tests.command_line_fixtures"]
pytestmark = pytest.mark.usefixtures("own_folder")


def test_a_row_for_each_stage_and_a_figure_in_the_current_folder(photo: Path, classifier: str) -> None:
    result = run("layers-report", photo, "--model", classifier, "--target", "square", "--target", "cloud")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert (
        lines[0].split()[:2] == ["layer", "map"] and "ρ before: square" in lines[0] and "1 - ρ of targets" in lines[0]
    )
    rows = [line.split()[0] for line in lines[1 : lines.index("")]]
    assert [row for row in rows if row.startswith("layer")] == ["layer1", "layer2", "layer3", "layer4"]
    assert "wrote photo.layers.png" in lines
    assert Path("photo.layers.png").read_bytes().startswith(b"\x89PNG")
    assert run("layers-report", photo, "--model", classifier).exit_code == 0, "its own file is replaced"


def test_the_record(photo: Path, classifier: str) -> None:
    found = record("layers-report", photo, "--model", classifier, "--target", "square", "--blocks")
    assert found["format"] == "mmexplain.layers/1" and found["files"] == []
    assert [target["label"] for target in found["targets"]] == ["square"]
    assert all(set(layer) >= {"name", "grid", "stage", "neighbour", "last"} for layer in found["layers"])
    assert found["layers"][0]["discrimination"] is None
    assert not list(Path().iterdir())


def test_a_folder_gets_everything(photo: Path, classifier: str) -> None:
    result = run("layers-report", photo, "--model", classifier, "--layer", "layer?", "--out", "out/")
    assert result.exit_code == 0, result.output
    names = {"report.html", "layers.png", "layers.json", "explanation.safetensors"}
    assert {path.name for path in Path("out").iterdir()} == names
    assert [layer["name"] for layer in json.loads(Path("out/layers.json").read_text())["layers"]] == [
        f"layer{n}" for n in range(1, 5)
    ]


def test_the_encoders_of_a_captioner_and_a_vqa_model(photo: Path, captioner: str, answerer: str) -> None:
    found = record("layers-report", photo, "--model", captioner, "--caption", "a dog runs", "--target", "dog")
    assert found["text"] == "a dog runs" and found["layers"][0]["name"] == "encoder.blocks.0"
    found = record("layers-report", photo, "--model", answerer, "--question", "a dog", "--target", "red")
    assert [target["label"] for target in found["targets"]] == ["red"]


def test_refusals(photo: Path, classifier: str, captioner: str, answerer: str, mover: str) -> None:
    base = ("layers-report", photo, "--model")
    assert "exclude each other" in refusal(*base, classifier, "--blocks", "--layer", "layer1")
    assert "closest: 'layer4'" in refusal(*base, classifier, "--layer", "layer9")
    assert "'zebra'" in refusal(*base, classifier, "--target", "zebra")
    assert "one map, not one for each layer" in refusal(*base, classifier, "--method", "guided-backprop")
    assert "--question" in refusal(*base, answerer)
    assert "is not one" in refusal(*base, captioner, "--question", "what is it")
    assert "is not one" in refusal(*base, classifier, "--caption", "a dog")
    assert "videos" in refusal(*base, mover)
    assert "should end in" in refusal(*base, classifier, "--out", "maps.gif")
    assert "photo itself" in refusal(*base, classifier, "--out", photo)
    assert "no such file" in refusal("layers-report", "none.jpg", "--model", classifier).lower()
    assert "--model" in refusal("layers-report", photo)
