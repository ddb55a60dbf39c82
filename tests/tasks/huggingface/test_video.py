"""Video transformers, against the plain models and their own processors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmexplain.errors import InputError, LayerError, MethodError, ModelError
from mmexplain.explainer import explain
from mmexplain.taps import trace
from mmexplain.tasks.huggingface.layers import last_block
from mmexplain.tasks.huggingface.video import VideoTransformer
from tests.tasks.huggingface import tiny_video as tiny
from tests.tasks.huggingface.tiny_video import ACTIONS, FAMILIES, FRAMES, PATCH, SIDE, noise, own_pixels, ready
from tests.videos import write_video

EVERY = pytest.mark.parametrize("family", FAMILIES)
CELLS = SIDE // PATCH


@EVERY
def test_targets_together_are_as_each_alone(family: str) -> None:
    task = ready(family)
    methods = ["gradcam", "hirescam"]
    reference = task.explain(noise(), ACTIONS, sampling="dense", methods=methods, strategy="loop")
    assert all(float(maps.abs().sum()) > 0 for maps in reference.maps.values())
    for strategy in ("auto", "expand", "vjp"):
        found = task.explain(noise(), ACTIONS, sampling="dense", methods=methods, strategy=strategy)
        torch.testing.assert_close(found.scores, reference.scores)
        for key, maps in reference.maps.items():
            torch.testing.assert_close(found.maps[key], maps, rtol=1e-4, atol=1e-6)


@EVERY
def test_two_clips_at_once_are_as_each_alone(family: str) -> None:
    task = ready(family)
    clips = [noise(FRAMES), noise(FRAMES + 1)[:FRAMES]]
    targets = [[task.target(name) for name in ACTIONS]] * 2
    for strategy in ("auto", "expand", "vjp", "loop"):
        both = explain(task, task.prepare(clips), targets, strategy=strategy)
        for clip, found in zip(clips, both, strict=True):
            (alone,) = explain(task, task.prepare(clip), targets[:1], strategy="loop")
            for key, maps in alone.maps.items():
                torch.testing.assert_close(found.maps[key], maps, rtol=1e-4, atol=1e-6)


@EVERY
def test_every_place_has_a_say_at_the_default_layer(family: str) -> None:
    """Of a CLS token's model, the patch tokens that leave the last block have none."""
    task = ready(family)
    maps = task.explain(noise(), ACTIONS, sampling="dense", methods=["hirescam"], strategy="loop").maps
    (values,) = maps.values()
    steps = FRAMES if family == "timesformer" else FRAMES // 2
    assert values.shape == (3, steps, CELLS, CELLS)
    assert (values != 0).any(0).float().mean() > 0.8


@EVERY
def test_every_layer_that_is_listed_can_be_explained(family: str) -> None:
    task = ready(family)
    empty = task.empty()
    listed = trace(task.model, lambda: task.encode({"clip": empty}), empty.shape[2:], task.reader)
    grids = {layer.name: layer.maps[2:] for layer in listed if layer.maps}
    assert len(grids) > 30
    found = task.explain(noise(), ACTIONS, sampling="dense", layers=list(grids))
    assert {key.layer: maps.shape[1:] for key, maps in found.maps.items()} == grids


@EVERY
def test_the_model_comes_back_as_it_was(family: str) -> None:
    task = ready(family)
    model = task.model
    model.train()
    next(model.parameters()).requires_grad_(False)
    next(model.parameters()).grad = torch.ones_like(next(model.parameters()))
    model.get_submodule(last_block(model)).eval()

    def state() -> dict[str, Any]:
        hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
        return {
            "modes": [module.training for module in model.modules()],
            "hooks": [len(getattr(module, name)) for module in model.modules() for name in hooks],
            "learned": [parameter.requires_grad for parameter in model.parameters()],
            "gradients": [None if p.grad is None else float(p.grad.sum()) for p in model.parameters()],
            "weights": [float(tensor.double().sum()) for tensor in model.state_dict().values()],
            "random": torch.get_rng_state().tolist(),
            "attention": model.config._attn_implementation,
        }

    before = state()
    task.explain(noise(), ACTIONS, sampling="dense", methods=["gradcam", "gradcam++"])
    if family != "timesformer":
        task.explain(noise(), ACTIONS, sampling="dense", methods=["attention-relevance"])
    with pytest.raises(InputError):
        task.encode({"clip": torch.zeros(1, 3, 3, SIDE, SIDE)})
    assert state() == before


# -- attention --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["videomae", "vivit", "joint"])
def test_rollout_is_that_of_the_attentions_that_the_model_tells(family: str) -> None:
    joint = {"attention_type": "joint_space_time"} if family == "joint" else {}
    name = "timesformer" if joint else family
    task = ready(name, **joint)
    frames = noise(FRAMES)
    found = task.explain(frames, ACTIONS[0], sampling="dense", methods=["attention-rollout"])
    if not joint:
        task.model.set_attn_implementation("eager")
    with torch.no_grad():
        attentions = task.model(**own_pixels(task, frames), output_attentions=True).attentions
    product = torch.eye(attentions[0].shape[-1])
    for matrix in attentions:
        product = (matrix[0].mean(0) + torch.eye(len(product))) / 2 @ product
    row = product.mean(0) if family == "videomae" else product[0, 1:]
    shape = (CELLS, CELLS, FRAMES) if joint else (FRAMES // 2, CELLS, CELLS)
    expected = row.view(shape).permute(2, 0, 1) if joint else row.view(shape)
    (maps,) = found.maps.values()
    torch.testing.assert_close(maps[0], expected, rtol=1e-4, atol=1e-6)


def test_attention_that_is_divided_is_refused() -> None:
    with pytest.raises(MethodError, match=r"single frames.*use 'gradcam'"):
        ready("timesformer").explain(noise(), ACTIONS[0], sampling="dense", methods=["attention-rollout"])


def test_attentive_pooling_has_attention_methods() -> None:
    found = ready("vjepa2").explain(noise(), ACTIONS, sampling="dense", methods=["attention-relevance"])
    (maps,) = found.maps.values()
    assert maps.shape == (3, FRAMES // 2, CELLS, CELLS) and float(maps.max()) > 0


# -- lengths, refusals ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["videomae", "timesformer", "vivit"])
def test_clips_of_another_length_are_refused(family: str) -> None:
    task = ready(family)
    with pytest.raises(InputError, match="takes clips of 8 frames only, not 4"):
        task.explain(noise(), ACTIONS[0], frames=4)
    with pytest.raises(InputError, match="takes clips of 8 frames only, not 16"):
        task.encode({"clip": torch.zeros(1, 3, 16, SIDE, SIDE)})


def test_vjepa_takes_any_number_of_whole_tubelets() -> None:
    task = ready("vjepa2")
    frames = noise(4)
    found = task.explain(frames, ACTIONS, frames=4, sampling="dense")
    with torch.no_grad():
        expected = task.model(**own_pixels(task, frames)).logits
    torch.testing.assert_close(found.scores, expected[0], rtol=1e-4, atol=1e-5)
    (maps,) = found.maps.values()
    assert maps.shape == (3, 2, CELLS, CELLS)
    with pytest.raises(InputError, match="takes frames by 2: 5 is no multiple"):
        task.explain(frames, ACTIONS, frames=5)
    with pytest.raises(InputError, match="2 frames or more, not 1"):
        task.explain(frames, ACTIONS, frames=1)


@EVERY
def test_long_videos_go_window_by_window(family: str) -> None:
    task = ready(family)
    found = task.explain(noise(3 * FRAMES), ACTIONS[0], stride=1)
    (maps,) = found.maps.values()
    assert maps.shape == (1, 3 * FRAMES, CELLS, CELLS)
    with torch.no_grad():
        each = [
            task.model(**own_pixels(task, noise(3 * FRAMES)[start : start + FRAMES])).logits[0, 0]
            for start in range(0, 3 * FRAMES, FRAMES)
        ]
    torch.testing.assert_close(found.scores[0], torch.stack(each).mean(), rtol=1e-4, atol=1e-5)


def test_the_models_frame_rate_is_reached(tmp_path: Path) -> None:
    """At 25 frames a second, VideoMAE's 7.5 are every third."""
    clip = write_video(tmp_path / "clip.mp4", 60)
    found = ready("videomae").explain(str(clip), ACTIONS[0], sampling="dense")
    steps = np.diff(found.geometry.frames or ())
    assert set(steps.tolist()) == {3}


def test_videomae_that_reads_one_token_only_has_another_layer() -> None:
    task = ready("videomae", use_mean_pooling=False)
    assert task.default_layer() == "videomae.encoder.layer.1.layernorm_before"
    found = task.explain(noise(), ACTIONS, sampling="dense", methods=["hirescam"])
    (maps,) = found.maps.values()
    assert (maps != 0).any(0).float().mean() > 0.8


def test_other_models_and_processors_are_refused() -> None:
    from transformers import ResNetConfig, ResNetForImageClassification, VideoMAEVideoProcessor

    small = {"embedding_size": 8, "hidden_sizes": [8], "depths": [1], "layer_type": "basic"}
    processor = VideoMAEVideoProcessor(size={"shortest_edge": 40}, crop_size={"height": 40, "width": 40})
    with pytest.raises(ModelError, match="no video transformer that is known; there are: videomae"):
        VideoTransformer(ResNetForImageClassification(ResNetConfig(**small)), processor)
    with pytest.raises(ModelError, match="frames of 40×40 pixels; VideoMAEForVideoClassification takes 32×32"):
        VideoTransformer(tiny.make("videomae")[0], processor)


def test_layers_that_are_no_grid_are_refused() -> None:
    with pytest.raises(LayerError, match=r"'pooler.cross_attention_layer'.*no grid over the clip"):
        ready("vjepa2").explain(noise(), ACTIONS[0], sampling="dense", layers=["pooler.cross_attention_layer"])
