"""Actions explained over space and time, against slow loops in float64 and the model itself."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmexplain.errors import InputError, LayerError, MethodError, ModelError, TargetError
from mmexplain.explainer import explain
from mmexplain.explanation import Explanation, MapKey
from mmexplain.preprocess import Preprocess
from mmexplain.tasks.action.model import ActionModel
from mmexplain.tasks.action.task import Action
from mmexplain.video.stills import Clip as ArrayVideo
from tests.models import small_mvit

NAMES = ["drinking", "eating", "running", "riding a bike", "riding a horse"]
SIZE = (16, 12)
PREPROCESS = Preprocess(resize=SIZE, mean=(0.5, 0.5, 0.5))


class Clip(nn.Module):
    """A 3-D CNN; ``act`` stands for its ReLUs, and its head sees every place apart."""

    def __init__(self, act: Callable[[Tensor], Tensor] = F.relu) -> None:
        super().__init__()
        self.act = act
        self.conv1 = nn.Conv3d(3, 4, 3, (1, 2, 2), 1)
        self.conv2 = nn.Conv3d(4, 5, 3, (2, 1, 1), 1)
        self.dropout = nn.Dropout()
        self.fc = nn.Linear(5 * 8, len(NAMES))

    def maps(self, clip: Tensor) -> Tensor:
        return self.conv2(self.act(self.conv1(clip)))

    def head(self, maps: Tensor) -> Tensor:
        return self.fc(self.dropout(F.adaptive_avg_pool3d(self.act(maps), 2).flatten(1)))

    def forward(self, clip: Tensor) -> Tensor:
        return self.head(self.maps(clip))


class Pooled(nn.Module):
    """Global average pooling over space and time, and one linear layer: the network of the CAM paper."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv3d(3, 4, 3, 2, 1), nn.ReLU())
        self.fc = nn.Linear(4, len(NAMES))

    def forward(self, clip: Tensor) -> Tensor:
        return self.fc(self.features(clip).mean((2, 3, 4)))


class FrameByFrame(nn.Module):
    """A CNN that sees the frames one by one, folded into its rows, and an LSTM over them (Donahue et al. 2015)."""

    def __init__(self) -> None:
        super().__init__()
        self.cnn = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU())
        self.lstm = nn.LSTM(6, 7, batch_first=True)
        self.fc = nn.Linear(7, len(NAMES))

    def head(self, maps: Tensor, clips: int) -> Tensor:
        said, _ = self.lstm(maps.mean((2, 3)).view(clips, -1, 6))
        return self.fc(said[:, -1])

    def forward(self, clip: Tensor) -> Tensor:
        return self.head(self.cnn(clip.transpose(1, 2).flatten(0, 1)), len(clip))


class Stacked(nn.Module):
    """Eight frames stacked in the channels of a 2-D CNN: its maps have no axis of time."""

    def __init__(self) -> None:
        super().__init__()
        self.cnn = nn.Conv2d(24, 6, 3, 2, 1)
        self.fc = nn.Linear(6, len(NAMES))

    def forward(self, clip: Tensor) -> Tensor:
        return self.fc(self.cnn(clip.flatten(1, 2)).relu().amax((2, 3)))


class GuidedReLU(torch.autograd.Function):
    """Springenberg et al.: what is negative, forward or backward, is stopped."""

    @staticmethod
    def forward(ctx, value):
        ctx.save_for_backward(value)
        return value.clamp(min=0)

    @staticmethod
    def backward(ctx, gradient):
        (value,) = ctx.saved_tensors
        return gradient * (gradient > 0) * (value > 0)


def made(model: Callable[[], nn.Module] = Clip) -> nn.Module:
    with torch.random.fork_rng([]):
        torch.manual_seed(3)
        return model().double().eval()


def action(model: type[nn.Module] = Clip, frames: int = 8, **options: object) -> Action:
    return Action(made(model), PREPROCESS, NAMES, frames=frames, **options)  # type: ignore[arg-type]


def video(frames: int, height: int = 20, width: int = 15) -> Tensor:
    generator = torch.Generator().manual_seed(frames)
    return torch.randint(0, 256, (frames, height, width, 3), dtype=torch.uint8, generator=generator)


def clip_of(task: Action, frames: Tensor) -> Tensor:
    return task.prepare(frames).inputs["clip"]


def slow_maps(model: Clip, clip: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """Grad-CAM (eqs 1-2) and Grad-CAM++ (eq. 19) of one logit at ``conv2``, place by place."""
    maps = model.maps(clip).detach().requires_grad_()
    (gradients,) = torch.autograd.grad(model.head(maps)[0, number], maps)
    values, slopes = maps.detach()[0].numpy(), gradients[0].numpy()
    cam, plus = np.zeros(values.shape[1:]), np.zeros(values.shape[1:])
    for channel in range(len(values)):
        cam += slopes[channel].sum() / slopes[channel].size * values[channel]
        total, weight = values[channel].sum(), 0.0
        for place in np.ndindex(*slopes[channel].shape):
            slope = slopes[channel][place]
            if slope > 0:
                weight += slope**2 / (2 * slope**2 + slope**3 * total) * slope
        plus += weight * values[channel]
    return torch.from_numpy(np.maximum(cam, 0)), torch.from_numpy(np.maximum(plus, 0))


# -- one window -----------------------------------------------------------------------------------------------------


def test_maps_over_layers_equal_a_slow_loop_for_every_action():
    task, frames = action(), video(8)
    explanation = task.explain(frames, list(range(5)), layers=["conv2"], methods=["gradcam", "gradcam++"])
    clip = clip_of(task, frames)
    for number in range(5):
        cam, plus = slow_maps(task.model, clip, number)
        assert cam.shape == (4, 8, 6)
        torch.testing.assert_close(explanation.map(number, method="gradcam"), cam, atol=1e-12, rtol=1e-9)
        torch.testing.assert_close(explanation.map(number, method="gradcam++"), plus, atol=1e-12, rtol=1e-9)
    torch.testing.assert_close(explanation.scores.double(), task.model(clip)[0], atol=1e-6, rtol=0)
    assert [target.kind for target in explanation.targets] == ["action"] * 5


def test_maps_in_pixels_and_their_products_equal_a_model_with_guided_relus():
    task, frames = action(), video(8)
    explanation = task.explain(
        frames, [0, 3], layers=["conv2"], methods=["guided-backprop", "guided-gradcam", "guided-gradcam++"]
    )
    guided = made()
    guided.act = GuidedReLU.apply
    for row, number in enumerate((0, 3)):
        clip = clip_of(task, frames).requires_grad_()
        (pixels,) = torch.autograd.grad(guided(clip)[0, number], clip)
        torch.testing.assert_close(explanation.maps[MapKey("input", "guided-backprop")][row], pixels[0])
        for cam, name in zip(slow_maps(task.model, clip, number), ("guided-gradcam", "guided-gradcam++"), strict=True):
            spread = F.interpolate(cam[None, None], (8, *SIZE), mode="trilinear", align_corners=False)[0]
            torch.testing.assert_close(explanation.maps[MapKey("conv2", name)][row], spread * pixels[0])
    assert explanation.map(0, method="guided-backprop").shape == (8, *SIZE)


def test_cam_is_the_weighted_sum_of_the_maps():
    task, frames = action(Pooled), video(8)
    explanation = task.explain(frames, "running", layers=["features"], methods=["cam"])
    with torch.no_grad():
        maps = task.model.features(clip_of(task, frames))[0]
        expected = torch.einsum("c,cthw->thw", task.model.fc.weight[2], maps)
    torch.testing.assert_close(explanation.map(), expected)
    with pytest.raises(MethodError, match="global average pooling"):
        action().explain(frames, "running", layers=["conv2"], methods=["cam"])


def test_all_methods_make_maps_of_clips():
    from mmexplain.methods.registry import METHODS

    names = [name for name, method in METHODS.items() if method.space in ("layer", "pixel", "product")]
    explanation = action(Pooled).explain(video(8), top=2, layers=["features"], methods=names)
    assert explanation.methods == names
    for key, maps in explanation.maps.items():
        channels = (3,) if key.method in explanation.pixel_methods else ()
        assert maps.shape == (2, *channels, *((8, *SIZE) if channels or key.layer == "input" else (4, 8, 6))), key


@pytest.mark.parametrize("strategy", ["vjp", "loop", "expand"])
def test_strategies_agree(strategy):
    task, frames = action(), video(8)
    options = {"layers": ["conv1", "conv2"], "methods": ["gradcam", "gradcam++", "guided-gradcam"]}
    expected = task.explain(frames, list(range(5)), **options)
    found = task.explain(frames, list(range(5)), strategy=strategy, **options)
    for key, maps in expected.maps.items():
        torch.testing.assert_close(found.maps[key], maps)


def test_sixteen_targets_run_the_model_once_and_without_a_graph_before_the_layer():
    task, graphs = Action(made(), PREPROCESS, frames=8), []
    task.model.conv1.register_forward_hook(lambda _, inputs, output: graphs.append(output.requires_grad))
    explanation = task.explain(video(8), [number % 5 for number in range(16)], layers=["conv2"])
    assert len(explanation.targets) == 16 and graphs == [False]


def test_the_likeliest_contrasts_and_scores():
    task, frames = action(), video(8)
    logits = task.model(clip_of(task, frames))[0].detach()
    likeliest = task.explain(frames, top=3, score="log-probability")
    assert [target.ids[0] for target in likeliest.targets] == logits.topk(3).indices.tolist()
    torch.testing.assert_close(likeliest.scores.double(), logits.log_softmax(0).topk(3).values, atol=1e-6, rtol=0)
    torch.testing.assert_close(likeliest.probabilities.double(), logits.softmax(0).topk(3).values, atol=1e-6, rtol=0)
    contrast = task.explain(frames, "riding a bike", versus="riding a horse")
    assert contrast.targets[0].label == "riding a bike rather than riding a horse"
    assert float(contrast.scores) == pytest.approx(float(logits[3] - logits[4]), abs=1e-6)


@pytest.mark.parametrize("length", [8, 20])
def test_pairs_are_held_against_each_other(length):
    task, frames = action(), video(length)
    alone = [task.explain(frames, name, versus=other) for name, other in (("eating", "running"), (3, 4))]
    pairs = [("eating", "running"), (3, "riding a horse")]
    found = task.explain(frames, "drinking", versus=pairs)
    assert [target.label for target in found.targets] == [
        "drinking", "eating rather than running", "riding a bike rather than riding a horse",
    ]  # fmt: skip
    for number, one in enumerate(alone, 1):
        torch.testing.assert_close(found.map(number), one.map())
        torch.testing.assert_close(found.scores[number], one.scores[0])
    assert task.explain(frames, versus=pairs).targets == found.targets[1:], "no other was named"
    assert task.explain(frames, top=2, versus=[]).targets == task.explain(frames, top=2).targets


def test_geometry_picture_and_peak_are_of_the_video():
    explanation = action(stride=2).explain(video(15), "eating")
    assert explanation.geometry.frames == explanation.picture.frames == tuple(range(0, 15, 2))
    assert explanation.geometry.n_frames == 15 and explanation.geometry.original == (20, 15)
    assert explanation.heatmap().shape == (15, 20, 15) and explanation.importance().shape == (15,)
    assert torch.equal(explanation.picture.pixels, video(15)[::2])
    assert explanation.to_json()["targets"][0]["frame"] in range(0, 15, 2)


def test_frames_that_a_cnn_sees_one_by_one_are_steps_in_time():
    task, frames = action(FrameByFrame), video(8)
    explanation = task.explain(frames, list(range(5)), methods=["gradcam", "gradcam-no-relu"])
    assert explanation.layers == ["cnn"] and explanation.map().shape == (8, 8, 6)
    maps = task.model.cnn(clip_of(task, frames)[0].transpose(0, 1)).detach().requires_grad_()
    for number in range(5):
        (slopes,) = torch.autograd.grad(task.model.head(maps, 1)[0, number], maps)
        expected = torch.einsum("c,tchw->thw", slopes.mean((0, 2, 3)), maps.detach())
        torch.testing.assert_close(explanation.map(number, method="gradcam-no-relu"), expected)
    looped = task.explain(frames, list(range(5)), strategy="loop")
    torch.testing.assert_close(looped.map(4), explanation.map(4))
    with pytest.raises(LayerError, match=r"8 rows for 1 input.*strategy 'auto'"):
        explain(task, task.prepare(frames), [[task.target(0), task.target(1)]], strategy="expand")
    with pytest.raises(LayerError, match="clips one by one"):
        explain(task, task.prepare([frames, frames]), [[task.target(0)]] * 2)


def small_swin() -> nn.Module:
    from torchvision.models.video.swin_transformer import SwinTransformer3d

    return SwinTransformer3d([2, 4, 4], embed_dim=24, depths=[2, 2], num_heads=[2, 4], window_size=[4, 4, 4])


@pytest.mark.parametrize(("make", "classes"), [(small_mvit, 1), (small_swin, 0)])
def test_tokens_and_channels_last_of_video_transformers(make, classes):
    """The class token is no place; the steps in time come before rows and columns."""
    model = made(make)
    task = Action(model, Preprocess(resize=(64, 64)), frames=8)
    explanation = task.explain(video(8, 70, 64), [1, 2, 3], methods=["gradcam-no-relu"])
    (layer,) = explanation.layers
    outputs: list[Tensor] = []
    handle = model.get_submodule(layer).register_forward_hook(lambda _, __, output: outputs.append(output))
    logits = model(clip_of(task, video(8, 70, 64)))
    handle.remove()
    for row, number in enumerate((1, 2, 3)):
        (slopes,) = torch.autograd.grad(logits[0, number], outputs, retain_graph=True)
        places = outputs[0].detach()[0, classes:].flatten(0, -2), slopes[0, classes:].flatten(0, -2)
        expected = (places[0] * places[1].mean(0)).sum(-1).view(4, 8, 8)
        torch.testing.assert_close(explanation.map(row), expected)


def test_a_map_without_an_axis_of_time_is_the_same_for_all_frames():
    explanation = action(Stacked).explain(video(8), "eating", layers=["cnn"])
    assert explanation.map().shape == (1, 8, 6)
    heat = explanation.heatmap()
    assert torch.equal(heat[0], heat[7])


def test_clips_of_one_shape_can_be_batched():
    task, clips = action(), [video(8), video(9)]
    batch = task.prepare(clips)
    assert batch.inputs["clip"].shape == (2, 3, 8, *SIZE)
    both = explain(task, batch, [[task.target("eating")], [task.target("running")]], layers=["conv2"])
    for found, frames, name in zip(both, clips, ("eating", "running"), strict=True):
        alone = task.explain(frames, name, layers=["conv2"], sampling="dense")
        torch.testing.assert_close(found.map(), alone.map())
    with pytest.raises(InputError, match=r"30×20 pixels but .* 15×20 pixels"):
        Action(made(), Preprocess(), NAMES, frames=8).prepare([video(8), video(8, 20, 30)])


# -- whole videos ---------------------------------------------------------------------------------------------------


def test_a_short_video_holds_its_last_frame():
    task = action()
    explanation = task.explain(video(3), "eating", layers=["conv2"])
    assert explanation.geometry.frames == (0, 1, 2, 2, 2, 2, 2, 2) and explanation.geometry.n_frames == 3
    cam, _ = slow_maps(task.model, clip_of(task, video(3)[[0, 1, 2, 2, 2, 2, 2, 2]]), 1)
    torch.testing.assert_close(explanation.map(), cam, atol=1e-12, rtol=1e-9)
    assert explanation.picture.frames == (0, 1, 2) and explanation.heatmap().shape == (3, 20, 15)


@pytest.mark.parametrize("step", [None, 3])
def test_a_long_video_has_the_mean_of_its_windows(step):
    """Against windows that are explained alone, carried to their frames by torch and averaged frame by frame, frames in
    the middle of a window counting up to four times."""
    task, frames = action(), video(21)
    explanation = task.explain(frames, ["eating", "running"], layers=["conv2"], step=step)
    starts = [0, 8, 13] if step is None else [0, 3, 6, 9, 12, 13]
    total, takes = torch.zeros(2, 21, 8, 6, dtype=torch.float64), torch.zeros(21, 1, 1)
    counts = torch.tensor([1, 2, 3, 4, 4, 3, 2, 1])[:, None, None]
    scores = []
    for start in starts:
        alone = task.explain(frames[start : start + 8], ["eating", "running"], layers=["conv2"])
        scores.append(alone.scores)
        for number in range(2):
            spread = F.interpolate(alone.map(number)[None, None], (8, 8, 6), mode="trilinear", align_corners=False)
            total[number, start : start + 8] += counts * spread[0, 0]
        takes[start : start + 8] += counts
    torch.testing.assert_close(explanation.maps[MapKey("conv2", "gradcam")].double(), total / takes, atol=1e-6, rtol=0)
    torch.testing.assert_close(explanation.scores, torch.stack(scores).mean(0))
    assert explanation.geometry.frames == tuple(range(21)) == explanation.picture.frames
    spans = explanation.provenance["windows"]
    assert [span[:2] for span in spans] == [[start, start + 7] for start in starts]
    np.testing.assert_allclose([span[2:] for span in spans], torch.stack(scores), rtol=1e-6)


def test_the_actions_of_a_long_video_have_the_largest_mean_probability():
    task, frames = action(), video(24)
    with torch.no_grad():
        for parameter in task.model.parameters():
            parameter.mul_(4)  # so that windows differ in what they show
    probabilities = torch.stack(
        [task.model(clip_of(task, frames[start : start + 8])).softmax(1)[0] for start in (0, 8, 16)]
    )
    steps: list[tuple[int, int]] = []
    found = task.explain(frames, top=3, progress=lambda done, total: steps.append((done, total)))
    best = probabilities.mean(0).topk(3)
    assert [target.ids[0] for target in found.targets] == best.indices.tolist()
    torch.testing.assert_close(found.probabilities.double(), best.values.detach(), atol=1e-6, rtol=0)
    assert steps == [(number, 6) for number in range(1, 7)]


def test_sampling():
    task, frames = action(), video(40)
    assert task.explain(frames, 0, sampling="uniform").geometry.frames == (2, 7, 12, 17, 22, 27, 32, 37)
    assert task.explain(frames, 0, sampling="dense").geometry.frames == tuple(range(16, 24))
    assert task.explain(frames, 0, sampling="dense", frames=4, stride=3).geometry.frames == (15, 18, 21, 24)
    strided = task.explain(frames, 0, stride=2)
    assert strided.geometry.frames == tuple(range(0, 40, 2))
    assert strided.provenance["sampling"] == {
        "sampling": "auto", "n_windows": 3, "frames": 8, "stride": 2, "step": None, "video_rate": None,
    }  # fmt: skip


class Timed(ArrayVideo):
    """An array with a clock."""

    def __init__(self, frames: int, rate: float) -> None:
        super().__init__(video(frames))
        self.times, self.rate = tuple(number / rate for number in range(frames)), rate


@pytest.mark.parametrize(("rate", "stride"), [(60, 4), (59.94, 4), (30, 2), (25, 2), (24, 2), (15, 1), (12, 1), (5, 1)])
def test_a_window_lasts_as_long_as_in_the_models_evaluation(rate, stride):
    task, shown = action(stride=3, frame_rate=15), Timed(40, rate)
    explanation = task.explain(shown, "eating", sampling="dense")
    first = explanation.geometry.frames[0]
    assert explanation.geometry.frames == tuple(range(first, first + 8 * stride, stride))
    sampling = explanation.provenance["sampling"]
    assert (sampling["stride"], sampling["video_rate"]) == (stride, rate)
    taken = action().prepare(video(40)[first::stride][:8])
    assert torch.equal(task.prepare(shown).inputs["clip"], taken.inputs["clip"])
    if rate >= 15:
        assert abs(stride / rate - 1 / 15) <= 0.5 / rate, "the time from one frame to the next"


def test_the_rate_of_a_video_yields_to_a_stride_that_is_asked_for_and_needs_both_clocks():
    task = action(stride=3, frame_rate=15)
    for source, options, stride in (
        (Timed(40, 60), {"stride": 1}, 1),
        (video(40), {}, 3),
        (Timed(40, 60), {}, 4),
    ):
        found = task.explain(source, "eating", sampling="dense", **options)
        assert found.provenance["sampling"]["stride"] == stride
    assert action(stride=3).explain(Timed(40, 60), "eating").provenance["sampling"]["stride"] == 3
    one = ActionModel(made(), PREPROCESS, 8, 2, NAMES, "one", frame_rate=7.5)
    assert Action.of(one).explain(Timed(60, 60), "eating").provenance["sampling"]["stride"] == 8
    for rate in (0, -25, float("inf"), float("nan")):
        with pytest.raises(InputError, match="frame_rate is frames a second, more than 0"):
            action(frame_rate=rate)


def test_a_list_is_several_videos():
    first, second = action().explain([video(8), video(20)], "eating")
    assert first.geometry.n_frames == 8 and second.geometry.n_frames == 20
    with pytest.raises(InputError, match=r"a list is several videos.*open_video\(frames\)"):
        action().explain([np.zeros((20, 15, 3), np.uint8)] * 2, "eating")
    with pytest.raises(InputError, match=r"sampling 'uniform' spreads.*leave out stride=2"):
        action().explain(video(20), "eating", sampling="uniform", stride=2)
    with pytest.raises(InputError, match=r"frames is a whole number, not 8\.0"):
        action().explain(video(20), "eating", frames=8.0)
    with pytest.raises(InputError, match="no video was given"):
        action().explain([])
    with pytest.raises(InputError, match=r"\[0, 20, 15, 3\]"):
        action().explain(video(0))


def test_an_explanation_of_a_whole_video_is_saved_and_read_back(tmp_path):
    explanation = action().explain(video(20), top=2)
    found = Explanation.load(explanation.save(tmp_path / "clip.safetensors"))
    assert found.geometry == explanation.geometry and found.provenance == explanation.provenance
    assert torch.equal(found.map(1), explanation.map(1)) and found.peak(1) == explanation.peak(1)


# -- what can go wrong ----------------------------------------------------------------------------------------------


def test_the_model_comes_back_as_it_was():
    task = action()
    model = task.model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.random.get_rng_state()
    task.explain(video(20), top=2, methods=["gradcam", "gradcam++-softmax"])
    task.explain(video(8), top=2, methods=["guided-gradcam"])
    assert all(module.training for module in model.modules())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_works_without_gradients_and_in_inference_mode():
    task = action()
    expected = task.explain(video(20), top=2)
    with torch.inference_mode():
        found = task.explain(video(20), top=2)
    assert torch.equal(found.map(), expected.map())


@pytest.mark.parametrize("frames", [8, 20])
def test_nan_in_the_model_is_told(frames):
    task = action()
    with torch.no_grad():
        task.model.conv2.weight[0] = torch.nan
    with pytest.raises(ModelError, match=r"not finite.*'conv2'"):
        task.explain(video(frames), top=2, layers=["conv1"])


@pytest.mark.parametrize("sampling", ["dense", "windows"])
def test_a_model_that_fails_on_the_clip_says_on_which_shape(sampling):
    task = Action(made(Stacked), PREPROCESS, NAMES, frames=6)
    with pytest.raises(ModelError, match=r"fails on an input of shape \(1, 3, 6, 16, 12\)"):
        task.explain(video(20), sampling=sampling)


def test_odd_sizes():
    task = Action(made(), Preprocess(), NAMES, frames=5)
    explanation = task.explain(video(7, 23, 31), top=1)
    assert explanation.map().shape[1:] == (12, 16) and explanation.heatmap().shape == (7, 23, 31)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"targets": "drinkin"}, TargetError, "'drinkin'.*closest: 'drinking'"),
        ({"targets": "riding"}, TargetError, "riding"),
        ({"targets": 5}, TargetError, "action 5 does not exist: the model has 5 actions, 0 to 4"),
        ({"targets": []}, TargetError, "no action was named"),
        ({"targets": 0, "versus": 0}, TargetError, "against itself.*another action"),
        ({"targets": 0, "versus": [(1, 1)]}, TargetError, "against itself.*another action"),
        ({"versus": ("eating", "running")}, InputError, "one action for all targets, or pairs of them; got .'eating'"),
        ({"versus": [(1, 2, 3, 4)]}, InputError, "or pairs of them"),
        ({"versus": [("eating", "runing")]}, TargetError, "'runing'.*closest: 'running'"),
        ({"top": 0}, InputError, "top 0 actions"),
        ({"frames": 0}, InputError, "takes 1 frames or more, not 0"),
        ({"sampling": "sparse"}, InputError, "'sparse'"),
        ({"score": "loss"}, InputError, "'loss'"),
        ({"methods": ["guided-backprop"]}, MethodError, "'guided-backprop'.*sampling='dense'"),
        ({"methods": ["gradcan"]}, MethodError, "closest: 'gradcam'"),
        ({"create_graph": True}, InputError, "trained through"),
        ({"layers": ["fc"]}, LayerError, "no map"),
    ],
)
def test_bad_requests_are_one_clear_line(options, error, message):
    with pytest.raises(error, match=message) as raised:
        action().explain(video(20), **options)
    assert "\n" not in str(raised.value)


def test_what_cannot_be_done_is_found_out_before_a_pass_over_a_long_video():
    task, told = action(), []
    task.model.register_forward_hook(lambda *_: told.append(1))
    with pytest.raises(LayerError, match="'fc'"):
        task.explain(video(400), layers=["fc"])
    assert len(told) == 1


def test_models_say_what_they_take():
    one = ActionModel(made(), PREPROCESS, 8, 2, NAMES, "one", "conv2", "ab12", any_length=False)
    task = Action.of(one)
    explanation = task.explain(video(15), "eating")
    assert explanation.geometry.frames == tuple(range(0, 15, 2)) and explanation.layers == ["conv2"]
    assert explanation.model == "one" and explanation.provenance["weights_sha256"] == "ab12"
    with pytest.raises(InputError, match="'one' takes clips of 8 frames only, not 16"):
        task.explain(video(15), frames=16)
    with pytest.raises(ModelError, match="scores 5 actions but has 2 labels"):
        Action(made(), PREPROCESS, NAMES[:2], frames=8).explain(video(8))
    with pytest.raises(InputError, match="frames=0"):
        Action(made(), PREPROCESS, frames=0)
    with pytest.raises(ModelError, match="not a preset"):
        Action(made(), nn.Identity())
