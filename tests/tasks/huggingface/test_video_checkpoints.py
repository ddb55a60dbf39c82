"""Video transformers as they are saved: loading, pixels, scores, and the command line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmexplain.errors import CheckpointError
from mmexplain.explanation import Explanation
from mmexplain.tasks.action.task import Action
from mmexplain.tasks.huggingface.loading import load as load_task
from mmexplain.tasks.huggingface.video import VideoTransformer
from tests.command_line import record, refusal, run
from tests.tasks.huggingface import tiny_video as tiny
from tests.tasks.huggingface.tiny_video import ACTIONS, FAMILIES, FRAMES, SHORTEST, SIDE, noise, own_pixels, ready
from tests.videos import write_video

EVERY = pytest.mark.parametrize("family", FAMILIES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def of(family: str) -> Path:
        if family not in made:
            made[family] = tiny.save(tmp_path_factory.mktemp(family), family)
        return made[family]

    return of


@EVERY
@pytest.mark.parametrize("size", [(96, 48), (48, 96), (61, 47), (30, 30)])
def test_a_saved_checkpoint_sees_what_its_processor_makes(
    family: str, size: tuple[int, int], folder: Callable[[str], Path]
) -> None:
    task = load_task(str(folder(family)))
    assert isinstance(task, VideoTransformer) and task.name == "action" and list(task.labels or ()) == ACTIONS
    frames = noise(FRAMES, *size)
    made, _ = tiny.make(family)
    with torch.no_grad():
        expected = made(**own_pixels(task, frames)).logits
        batch = task.prepare(frames)
        found = task.encode(batch.inputs)
    (pixels,) = own_pixels(task, frames).values()
    assert torch.equal(batch.inputs["clip"].transpose(1, 2), pixels)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("family", ["videomae", "vivit"])
def test_old_checkpoints_have_the_settings_of_an_image_processor(
    family: str, folder: Callable[[str], Path], tmp_path: Path
) -> None:
    """As those of the hub that are older than video processors."""
    old = tmp_path / "old"
    shutil.copytree(folder(family), old)
    (old / "video_preprocessor_config.json").unlink()
    kind = {"videomae": "VideoMAEFeatureExtractor", "vivit": "VivitImageProcessor"}[family]
    settings = {"feature_extractor_type" if "Feature" in kind else "image_processor_type": kind}
    sizes = {"size": {"shortest_edge": SHORTEST}, "crop_size": {"height": SIDE, "width": SIDE}}
    (old / "preprocessor_config.json").write_text(json.dumps({**settings, **sizes}))
    clips = [load_task(str(where)).prepare(noise(FRAMES)).inputs["clip"] for where in (old, folder(family))]
    assert torch.equal(*clips)


def test_a_checkpoint_without_a_processor_is_refused(folder: Callable[[str], Path], tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(folder("vivit"), bare)
    (bare / "video_preprocessor_config.json").unlink()
    with pytest.raises(CheckpointError, match="processor"):
        load_task(str(bare))


@EVERY
def test_black_and_the_record_of_what_was_done(family: str) -> None:
    task = ready(family)
    (pixels,) = own_pixels(task, np.zeros((FRAMES, 40, 40, 3), np.uint8)).values()
    assert list(task.black()) == pixels[0, 0, :, 0, 0].tolist()
    assert task.provenance()["preprocess"]["video_processor_type"] == type(task.preprocess.image_processor).__name__


@EVERY
def test_the_command_line(family: str, folder: Callable[[str], Path], tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", 20)
    model = f"hf:{folder(family)}"
    found = record("action", clip, "--model", model, "--target", "jumping", "--versus", "running", "sitting")
    assert [target["label"] for target in found["targets"]] == ["jumping", "running rather than sitting"]
    result = run("action", clip, "--model", model, "--out", str(tmp_path / "maps.safetensors"))
    assert result.exit_code == 0, result.output
    task: Any = load_task(str(folder(family)))
    assert isinstance(task, Action)
    expected = task.explain(str(clip), top=2)
    loaded = Explanation.load(tmp_path / "maps.safetensors")
    for key, maps in expected.maps.items():
        torch.testing.assert_close(loaded.maps[key], maps)


def test_the_command_line_says_what_is_wrong(folder: Callable[[str], Path], tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", 20)
    model = f"hf:{folder('timesformer')}"
    assert "clips of 8 frames only" in refusal("action", clip, "--model", model, "--frames", "4")
    assert "single frames" in refusal("action", clip, "--model", model, "--method", "attention-rollout")
    assert "'jumpin' is not among the model's 3 actions" in refusal(
        "action", clip, "--model", model, "--target", "jumpin"
    )
