"""The demo and the scripts in demos/ run as they stand."""

from __future__ import annotations

import runpy
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import mmexplain
from mmexplain import demo
from mmexplain.tasks import registry
from tests.command_line import one_line, refusal, run

pytest_plugins = ["tests.command_line_fixtures"]
pytestmark = pytest.mark.usefixtures("own_folder")

SCRIPTS = Path(__file__).parent.parent / "demos"


@pytest.fixture
def small_models(monkeypatch: pytest.MonkeyPatch, classifier: str, captioner: str) -> None:
    """Two scenes, one for each verb, explained by tiny models."""
    monkeypatch.setattr(registry, "DEFAULTS", {"caption": captioner, "classify": classifier})
    scenes = {scene.task: scene for scene in demo.SCENES}
    sentence = replace(scenes["caption"], caption="a dog on grass", versus={"dog": "cat"}, title="another sentence")
    square = replace(scenes["classify"], classes=("square", "cloud"), versus={"square": "cloud"})
    monkeypatch.setattr(demo, "SCENES", (scenes["caption"], sentence, square))


def test_the_photos_of_the_demo_are_installed() -> None:
    photos = [demo.find_photo(scene) for scene in demo.SCENES]
    assert None not in photos
    assert len(set(photos)) >= 3
    for photo in photos:
        assert photo is not None
        with Image.open(photo) as image:
            image.verify()


def test_both_verbs_are_shown_with_gradients_attention_and_a_forced_class() -> None:
    assert {scene.task for scene in demo.SCENES} == {"caption", "classify"}
    assert {"gradcam", "gradcam++"} <= set(demo.CAPTION_METHODS)
    assert "guided-gradcam" in demo.CLASS_METHODS
    assert any(len(scene.classes) > 1 and scene.versus for scene in demo.SCENES)


@pytest.mark.usefixtures("small_models")
def test_the_demo_ends_with_one_report(tmp_path: Path) -> None:
    result = run("demo", "--out", "somewhere/new")
    assert result.exit_code == 0, result.output
    page = (tmp_path / "somewhere/new/report.html").read_text(encoding="utf-8")
    for scene in demo.SCENES:
        assert Path(scene.path).name in page
        assert scene.title in result.stderr
    assert "attention" in page and "dog rather than cat" in page and "square rather than cloud" in page
    assert "somewhere/new/report.html" in result.stdout.splitlines()[-1]
    assert run("demo", "--out", "somewhere/new").exit_code == 0, "a second time, over the first"


@pytest.mark.usefixtures("small_models")
def test_the_demo_refuses_in_one_line(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "file").write_text("")
    assert "'file/'" in refusal("demo", "--out", "file")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/report.html").write_text("<html>another program's</html>")
    assert "not from mmexplain" in refusal("demo", "--out", "taken")
    monkeypatch.setattr(demo, "find_spec", lambda _: None)
    result = run("demo", "--out", "new")
    assert result.exit_code == 2
    assert "pip install 'mmexplain[demo]'" in one_line(result.stderr)


@pytest.mark.parametrize("script", sorted(SCRIPTS.glob("*.py")), ids=lambda path: path.name)
def test_the_scripts_run(
    script: Path, photo: Path, classifier: str, captioner: str, monkeypatch: Any, capsys: Any
) -> None:
    models = {"show-attend-tell": captioner, "efficientnet-lite0": classifier}
    honest = mmexplain.load
    monkeypatch.setattr(mmexplain, "load", lambda model: honest(models[model]))
    monkeypatch.setattr(sys, "argv", [script.name, str(photo)])
    runpy.run_path(str(script), run_name="__main__")
    assert "wrote" in capsys.readouterr().out
    assert list(Path.cwd().glob("*.html"))
    assert len(script.read_text(encoding="utf-8").splitlines()) < 40


def test_the_whole_demo_takes_less_than_two_minutes(tmp_path: Path) -> None:
    if not all(info.available for info in registry.models() if info.id in registry.DEFAULTS.values()):
        pytest.skip("the bundled models are not all in this tree")
    started = time.process_time()
    result = run("demo", "--out", "report")
    assert result.exit_code == 0, result.output
    assert len(result.stdout.splitlines()) == len(demo.SCENES) + 2
    assert (tmp_path / "report/report.html").stat().st_size > 100_000
    assert time.process_time() - started < 120
