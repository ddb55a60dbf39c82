"""Where the tokens of video transformers lie in the video: by evidence that was planted in one patch of one tubelet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from mmexplain.errors import LayerError
from mmexplain.taps import first_tensor
from mmexplain.tasks.huggingface.video import VideoTransformer
from tests.tasks.huggingface.tiny_video import ACTIONS, FAMILIES, FRAMES, PATCH, SHORTEST, SIDE, noise, ready

EVERY = pytest.mark.parametrize("family", FAMILIES)
EMBEDDINGS = {
    "videomae": "videomae.embeddings",
    "timesformer": "timesformer.embeddings",
    "vivit": "vivit.embeddings",
    "vjepa2": "vjepa2.encoder.embeddings",
}
MIXES = {
    "videomae": [f"videomae.encoder.layer.{n}.attention.output.dense" for n in range(2)],
    "timesformer": [
        *(f"timesformer.encoder.layer.{n}.temporal_dense" for n in range(2)),
        "timesformer.encoder.layer.0.attention.output.dense",
    ],
    "vivit": ["vivit.layers.0.attention.o_proj"],
    "vjepa2": [f"vjepa2.encoder.layer.{n}.attention.proj" for n in range(2)],
}
"""Projections through which tokens hear of each other before the layer that is explained."""


def unmixed(task: VideoTransformer, family: str) -> None:
    """Tokens no longer hear of each other before the explained layer."""
    for name in MIXES[family]:
        task.model.get_submodule(name).weight.data.zero_()


@contextmanager
def planted(task: VideoTransformer, family: str, frame: int, row: int, column: int) -> Iterator[None]:
    """The score depends on one patch of one tubelet only: the tokens of all others are exchanged for a constant when
    they leave the embeddings, and tokens no longer hear of each other before the explained layer. Which token is that
    patch's is found by changing its pixels."""
    model = task.model
    embeddings = model.get_submodule(EMBEDDINGS[family])
    unmixed(task, family)
    with torch.no_grad():
        more = (None,) if family == "videomae" else ()
        clip = torch.zeros(1, FRAMES, 3, SIDE, SIDE)
        moved = clip.clone()
        moved[:, frame, :, row * PATCH : (row + 1) * PATCH, column * PATCH : (column + 1) * PATCH] = 1
        changed = (embeddings(moved, *more) - embeddings(clip, *more)).abs().sum(-1)[0].nonzero().flatten().tolist()
    assert len(changed) == 1
    # VideoMAE's mean over places is normalised: of a single token that is not zero, its length would not matter.
    width = model.config.hidden_size
    blank = torch.linspace(-0.1, 0.1, width).cos() * (torch.arange(width) % 3 - 1) * (family == "videomae")

    def hook(_: Any, __: Any, tokens: Tensor) -> Tensor:
        kept = torch.zeros(tokens.shape[1], 1)
        kept[changed] = 1
        if family in ("timesformer", "vivit"):
            kept[0] = 1
        return tokens * kept + blank * (1 - kept)

    handle = embeddings.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def planted_box(size: tuple[int, int], row: int, column: int) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a patch in the original, of which the middle was cut out after resizing."""
    width, height = size
    scale = SHORTEST / min(width, height)
    left, top = (width * scale - SIDE) / 2, (height * scale - SIDE) / 2
    return tuple(  # type: ignore[return-value]
        (offset + PATCH * cell) / scale
        for offset, cell in ((left, column), (top, row), (left, column + 1), (top, row + 1))
    )


@EVERY
@pytest.mark.parametrize("size", [(96, 48), (48, 96)], ids=["wide", "tall"])
@pytest.mark.parametrize("frame,row,column", [(5, 1, 3), (2, 3, 0), (6, 0, 2)])
def test_planted_evidence_is_found_in_the_video(
    family: str, size: tuple[int, int], frame: int, row: int, column: int
) -> None:
    task = ready(family)
    per_step = 1 if family == "timesformer" else 2
    own = [number for number in range(FRAMES) if number // per_step == frame // per_step]
    with planted(task, family, frame, row, column):
        clip = task.prepare(noise(FRAMES, *size)).inputs["clip"].requires_grad_()
        logits = task.encode({"clip": clip})
        (gradient,) = torch.autograd.grad(logits[0, 0] - logits[0, 1], clip)
        depends = gradient[0].abs().sum(0).nonzero()
        assert depends.amin(0).tolist() == [own[0], row * PATCH, column * PATCH]
        assert depends.amax(0).tolist() == [own[-1], (row + 1) * PATCH - 1, (column + 1) * PATCH - 1]
        both = [("running", "sitting"), ("sitting", "running")]
        found = task.explain(noise(2 * FRAMES - 1, *size), versus=both, stride=2, sampling="dense")
    (maps,) = found.maps.values()
    # What speaks for one action rather than another speaks against the other.
    strongest = max(maps, key=lambda values: float(values.max()))
    assert float(strongest.max()) > 0
    peak = found.geometry.peak_in_clip(strongest)
    assert peak is not None
    x, y, number = peak
    left, top, right, bottom = planted_box(size, row, column)
    assert left <= x + 0.5 <= right and top <= y + 0.5 <= bottom
    assert number in [2 * n for n in own]


@EVERY
def test_what_was_cropped_or_skipped_is_unseen(family: str) -> None:
    found = ready(family).explain(noise(), ACTIONS[0], stride=2, sampling="dense")
    (maps,) = found.maps.values()
    shown = ~found.geometry.to_original(maps[0]).isnan()
    assert shown.shape == (15, 48, 96)
    assert shown.flatten(1).any(1).nonzero().flatten().tolist() == list(range(0, 15, 2))
    left, top, right, bottom = 20 / 0.75, 2 / 0.75, 52 / 0.75, 34 / 0.75
    columns = [x for x in range(96) if left <= x + 0.5 < right]
    rows = [y for y in range(48) if top <= y + 0.5 < bottom]
    assert shown[0].any(0).nonzero().flatten().tolist() == columns
    assert shown[0].any(1).nonzero().flatten().tolist() == rows


LAYERS = {
    "videomae": """videomae.embeddings.patch_embeddings videomae.embeddings videomae.encoder.layer.0.layernorm_before
        videomae.encoder.layer.0.attention.attention.query videomae.encoder.layer.1.intermediate
        videomae.encoder.layer.1 videomae""",
    "timesformer": """timesformer.embeddings.patch_embeddings timesformer.embeddings.pos_drop
        timesformer.embeddings.time_drop timesformer.embeddings timesformer.encoder.layer.0.temporal_layernorm
        timesformer.encoder.layer.0.layernorm_before timesformer.encoder.layer.0.attention.attention.qkv
        timesformer.encoder.layer.0.layernorm_after timesformer.encoder.layer.0
        timesformer.encoder.layer.1.temporal_attention.attention.qkv
        timesformer.encoder.layer.1.layernorm_before""",
    "vivit": """vivit.embeddings.patch_embeddings vivit.embeddings vivit.layers.0.layernorm_before
        vivit.layers.0.attention.v_proj vivit.layers.0.mlp.fc1 vivit.layers.0 vivit.layers.1.layernorm_before""",
    "vjepa2": """vjepa2.encoder.embeddings vjepa2.encoder.layer.0.norm1 vjepa2.encoder.layer.0.attention.key
        vjepa2.encoder.layer.0.mlp vjepa2.encoder.layer.1 vjepa2.encoder.layernorm""",
}
"""Layers that put out a token for each patch, alone or with a class token, of all frames or of one at a time."""


@pytest.mark.parametrize("family,layer", [(family, layer) for family in FAMILIES for layer in LAYERS[family].split()])
def test_layers_are_read_in_the_order_of_their_tokens(family: str, layer: str) -> None:
    """Where one patch is changed, one place of the layer moves, as long as tokens do not hear of each other."""
    task = ready(family)
    unmixed(task, family)
    moved = task.empty().clone()
    moved[:, :, 5, PATCH : 2 * PATCH, 3 * PATCH :] = 1
    maps = []
    for clip in (task.empty(), moved):
        values: list[Tensor] = []
        handle = task.model.get_submodule(layer).register_forward_hook(keep(values))
        with torch.no_grad():
            task.encode({"clip": clip})
        handle.remove()
        reader = task.reader(layer, values[0].shape)
        assert reader is not None
        maps.append(reader(values[0]))
    difference = (maps[1] - maps[0]).abs().sum(1)[0]
    assert difference.nonzero().tolist() == [[5 if family == "timesformer" else 2, 1, 3]]


def keep(values: list[Tensor]) -> Any:
    def hook(_: Any, __: Any, output: Any) -> None:
        value = first_tensor(output)
        assert value is not None
        values.append(value)

    return hook


def test_outputs_that_are_no_grid_are_refused() -> None:
    task = ready("timesformer")
    for shape in [(1, 48, 4), (1, 2, 48), (8, 4, 17, 17)]:
        with pytest.raises(LayerError, match="no grid over the clip"):
            task.reader("timesformer.encoder.layer.0", shape)
    assert task.reader("timesformer.embeddings.patch_embeddings.projection", (8, 48, 4, 4)) is None


def test_as_many_frames_as_places_are_told_apart_by_name() -> None:
    """16 frames of 4 × 4 patches: rows of one place, or of one frame."""
    task = ready("timesformer", num_frames=16)
    shape = (16, 16, 48)
    values = torch.arange(256.0).view(16, 16, 1).expand(shape)
    over_time = task.reader("timesformer.encoder.layer.0.temporal_layernorm", shape)
    of_frames = task.reader("timesformer.embeddings.patch_embeddings", shape)
    assert over_time is not None and of_frames is not None
    assert over_time(values)[0, 0, 3, 1, 2] == (1 * 4 + 2) * 16 + 3
    assert of_frames(values)[0, 0, 3, 1, 2] == 3 * 16 + 1 * 4 + 2
