"""The trunk in lower precision: maps near to those of float32, all else as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from scipy.stats import spearmanr
from torch import Tensor, nn

import mmexplain
from mmexplain import strategies
from mmexplain.engine import run as run_engine
from mmexplain.errors import DeviceError, InputError, ModelError
from mmexplain.explanation import Explanation
from mmexplain.precision import in_precision, lowered
from mmexplain.preprocess import Preprocess
from mmexplain.problem import Problem
from mmexplain.targets import Target
from mmexplain.tasks.classification import Classifier
from tests.command_line import picture, record, refusal, run

pytest_plugins = ["tests.command_line_fixtures"]

CAPTIONERS = {"show-attend-tell": 0.99, "show-and-tell": 0.98}
"""Bundled captioner → rank correlation that the maps of its words keep on average, on photos of the kind that it knows.
Rounding the encoder's weights alone moves its features by 3 %; ranks of a word whose map is small all over ("a", "is")
are the first to change."""

UNLIKE = 0.97
"""The same on photos of another kind, on which it says things that are not there."""


SQUASHED = Preprocess((64, 64), mean=(0.5,) * 3, std=(0.5,) * 3)


def flat(values: Tensor) -> bool:
    return bool((values == values.flatten()[0]).all())


def ranks(first: Explanation, second: Explanation) -> list[float]:
    """Spearman's correlation over the cells of each target's map; flat ones have none."""
    (key,) = first.maps
    pairs = zip(first.maps[key], second.maps[key], strict=True)
    return [float(spearmanr(a.flatten(), b.flatten()).statistic) for a, b in pairs if not (flat(a) or flat(b))]


@pytest.fixture(scope="module")
def samples() -> list[Any]:
    data = pytest.importorskip("skimage.data")
    return [Image.fromarray(getattr(data, name)()) for name in ("astronaut", "cat", "coffee")]


@pytest.fixture(scope="module", params=list(CAPTIONERS))
def captioner(request: pytest.FixtureRequest) -> Any:
    return mmexplain.load(request.param, device="cpu")


def near(captioner: Any, photos: list[Any], least: float) -> None:
    exact = captioner.explain(photos)
    found = captioner.explain(photos, [e.text for e in exact], precision="bfloat16")
    correlations = [value for pair in zip(exact, found, strict=True) for value in ranks(*pair)]
    assert np.mean(correlations) >= least
    for e, f in zip(exact, found, strict=True):
        torch.testing.assert_close(f.scores, e.scores, rtol=0.02, atol=0.15)
        # Where a word is seen most, which is what maps are read for.
        (key,) = e.maps
        for a, b in zip(e.maps[key], f.maps[key], strict=True):
            assert a.flatten()[b.argmax()] >= 0.8 * a.max()


def test_captions_of_sample_photos(captioner: Any, samples: list[Any]) -> None:
    near(captioner, samples, UNLIKE)


def test_captions_of_real_photos(captioner: Any, data_dir: Path) -> None:
    photos = sorted((data_dir / "flickr8k" / "images").glob("*.jpg"))[:4]
    near(captioner, photos, CAPTIONERS[captioner.model_id])


def test_classes(samples: list[Any]) -> None:
    task: Any = mmexplain.load("efficientnet-lite0", device="cpu")
    exact = task.explain(samples, top=3)
    found = [task.explain(p, list(e.targets), precision="bfloat16") for p, e in zip(samples, exact, strict=True)]
    correlations = [value for pair in zip(exact, found, strict=True) for value in ranks(*pair)]
    assert np.mean(correlations) >= 0.99 and min(correlations) >= 0.97
    for e, f in zip(exact, found, strict=True):
        torch.testing.assert_close(f.scores, e.scores, rtol=0.02, atol=0.15)


@pytest.mark.parametrize("layer", ["encoder.smooth", "encoder.blocks.5"])
def test_strategies_agree(captioner: Any, samples: list[Any], layer: str) -> None:
    """At the features exactly; before them, where gradients go through the trunk in bf16, to its precision."""
    told: dict[str, Any] = {"layers": [layer], "precision": "bfloat16"}
    reference = captioner.explain(samples[1], strategy="loop", **told)
    (expected,) = reference.maps.values()
    for strategy in ("auto", "expand", "vjp"):
        (value,) = captioner.explain(samples[1], reference.text, strategy=strategy, **told).maps.values()
        assert value.dtype == torch.float32
        error = (value - expected).abs().max() / expected.abs().max()
        assert error < (1e-4 if layer == "encoder.smooth" else 0.03)


def test_the_short_way_back_serves(captioner: Any, samples: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    offered = []
    pooled = strategies.pooled

    def watched(*given: Any) -> Any:
        offered.append(pooled(*given))
        return offered[-1]

    monkeypatch.setattr(strategies, "pooled", watched)
    captioner.explain(samples[0], precision="bfloat16")
    assert len(offered) == 1 and offered[0] is not None


class Small(nn.Module):
    """A convolution, a tapped one, another one with a residual, the mean, and a linear layer as decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.tapped = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)
        self.last, self.head = nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 4)

    def encode(self, inputs: dict[str, Tensor]) -> Tensor:
        """``[B, 8]``."""
        return self.after(self.tapped(self.first(inputs["image"]).relu()))

    def after(self, tapped: Tensor) -> Tensor:
        found: Tensor = (self.last(tapped).relu() + tapped).mean((2, 3))
        return found

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.head(self.encode({"image": image}))
        return logits


def problem(model: Small, precision: str = "bfloat16") -> Problem:
    image = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    dtype = lowered(precision, image)
    return Problem(
        model,
        in_precision(model.encode, dtype, image.device),
        lambda features, _: model.head(features),
        lambda output, rows: torch.stack([output[r, [t.ids[0] for t in row]] for r, row in enumerate(rows)]),
        {"image": image},
        lowered=dtype,
    )


ROWS = [[Target(str(c), "class", (c,)) for c in row] for row in ([2, 0], [3, 1])]


def keep(_: str, activations: Tensor, gradients: Tensor) -> dict[str, Tensor]:
    return {"activations": activations.expand_as(gradients), "gradients": gradients}


@pytest.fixture
def small() -> Small:
    torch.manual_seed(0)
    return Small().eval()


@pytest.mark.parametrize("strategy", ["auto", "expand", "vjp", "loop"])
@pytest.mark.parametrize("create_graph", [False, True])
def test_against_autograd_by_hand(small: Small, strategy: Any, create_graph: bool) -> None:
    given = problem(small)
    found = run_engine(given, ROWS, ["tapped"], keep, strategy=strategy, create_graph=create_graph)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        before = small.tapped(small.first(given.inputs["image"]).relu())
    assert before.dtype == torch.bfloat16
    leaf = before.float().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        features = small.after(leaf)
    logits = small.head(features.float())
    assert logits.dtype == torch.float32
    named = found.reduced["tapped"]
    for b, row in enumerate(ROWS):
        for k, target in enumerate(row):
            (gradient,) = torch.autograd.grad(logits[b, target.ids[0]], leaf, retain_graph=True)
            torch.testing.assert_close(named["gradients"][b, k], gradient[b], rtol=0.02, atol=1e-4)
            torch.testing.assert_close(named["activations"][b, k], leaf[b])
            torch.testing.assert_close(found.scores[b, k], logits[b, target.ids[0]])
    if create_graph:
        named["gradients"].square().sum().backward()
        assert small.last.weight.grad is not None


def test_nothing_stays_behind(small: Small) -> None:
    small.train()
    state = {name: (value.dtype, value.clone()) for name, value in small.state_dict().items()}
    run_engine(problem(small), ROWS, ["tapped"], keep)
    assert not torch.is_autocast_enabled("cpu") and torch.is_autocast_cache_enabled() and torch.is_grad_enabled()
    assert small.training and not any(len(module._forward_hooks) for module in small.modules())
    for name, value in small.state_dict().items():
        assert value.dtype == state[name][0] and torch.equal(value, state[name][1])


def test_within_the_callers_autocast(small: Small) -> None:
    """The caller's training step still reaches the weights, and its autocast is as it was."""
    given = problem(small)
    alone = run_engine(given, ROWS, ["tapped"], keep, strategy="loop").reduced["tapped"]
    with torch.autocast("cpu", torch.bfloat16):
        within = run_engine(given, ROWS, ["tapped"], keep, strategy="loop").reduced["tapped"]
        assert torch.is_autocast_enabled("cpu") and torch.is_autocast_cache_enabled()
        small(given.inputs["image"]).float().sum().backward()
    assert all(parameter.grad is not None for parameter in small.parameters())
    torch.testing.assert_close(within["activations"], alone["activations"])


@pytest.mark.parametrize(
    "method",
    ["hirescam", "scorecam", "ablationcam", "occlusion(patch=16, stride=16)", "excitation-backprop",
     "guided-backprop", "gradcam++-softmax"],
)  # fmt: skip
def test_methods_that_ask_the_model_themselves(method: str) -> None:
    """They run the trunk in that precision too; what they make of it is float32."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 12, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(12, 5),
    ).eval()  # fmt: skip
    seen: list[torch.dtype] = []
    model[2].register_forward_hook(lambda *call: seen.append(call[-1].dtype))
    task = Classifier(model, SQUASHED, layer="3")
    exact, found = (task.explain(picture(), [0, 3], methods=[method], precision=p) for p in ("float32", "bfloat16"))
    assert {torch.float32, torch.bfloat16} == set(seen)
    for key, value in exact.maps.items():
        other = found.maps[key]
        assert other.dtype == torch.float32
        for a, b in zip(value, other, strict=True):
            if "occlusion" in method:
                # Differences of two logits that are rounded to 8 bits: what is smaller than that is lost.
                assert (a - b).abs().max() <= 0.01 * exact.scores.abs().max()
                continue
            assert flat(a) or np.corrcoef(a.flatten(), b.flatten())[0, 1] > 0.97


@pytest.mark.parametrize("method", ["attention-rollout", "attention-relevance", "gradcam"])
def test_attention(method: str) -> None:
    torch.manual_seed(0)
    task = Classifier(timm.create_model("vit_tiny_patch16_224", img_size=64, depth=3, num_classes=5).eval(), SQUASHED)
    exact, found = (task.explain(picture(), [0, 3], methods=[method], precision=p) for p in ("float32", "bfloat16"))
    for key, value in exact.maps.items():
        assert found.maps[key].dtype == torch.float32
        for a, b in zip(value, found.maps[key], strict=True):
            assert flat(a) or np.corrcoef(a.flatten(), b.flatten())[0, 1] > 0.97


def test_words_that_were_read(samples: list[Any]) -> None:
    """What words added is worked out from the features, in float32."""
    task: Any = mmexplain.load("show-and-tell", device="cpu")
    exact = task.explain(samples[1], text="gradient-x-embedding")
    found = task.explain(samples[1], exact.text, text="gradient-x-embedding", precision="bfloat16")
    (a,), (b,) = exact.text_maps.values(), found.text_maps.values()
    assert b.dtype == torch.float32
    torch.testing.assert_close(b, a, rtol=0.1, atol=0.05, equal_nan=True)


def test_the_record(samples: list[Any]) -> None:
    task: Any = mmexplain.load("show-and-tell", device="cpu")
    assert task.explain(samples[1]).provenance["precision"] == "float32"
    found = task.explain(samples[1], precision="bfloat16").provenance
    assert found["precision"] == "bfloat16" and found["dtype"] == "float32"
    task.precision = "bfloat16"
    assert task.explain(samples[1]).provenance["precision"] == "bfloat16"
    assert task.explain(samples[1], precision="float32").provenance["precision"] == "float32"


def test_what_there_is_not(small: Small) -> None:
    task = Classifier(small, SQUASHED, layer="tapped")
    with pytest.raises(InputError, match=r"unknown precision 'bfloat'; closest: 'bfloat16'.*there are: float32"):
        task.explain(picture(), [0], precision="bfloat")
    with pytest.raises(DeviceError, match=r"'float16' is for GPUs.*use 'bfloat16'"):
        task.explain(picture(), [0], precision="float16")
    half = Classifier(Small().eval().bfloat16(), SQUASHED, layer="tapped")
    assert half.explain(picture(), [0], precision="bfloat16").provenance["precision"] == "bfloat16"
    assert half.explain(picture(), [0]).provenance["precision"] == "bfloat16"
    double = Classifier(Small().eval().double(), SQUASHED, layer="tapped")
    for model, own in ((double, "float64"), (Classifier(Small().eval().half(), layer="tapped"), "float16")):
        with pytest.raises(ModelError, match=f"is for models in float32, and this one is in {own}"):
            model.explain(picture(), [0], precision="bfloat16")


def test_the_command_line(photo: Path, classifier: str, answerer: str, mover: str, clip: Path, tmp_path: Path) -> None:
    told = ("--precision", "bfloat16", "--out", tmp_path / "maps.safetensors")
    for verb in (
        ("classify", photo, "--model", classifier),
        ("vqa", photo, "is it red", "--model", answerer),
        ("action", clip, "--model", mover),
    ):
        record(*verb, *told)
        assert Explanation.load(tmp_path / "maps.safetensors").provenance["precision"] == "bfloat16"
    assert "bfloat16" in refusal("classify", photo, "--model", classifier, "--precision", "bf16")


def test_evaluations_know_it(tmp_path: Path, classifier: str) -> None:
    (tmp_path / "photos").mkdir()
    picture().save(tmp_path / "photos" / "a.png")
    told = ["evaluate", "faithfulness", "--data", tmp_path / "photos", "--model", classifier, "--out", tmp_path / "out",
            "--set", "metrics=drop"]  # fmt: skip
    assert run(*told).exit_code == 0
    assert "out" in refusal(*told, "--precision", "bfloat16")
    told[-3] = tmp_path / "other"
    assert record(*told, "--precision", "bfloat16")["settings"]["precision"] == "bfloat16"


@pytest.mark.cuda
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_on_a_gpu(small: Small, precision: str) -> None:
    small.cuda()
    task = Classifier(small, SQUASHED, layer="tapped")
    exact, found = (task.explain(picture(), [0, 3], precision=p) for p in ("float32", precision))
    assert found.provenance["precision"] == precision
    (a,), (b,) = exact.maps.values(), found.maps.values()
    assert (a - b).abs().max() <= 0.05 * a.abs().max()
