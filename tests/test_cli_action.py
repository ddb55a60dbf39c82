"""The command line's ``action``, on a tiny model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mmexplain.explanation import Explanation
from mmexplain.tasks import registry
from mmexplain.tasks.registry import load
from tests.command_line import ACTIONS, record, refusal, run, save_mover

pytest_plugins = ["tests.command_line_fixtures"]
pytestmark = pytest.mark.usefixtures("own_folder")


def test_the_record_says_what_the_library_says(clip: Path, mover: str) -> None:
    options = ("--target", "Falling", "--versus", "jumping", "sitting still", "--sampling", "uniform")
    found = record("action", clip, "--model", mover, *options)
    task: Any = load(mover, device="cpu")
    targets = [task.target("falling"), task.contrast("jumping", "sitting still")]
    expected = task.explain(str(clip), targets, sampling="uniform").to_json()
    for record_ in (found, expected):
        record_.pop("seconds")
    assert found == expected
    assert [target["label"] for target in found["targets"]] == ["falling", "jumping rather than sitting still"]
    assert {"peak", "frame"} <= set(found["targets"][0])


def test_the_likeliest_actions_when_none_is_named(clip: Path, mover: str) -> None:
    targets = record("action", clip, "--model", mover)["targets"]
    assert len(targets) == 2
    assert targets[0]["probability"] >= targets[1]["probability"]
    every = record("action", clip, "--model", mover, "--top", "3", "--score", "log-probability")["targets"]
    assert sorted(target["label"] for target in every) == sorted(ACTIONS)
    assert all(target["score"] <= 0 for target in every)


def test_everything_is_written_into_a_folder(clip: Path, mover: str, tmp_path: Path) -> None:
    result = run("action", clip, "--model", mover, "--target", "jumping", "--out", "maps/")
    assert result.exit_code == 0, result.output
    assert "jumping" in result.stdout and "frame" in result.stdout
    names = {path.name for path in (tmp_path / "maps").iterdir()}
    assert {"report.html", "explanation.safetensors", "00_jumping.mp4"} <= names
    loaded = Explanation.load(tmp_path / "maps/explanation.safetensors")
    assert loaded.geometry.n_frames == 20
    again = run("action", clip, "--model", mover, "--target", "jumping", "--out", "maps/")
    assert again.exit_code == 0, "what mmexplain wrote may be replaced"


@pytest.mark.parametrize("name", ["overlay.mp4", "overlay.gif", "strip.png", "player.html", "raw.safetensors"])
def test_the_suffix_says_what_is_written(clip: Path, mover: str, tmp_path: Path, name: str) -> None:
    result = run("action", clip, "--model", mover, "--top", "1", "--out", name)
    assert result.exit_code == 0, result.output
    assert (tmp_path / name).stat().st_size > 1000


@pytest.mark.parametrize("method", ["occlusion(patch=90, stride=90)", "scorecam", "ablationcam", "rise(masks=4)"])
def test_methods_that_run_the_model_often(clip: Path, mover: str, method: str) -> None:
    """Of one window they are explained, with an axis of time; of several there is a line that says what to do."""
    found = record("action", clip, "--model", mover, "--method", method, "--sampling", "dense", "--top", "1")
    (target,) = found["targets"]
    assert target["method"] == method and (target["peak"] is None or target["frame"] is not None)
    refused = refusal("action", clip, "--model", mover, "--method", method, "--sampling", "windows", "--stride", "1")
    assert repr(method) in refused and "sampling='dense' or 'uniform'" in refused


def test_refusals(clip: Path, photo: Path, mover: str, tmp_path: Path) -> None:
    assert "'jumpin' is not among the model's 3 actions; closest: 'jumping'" in refusal(
        "action", clip, "--model", mover, "--target", "jumpin"
    )
    assert "exclude each other" in refusal("action", clip, "--model", mover, "--target", "jumping", "--top", "2")
    assert "1000000 is not in the range 1<=x<=4096" in refusal("action", clip, "--model", mover, "--frames", "1000000")
    assert "no such file" in refusal("action", tmp_path / "none.mp4", "--model", mover).lower()
    (tmp_path / "text.mp4").write_text("this is no video")
    assert "text.mp4" in refusal("action", tmp_path / "text.mp4", "--model", mover)
    assert "photo" in refusal("action", photo, "--model", mover)
    save_mover(tmp_path / "bad.safetensors", poison=True)
    assert "not finite" in refusal("action", clip, "--model", tmp_path / "bad.safetensors")


def test_models_are_pulled_by_name(monkeypatch: Any, tmp_path: Path) -> None:
    assert "'resnet50' is not a model that is pulled; there is: i3d-kinetics400" in refusal(
        "models", "pull", "resnet50"
    )
    monkeypatch.setattr(registry, "pull", lambda model, say: say("fetching") or tmp_path / f"{model}.safetensors")
    result = run("models", "pull", "i3d-kinetics400")
    assert result.exit_code == 0
    assert str(tmp_path / "i3d-kinetics400.safetensors") in result.stdout


def test_a_model_that_was_not_pulled_says_how(clip: Path, monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setenv("MMEXPLAIN_CACHE", str(tmp_path))
    assert "mmexplain models pull i3d-kinetics400" in refusal("action", clip)


def test_layers_of_an_action_model_are_listed(mover: str) -> None:
    listed = run("layers", "--model", mover)
    assert listed.exit_code == 0, listed.output
    (default,) = [line for line in listed.stdout.splitlines() if "default" in line]
    assert default.split()[0] == "relu5b" and "2×7×7" in default
