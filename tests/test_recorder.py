"""The recorder by itself: where the graph starts, what is captured, and whom the hooks answer to."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mmexplain.errors import LayerError
from mmexplain.recorder import Recorder
from tests.models import PlainCNN, ResidualNet, noise, seeded


def test_the_graph_starts_at_the_earliest_tap():
    model, image = seeded(PlainCNN), noise(2, 3, 16, 16)
    with Recorder(model, ["norm", "conv2"]) as recorder, torch.no_grad(), recorder.encoding():
        model.conv1.register_forward_hook(lambda _, __, output: seen.append(output.requires_grad))
        seen: list[bool] = []
        output = model(image)
        assert torch.is_grad_enabled()
    assert seen == [False] and output.requires_grad
    assert recorder.captured["conv2"].is_leaf and not recorder.captured["norm"].is_leaf
    assert recorder.encoded() == ["conv2", "norm"]


def test_the_output_is_unchanged_and_the_hooks_go():
    model, image = seeded(ResidualNet), noise(2, 3, 12, 12)
    expected = model(image)
    with Recorder(model, ["block1.conv1", "stem"]) as recorder, recorder.encoding():
        torch.testing.assert_close(model(image), expected)
    assert not any(module._forward_hooks for module in model.modules())


def test_rows_are_repeated_where_the_graph_starts_and_only_there():
    model, image = seeded(PlainCNN), noise(2, 3, 16, 16)
    with Recorder(model, ["conv1", "conv2"]) as recorder, torch.no_grad(), recorder.encoding(repeats=3):
        output = model(image)
    assert output.shape[0] == 6
    assert [recorder.captured[layer].shape[0] for layer in ("conv1", "conv2")] == [6, 6]
    torch.testing.assert_close(output, model(image).repeat_interleave(3, 0))


def test_outside_of_recording_the_hooks_do_nothing():
    model, image = seeded(PlainCNN), noise(1, 3, 16, 16)
    with Recorder(model, ["conv1"]) as recorder, torch.no_grad():
        assert not model(image).requires_grad
        assert recorder.captured == {}


def test_only_the_innermost_recorder_listens():
    model, image = seeded(PlainCNN), noise(1, 3, 16, 16)
    with Recorder(model, ["conv1"]) as outer, outer.encoding():
        model(image)
        first = outer.captured["conv1"]
        with Recorder(model, ["conv1"]) as inner, inner.encoding():
            model(2 * image)
        assert outer.captured["conv1"] is first
        torch.testing.assert_close(inner.captured["conv1"], model.conv1(2 * image))


def test_each_decode_starts_from_what_encode_left():
    model = nn.ModuleDict({"trunk": nn.Conv2d(3, 3, 1), "head": nn.Conv2d(3, 3, 1)})
    image = noise(1, 3, 4, 4).float()
    with Recorder(model, ["trunk", "head@0", "head@1"]) as recorder:
        with recorder.encoding():
            features = model["trunk"](image)
        kept = recorder.captured["trunk"]
        for _ in range(2):
            with recorder.decoding():
                model["head"](model["head"](features))
            assert recorder.captured["trunk"] is kept
            assert recorder.encoded() == ["trunk"]
            assert not torch.equal(recorder.captured["head@0"], recorder.captured["head@1"])
            recorder.require(["trunk", "head@0", "head@1"])


def test_an_output_is_handed_on_until_it_is_changed():
    model = nn.Sequential(nn.Conv2d(3, 3, 1))
    with Recorder(model, ["0"]) as recorder, torch.no_grad(), recorder.encoding():
        output = model(noise(1, 3, 4, 4).float())
        assert recorder.handed_on(output) == "0"
        assert recorder.handed_on(output * 1) is None
        output.relu_()
        assert recorder.handed_on(output) is None
        assert recorder.captured["0"].min() < 0


def test_what_cannot_be_differentiated():
    class Whole(nn.Module):
        def forward(self, x):
            return x.long()

    model = nn.Sequential(Whole())
    with (
        Recorder(model, ["0"]) as recorder,
        recorder.encoding(),
        pytest.raises(LayerError, match=r"'0' puts out torch\.int64"),
    ):
        model(torch.zeros(1))


def test_require_tells_what_did_not_run():
    model, image = seeded(ResidualNet), noise(1, 3, 12, 12)
    with Recorder(model, ["block1.relu@2", "stem"]) as recorder:
        with recorder.encoding():
            model(image)
        recorder.require(["stem"])
        with pytest.raises(LayerError, match=r"'block1\.relu' runs 2 time\(s\) in a forward pass; there is no call 2"):
            recorder.require(["block1.relu@2"])
        with pytest.raises(LayerError, match="'fc' does not run"):
            recorder.require(["fc"])
