"""The captioners' own way back to the mean of the grid, against autograd's through all of it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from mmexplain.evaluate.captions import CaptionedPhotos, Given
from mmexplain.preprocess import Preprocess
from mmexplain.problem import PooledVJP
from mmexplain.recurrent import Schedule
from mmexplain.tasks.captioning import Captioning, DecoderOutput, ShowAndTell, ShowAttendTell
from mmexplain.tasks.captioning.vocabulary import SPECIAL, Vocabulary
from mmexplain.tasks.registry import load

WORDS = ["a", "red", "dog", "cat", "runs", "on", "the", "grass", "frisbee", "woman"]
CAPTIONS = ["a red dog runs on the grass", "a cat", "the woman runs on a red frisbee on the grass", "frisbee"]
VOCABULARY = Vocabulary([*SPECIAL, *WORDS])
Captioner = ShowAndTell | ShowAttendTell


def make(architecture: type[Captioner], scale: float = 2.0) -> Captioner:
    """Weights larger than a fresh model's: gates and attention that are neither open nor shut, and far from even."""
    torch.manual_seed(0)
    model: Captioner
    if architecture is ShowAndTell:
        model = ShowAndTell(VOCABULARY, embedding=24, hidden=16)
    else:
        model = ShowAttendTell(VOCABULARY, annotation=20, attention=12, embedding=24, hidden=16)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith("encoder"):
                parameter.mul_(scale)
    return model.eval()


@pytest.fixture(params=[ShowAndTell, ShowAttendTell])
def task(request: pytest.FixtureRequest) -> Captioning:
    return captioning(make(request.param))


def captioning(model: Captioner) -> Captioning:
    plain = Preprocess(resize=(64, 96), mean=(0.5,) * 3, std=(0.5,) * 3)
    return Captioning(model, plain, layer="encoder.smooth", model_id="tiny")


def photos(count: int) -> list[Image.Image]:
    noise = torch.rand(count, 48, 80, 3, generator=torch.Generator().manual_seed(1)) * 255
    return [Image.fromarray(one.byte().numpy()) for one in noise]


@pytest.fixture
def calls(task: Captioning, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by the number of photos whenever the short way back is taken."""
    return spied(task, monkeypatch)


def spied(task: Captioning, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    counted: list[int] = []
    own = type(task.model).pooled_vjp

    def counting(model: Any, grid: Tensor, tokens: Tensor, begun: Any = None) -> PooledVJP | None:
        found = own(model, grid, tokens, begun)
        if found is None:
            return None
        back = found.pull_back

        def pull_back(vectors: Tensor) -> Tensor:
            counted.append(len(vectors))
            return back(vectors)

        return PooledVJP(found.output, found.start, pull_back)

    monkeypatch.setattr(type(task.model), "pooled_vjp", counting)
    return counted


def assert_same(found: Any, expected: Any, tolerance: float) -> None:
    """Alike to ``tolerance`` of the strongest place of any word: where one's evidence cancels, only noise is left."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.text == other.text and one.maps.keys() == other.maps.keys()
        assert torch.allclose(one.scores, other.scores, atol=1e-5)
        assert torch.allclose(one.probabilities, other.probabilities, atol=1e-5)
        tops = [float(value.abs().max()) for key, value in other.maps.items() if key.method != "eigencam"]
        assert max(tops) > 0
        for key, value in other.maps.items():
            assert value.shape == one.maps[key].shape
            assert float((one.maps[key] - value).abs().max()) <= tolerance * (
                float(value.abs().max()) if key.method == "eigencam" else max(tops)
            )


@settings(max_examples=25)
@given(
    architecture=st.sampled_from([ShowAndTell, ShowAttendTell]),
    batch=st.integers(1, 4),
    count=st.integers(1, 5),
    length=st.integers(1, 6),
    share=st.floats(0, 1),
    dense=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_the_sum_of_autograds_gradients_over_the_places(
    architecture: type[Captioner], batch: int, count: int, length: int, share: float, dense: bool, seed: int
) -> None:
    model, random = make(architecture).double(), torch.Generator().manual_seed(seed)
    grid = torch.rand(batch, 1280, 2, 3, generator=random, dtype=torch.float64)
    tokens = torch.randint(4, len(VOCABULARY), (batch, length), generator=random)
    features = grid.clone().requires_grad_()
    hidden = model.decode(features, tokens).hidden
    vectors = torch.randn(batch, count, *hidden.shape[1:], generator=random, dtype=torch.float64)
    vectors *= torch.rand(batch, count, length, 1, generator=random) < share
    expected = torch.stack(
        [torch.autograd.grad(hidden, features, vectors[:, k], retain_graph=True)[0].sum((2, 3)) for k in range(count)],
        1,
    )
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        schedule = Schedule.of
        patch.setattr(Schedule, "of", classmethod(lambda _, vectors: schedule(vectors, dense)))
        vjp = model.pooled_vjp(grid, tokens)
        assert vjp is not None
        assert torch.equal(vjp.output.hidden, vjp.start) and torch.allclose(vjp.start, hidden, atol=1e-12)
        found = vjp.pull_back(vectors)
    assert float((found - expected).abs().max()) <= 1e-10 * max(1e-3, float(expected.abs().max()))


def test_each_gradient_is_carried_only_from_where_it_starts() -> None:
    vectors = torch.zeros(3, 4, 4, 2)
    for row, words in enumerate((2, 4, 1)):
        for word in range(words):
            vectors[row, word, word] = row + 1
    schedule = Schedule.of(vectors)
    assert schedule.captions.tolist() == [1, 0, 2]
    # Captions of 4, 2 and 1 words end at once; one gradient of each joins at each step.
    assert [(stage.captions, stage.targets) for stage in schedule.stages] == [(3, 1), (2, 2), (1, 3), (1, 4)]
    assert schedule.steps[0].tolist() == [3, 2, 1, 0] and schedule.targets[0].tolist() == [3, 2, 1, 0]
    assert schedule.vectors.shape == (7, 2)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-9)])
@pytest.mark.parametrize("score", ["logit", "log-probability"])
def test_maps_are_those_of_a_loop(
    task: Captioning, calls: list[int], dtype: torch.dtype, tolerance: float, score: str
) -> None:
    task.model.to(dtype)
    methods = ["gradcam", "gradcam-no-relu", "counterfactual-gradcam", "eigencam"]
    for batch in (1, 4):
        for options in ({}, {"whole": True}, {"words": "a"} if batch == 1 else {"memory": 1}):
            request = photos(batch), CAPTIONS[:batch]
            found = task.explain(*request, methods=methods, score=score, **options)
            assert set(calls) == {batch}
            calls.clear()
            expected = task.explain(*request, methods=methods, score=score, strategy="loop", **options)
            assert not calls
            assert_same(found, expected, tolerance)
            assert [one.provenance["strategy"] for one in found] == ["auto"] * batch


def test_phrases_and_contrasts(task: Captioning, calls: list[int]) -> None:
    request: dict[str, Any] = {"words": ["red dog", "grass"], "versus": {"dog": "cat"}, "whole": True}
    for score in ("logit", "log-probability"):
        found = task.explain(photos(2), CAPTIONS[:1] * 2, methods="gradcam-no-relu", score=score, **request)
        expected = task.explain(
            photos(2), CAPTIONS[:1] * 2, methods="gradcam-no-relu", score=score, strategy="loop", **request
        )
        assert len(found[0].targets) == 4
        assert_same(found, expected, 1e-5)
    assert calls == [2, 2]


def test_captions_that_the_model_finds(task: Captioning, calls: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    model, started = task.model, []
    start = type(model).start
    monkeypatch.setattr(type(model), "start", lambda *given: started.append(given) or start(*given))
    last = model.output if isinstance(model, ShowAndTell) else model.l_o
    assert isinstance(last, torch.nn.Linear)
    with torch.no_grad():
        last.bias[VOCABULARY.end] -= 5
    found = task.explain(photos(3), max_length=6, whole=True, methods="gradcam-no-relu")
    # The search and the way back begin with the same annotations.
    assert calls == [3] and len(started) == 1
    expected = task.explain(photos(3), max_length=6, whole=True, methods="gradcam-no-relu", strategy="loop")
    assert_same(found, expected, 1e-5)


def test_the_models_attention_comes_along(calls: list[int], task: Captioning) -> None:
    if isinstance(task.model, ShowAndTell):
        pytest.skip("it has none")
    for methods in (["attention"], ["gradcam", "attention"]):
        found = task.explain(photos(2), CAPTIONS[:2], methods=methods)
        assert_same(found, task.explain(photos(2), CAPTIONS[:2], methods=methods, strategy="loop"), 1e-5)
    assert calls == [2, 2]


@pytest.mark.parametrize(
    "options",
    [
        {"methods": ["layercam"]},
        {"methods": ["gradcam", "hirescam"]},
        {"methods": ["gradcam-max"]},
        {"methods": ["gradcam-absolute"]},
        {"methods": ["gradcam-guided-relu"]},
        {"layers": ["encoder.bn2"]},
        {"layers": ["encoder.bn2", "encoder.smooth"]},
        {"create_graph": True},
        {"strategy": "expand"},
        {"strategy": "vjp"},
        {"strategy": "loop"},
    ],
    ids=str,
)
def test_the_short_way_is_left_where_it_does_not_lead(
    task: Captioning, calls: list[int], options: dict[str, Any]
) -> None:
    (found,) = task.explain(photos(1), CAPTIONS[:1], **options)
    assert not calls and all(bool((value != 0).any()) for value in found.maps.values())


def test_mixed_precision_goes_by_autograd(task: Captioning, calls: list[int]) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        task.explain(photos(1), CAPTIONS[:1])
    assert not calls
    task.model.to(torch.bfloat16)
    task.explain(photos(1), CAPTIONS[:1])
    assert not calls


def test_a_score_of_other_parts_of_the_output_goes_by_autograd(calls: list[int], task: Captioning) -> None:
    if isinstance(task.model, ShowAndTell):
        pytest.skip("its output has no other parts")

    def score(output: DecoderOutput, targets: Any) -> Tensor:
        assert output.attention is not None
        return Captioning.score(task, output, targets) + output.attention[:, 0, 0, :1]

    task.score = score  # type: ignore[method-assign]
    found = task.explain(photos(2), CAPTIONS[:2], methods="gradcam-no-relu")
    assert not calls
    assert_same(found, task.explain(photos(2), CAPTIONS[:2], methods="gradcam-no-relu", strategy="loop"), 1e-5)


def test_a_subclass_that_may_decode_otherwise_goes_by_autograd() -> None:
    class Otherwise(ShowAttendTell):
        def project(self, hidden: Tensor) -> Tensor:
            return super().project(hidden)

    model = Otherwise(VOCABULARY, annotation=20, attention=12, embedding=24, hidden=16).eval()
    assert model.pooled_vjp(torch.rand(1, 1280, 2, 3), torch.full((1, 3), 5)) is None


def test_photos_that_were_encoded_before(task: Captioning, calls: list[int]) -> None:
    captioned = CaptionedPhotos(task, photos(2), ["gradcam"])
    assert captioned.shared
    tokens = [task.phrasing.read(text) for text in CAPTIONS[:2]]
    given = [
        Given(photo, tuple(words), tuple(task.phrasing.targets(words)))
        for photo, words in zip((1, 0), tokens, strict=True)
    ]
    found = captioned.explain(given)
    assert calls == [2]
    for one, other in zip(found, task.explain(photos(2)[::-1], CAPTIONS[:2], strategy="loop"), strict=True):
        (left,), (right,) = one.maps.values(), other.maps.values()
        assert torch.allclose(left, right, atol=1e-5 * float(right.max()))


def test_frozen_parameters_and_no_grad_change_nothing(task: Captioning, calls: list[int]) -> None:
    expected = task.explain(photos(2), CAPTIONS[:2])
    task.model.requires_grad_(False)
    with torch.inference_mode():
        found = task.explain(photos(2), CAPTIONS[:2])
    assert calls == [2, 2]
    assert_same(found, expected, 1e-6)


@pytest.mark.cuda
def test_on_a_cuda_device(task: Captioning) -> None:
    task.model.cuda()
    expected = task.explain(photos(4), CAPTIONS, strategy="loop")
    assert_same(task.explain(photos(4), CAPTIONS), expected, 1e-4)


@pytest.mark.parametrize("name", ["show-and-tell", "show-attend-tell"])
def test_the_bundled_models_on_real_photos(name: str, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task: Any = load(name, task="caption", device="cpu")
    files = sorted((data_dir / "flickr8k" / "images").iterdir())[:3]
    calls = spied(task, monkeypatch)
    found = task.explain(files, whole=True, methods="gradcam-no-relu")
    assert calls == [3]
    assert_same(found, task.explain(files, whole=True, methods="gradcam-no-relu", strategy="loop"), 2e-5)
    assert all(math.isfinite(float(one.scores.sum())) for one in found)
