"""Mean gradients past the linear layers that read a layer of tokens, beside all gradients in float64."""

import copy
import gc
import threading
import weakref

import pytest
import torch
from torch import nn
from torch.nn import functional

from mmexplain import forward, pooled_reads
from mmexplain.engine import run
from mmexplain.methods.class_activation import gradcam
from mmexplain.problem import Problem
from mmexplain.reader import Reader
from mmexplain.targets import Target

SIDE, WIDTH = 4, 260


class Attends(nn.Module):
    """Patches, a class token before them, a tapped layer, and something that reads it."""

    encodes_all = False

    def __init__(self, reads, norm=None):
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, 2, 2)
        self.start = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.tapped = nn.Identity()
        self.norm = norm or nn.Identity()
        self.reads = reads
        self.head = nn.Linear(WIDTH, 300)

    def encode(self, inputs):
        """``[B, 17, 260]``."""
        tokens = self.patches(inputs["image"]).flatten(2).mT
        return self.norm(self.tapped(torch.cat([self.start.expand(len(tokens), -1, -1), tokens], 1)))

    def decode(self, features, context):
        """``[R, 300]``."""
        return self.head(self.reads(features)[:, 0].tanh())


class Classifies(Attends):
    """The same as one step."""

    encodes_all = True

    def encode(self, inputs):
        """``[B, 300]``."""
        return super().decode(super().encode(inputs), {})

    def decode(self, features, context):
        """What it is given."""
        return features


class CrossAttention(nn.Module):
    """Two layers of attention to the features, keys and values linear in them."""

    def __init__(self, turned=False):
        super().__init__()
        self.query = nn.Parameter(torch.randn(3, WIDTH))
        self.keys = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(2))
        self.values = nn.ModuleList(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(2))
        self.turned = turned

    def forward(self, tokens):
        asked = self.query.expand(len(tokens), -1, -1)
        for key, value in zip(self.keys, self.values, strict=True):
            if self.turned:
                k, v = key(tokens.transpose(0, 1)).transpose(0, 1), value(tokens.transpose(1, 0)).transpose(0, 1)
            else:
                k, v = key(tokens), value(tokens)
            asked = asked + ((asked @ k.mT) / WIDTH**0.5).softmax(-1) @ v
        return asked


class SelfAttention(nn.Module):
    """PyTorch's own attention layer, with what goes around it."""

    def __init__(self, around, batch_first=True):
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, 4, batch_first=batch_first)
        self.batch_first, self.around = batch_first, around

    def forward(self, tokens):
        rows = tokens if self.batch_first else tokens.transpose(0, 1)
        found = self.attention(rows, rows, rows, need_weights=False)[0]
        found = found if self.batch_first else found.transpose(0, 1)
        return tokens + found if self.around else found


class Convolves(nn.Module):
    """A convolutional network that ends in a mean over the places."""

    encodes_all = True

    def __init__(self, pool, after=None, clip=False):
        super().__init__()
        self.clip = clip
        self.see = (nn.Conv3d if clip else nn.Conv2d)(3, 8, 3, padding=1)
        self.tapped = nn.ReLU()
        self.after = after or nn.Identity()
        self.pool, self.head = pool, nn.Linear(8, 300)

    def encode(self, inputs):
        """``[B, 300]``."""
        photo = inputs["image"]
        if self.clip:
            photo = torch.stack([photo, photo.flip(-1)], 2)
        return self.head(self.pool(self.after(self.tapped(self.see(photo)))).flatten(1).tanh())

    def decode(self, features, context):
        """What it is given."""
        return features


class FastAvgPool(nn.Module):
    """As timm has it."""

    def forward(self, maps):
        return maps.mean((2, 3), keepdim=True)


class Around(nn.Module):
    """A mean, and something else that reads the maps."""

    def __init__(self):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, maps):
        return self.pool(maps) + (maps**2).mean((2, 3), keepdim=True)


class Doubled(nn.Module):
    """Something between the layer and what reads it that pools nothing."""

    def __init__(self):
        super().__init__()
        self.reads = CrossAttention()

    def forward(self, tokens):
        return self.reads(tokens * 2)


def scaled_norm():
    norm = nn.LayerNorm(WIDTH)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return norm


KINDS = {
    "keys and values": (lambda: Attends(CrossAttention()), True),
    "places first": (lambda: Attends(CrossAttention(turned=True)), True),
    "after a norm": (lambda: Attends(CrossAttention(), scaled_norm()), True),
    "after a norm, places first": (lambda: Attends(CrossAttention(turned=True), scaled_norm()), True),
    "after a norm without scale": (
        lambda: Attends(CrossAttention(), nn.LayerNorm(WIDTH, elementwise_affine=False)),
        True,
    ),
    "attention to itself": (lambda: Attends(SelfAttention(around=False)), True),
    "attention, and around it": (lambda: Attends(SelfAttention(around=True)), True),
    "attention after a norm, and around it": (lambda: Attends(SelfAttention(around=True), scaled_norm()), True),
    "attention, places first": (lambda: Attends(SelfAttention(around=True, batch_first=False)), True),
    "a classifier": (lambda: Classifies(SelfAttention(around=True), scaled_norm()), True),
    "a mean over the places": (lambda: Convolves(nn.AdaptiveAvgPool2d(1)), True),
    "timm's mean": (lambda: Convolves(FastAvgPool()), True),
    "a mean of clips": (lambda: Convolves(nn.AdaptiveAvgPool3d((1, 1, 1)), clip=True), True),
    "a mean, and around it": (lambda: Convolves(Around()), True),
    "a mean after something else": (lambda: Convolves(nn.AdaptiveAvgPool2d(1), nn.Sigmoid()), False),
    "a mean of parts": (lambda: Convolves(nn.Sequential(nn.AdaptiveAvgPool2d(2), FastAvgPool())), False),
    "read by nothing linear": (lambda: Attends(Doubled()), False),
}


@pytest.fixture(params=KINDS)
def kind(request):
    torch.manual_seed(0)
    make, pools = KINDS[request.param]
    return make().eval(), pools


def problem_of(model, photos):
    def score(output, rows):
        return torch.stack([output[r, [target.index for target in row]] for r, row in enumerate(rows)])

    return Problem(model, model.encode, model.decode, score, {"image": photos})


def explained(model, photos, rows, **options):
    return run(
        problem_of(model, photos),
        rows,
        options.pop("layers", ["tapped"]),
        lambda layer, activations, gradients: {
            "means": gradients.flatten(3).mean(-1),
            "map": gradcam(activations, gradients),
        },
        **options,
    )


def rows_of(photos, count):
    return [[Target("class", f"{r} {k}", index=7 * r + k) for k in range(count)] for r in range(len(photos))]


@pytest.mark.parametrize("photos", [1, 3])
@pytest.mark.parametrize("count", [1, 5])
def test_as_all_gradients_in_float64(kind, photos, count, monkeypatch):
    model, pools = kind
    pooled = []
    for name in ("read", "pool"):
        real = getattr(pooled_reads.PooledReads, name)

        def watched(*arguments, real=real):
            pooled.append(found := real(*arguments))
            return found

        monkeypatch.setattr(pooled_reads.PooledReads, name, watched)
    photos = torch.randn(photos, 3, 2 * SIDE, 2 * SIDE)
    rows = rows_of(photos, count)
    exact = explained(copy.deepcopy(model).double(), photos.double(), rows, strategy="loop").reduced["tapped"]
    assert not pooled
    found = explained(model, photos, rows, pooled=True).reduced["tapped"]
    # A single target begins at a copy of the features: nothing tells that what reads it reads the layer.
    assert any(value is not None for value in pooled) == (pools and (count > 1 or getattr(model, "encodes_all", False)))
    for name, value in exact.items():
        scale = value.abs().amax()
        assert (found[name].double() - value).abs().max() <= 2e-5 * scale, name


def test_in_slices(monkeypatch):
    from mmexplain import strategies

    torch.manual_seed(0)
    model, photos = Attends(CrossAttention(), scaled_norm()).eval(), torch.randn(2, 3, 2 * SIDE, 2 * SIDE)
    whole = explained(model, photos, rows_of(photos, 7), pooled=True).reduced["tapped"]["map"]
    times = []
    monkeypatch.setattr(strategies, "_together", lambda forward: times.append(1) or 3)
    found = explained(model, photos, rows_of(photos, 7), pooled=True).reduced["tapped"]["map"]
    assert times
    assert torch.allclose(found, whole, atol=1e-6 * whole.abs().max())


@pytest.mark.parametrize("options", [{"pooled": False}, {"pooled": True, "create_graph": True}])
def test_only_where_means_are_enough(monkeypatch, options):
    torch.manual_seed(0)
    model, photos = Attends(SelfAttention(around=False)).eval(), torch.randn(1, 3, 2 * SIDE, 2 * SIDE)
    monkeypatch.setattr(pooled_reads.PooledReads, "read", lambda *_: pytest.fail("asked"))
    explained(model, photos, rows_of(photos, 3), **options)


def test_not_after_a_change_in_place():
    class Changes(Attends):
        def decode(self, features, context):
            return super().decode(features.mul_(3), context)

    torch.manual_seed(0)
    model, photos = Changes(CrossAttention()).eval(), torch.randn(1, 3, 2 * SIDE, 2 * SIDE)
    exact = explained(model, photos, rows_of(photos, 3), strategy="loop").reduced["tapped"]["map"]
    found = explained(model, photos, rows_of(photos, 3), pooled=True).reduced["tapped"]["map"]
    assert torch.allclose(found, exact, atol=1e-5 * exact.abs().max())


def test_goes_back_to_all_gradients_where_the_output_cannot_be_expanded():
    class Unlike(Attends):
        def encode(self, inputs):
            return functional.relu(self.reads(super().encode(inputs))[:, 0])

        def decode(self, features, context):
            # Rows that are no inputs: it cannot be repeated for each target.
            return self.head(features)[None]

    torch.manual_seed(0)
    model, photos = Unlike(CrossAttention()).eval(), torch.randn(2, 3, 2 * SIDE, 2 * SIDE)

    def score(output, rows):
        return torch.stack([output[0, r, [target.index for target in row]] for r, row in enumerate(rows)])

    def maps(**options):
        problem = Problem(model, model.encode, model.decode, score, {"image": photos})
        return run(problem, rows_of(photos, 3), ["tapped"], lambda _, a, g: {"map": gradcam(a, g)}, **options)

    exact, found = (maps(**options).reduced["tapped"]["map"] for options in ({"strategy": "loop"}, {"pooled": True}))
    assert torch.allclose(found, exact, atol=1e-5 * exact.abs().max())


def test_other_threads_pool_nothing():
    reads = pooled_reads.PooledReads(lambda: None, lambda _: Reader("tokens", 1, (SIDE, SIDE)))
    seen = []
    with reads.listening():
        thread = threading.Thread(target=lambda: seen.append(pooled_reads.reads_now()))
        thread.start()
        thread.join()
        assert pooled_reads.reads_now() is reads
    assert seen == [None]
    assert pooled_reads.reads_now() is None


def test_nothing_is_kept_afterwards():
    """Not even until Python looks for circles."""
    torch.manual_seed(0)
    model, photos = Classifies(SelfAttention(around=True), scaled_norm()).eval(), torch.randn(1, 3, 2 * SIDE, 2 * SIDE)
    kept = []
    real = pooled_reads.PooledReads

    class Watched(real):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            kept.append(weakref.ref(self))

    gc.collect()
    gc.disable()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(forward, "PooledReads", Watched)
            explained(model, photos, rows_of(photos, 3), pooled=True)
        assert kept and kept[0]() is None
    finally:
        gc.enable()
