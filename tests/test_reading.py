"""What words added to scores: worked by hand, against a slow loop written from the paper, and in bad surroundings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mmexplain.errors import LayerError, MethodError, ModelError
from mmexplain.explainer import explain
from mmexplain.explanation import Explanation
from mmexplain.targets import Target, contrast
from tests.models import ModelTask, PlainCNN, classes, seeded
from tests.readers import PAD, Asking, BagOfWords, LSTMReader, Reader, asking, photos

GRADIENT, INTEGRATED = "gradient-x-embedding", "integrated-gradients"
QUESTION = [3, 1, 4, 1, 5]


def explained(
    task: Asking,
    questions: Sequence[Sequence[int]] = (QUESTION,),
    targets: Sequence[Target] | None = None,
    padding: int = 0,
    text: Any = "all",
    **options: Any,
) -> list[Explanation]:
    rows = [targets or classes(0, 2, 1)] * len(questions)
    like = next(task.model.parameters())
    batch = task.prepare(photos(len(questions)).to(like.dtype))
    return explain(task, batch, lambda _: task.choice(questions, rows, padding), text=text, **options)


def assert_same(found: Explanation, expected: Explanation, tolerance: float = 1e-6) -> None:
    assert found.text_maps.keys() == expected.text_maps.keys()
    for name, value in found.text_maps.items():
        torch.testing.assert_close(value, expected.text_maps[name], rtol=tolerance, atol=tolerance, equal_nan=True)


# -- independent values ---------------------------------------------------------------------------------------------


def test_a_linear_model_by_hand() -> None:
    """Each word adds its own term of the sum, whatever the path, and twice if it stands there twice."""
    task = asking(BagOfWords)
    with torch.no_grad():
        task.model.embed.weight.copy_(torch.arange(54.0).view(9, 6) % 7 - 3)
        task.model.out.weight.copy_(torch.tensor([[1.0, 0, -1, 0, 2, 0], [0, 1, 0, 1, 0, 1]]).repeat(2, 1))
    (found,) = explained(task, targets=classes(0, 1))
    # word t has embedding (6t + 0..5) mod 7 - 3
    vectors = {1: [3, -3, -2, -1, 0, 1], 3: [1, 2, 3, -3, -2, -1], 4: [0, 1, 2, 3, -3, -2], 5: [-1, 0, 1, 2, 3, -3]}
    first = {t: v[0] - v[2] + 2 * v[4] for t, v in vectors.items()}
    second = {t: v[1] + v[3] + v[5] for t, v in vectors.items()}
    expected = torch.tensor([[first[t] for t in QUESTION], [second[t] for t in QUESTION]], dtype=torch.float32)
    assert expected.tolist() == [[-6, 5, -8, 5, 4], [-2, -3, 2, -3, -1]]
    torch.testing.assert_close(found.text_maps[GRADIENT], expected)
    torch.testing.assert_close(found.text_maps[INTEGRATED], expected)
    assert found.text_maps[GRADIENT].dtype == torch.float32
    assert list(found.text_errors) == [INTEGRATED]
    torch.testing.assert_close(found.text_errors[INTEGRATED], torch.zeros(2))


def slow(task: Asking, target: Target, steps: int) -> tuple[list[float], list[float], float]:
    """Gradient × embedding, integrated gradients (midpoint Riemann sum) and S(x) − S(x'), from the papers: one
    target, one step, one gradient at a time."""
    model = task.model
    question = torch.tensor([QUESTION])
    with torch.no_grad():
        features, embedded = model.encode(photos()), model.embed(question)

    def value(words: Tensor) -> Tensor:
        return model.answer(features, words, question != PAD)[0, target.ids[0]]

    def gradient(alpha: float) -> Tensor:
        words = (alpha * embedded).requires_grad_()
        (found,) = torch.autograd.grad(value(words), words)
        return found

    average = torch.zeros_like(embedded)
    for step in range(steps):
        average += gradient((step + 0.5) / steps) / steps
    with torch.no_grad():
        change = float(value(embedded) - value(torch.zeros_like(embedded)))
    return (embedded * gradient(1.0))[0].sum(1).tolist(), (embedded * average)[0].sum(1).tolist(), change


def test_an_lstm_against_a_slow_loop() -> None:
    task, targets = asking(LSTMReader), classes(0, 2, 3)
    (found,) = explained(task, targets=targets)
    for k, target in enumerate(targets):
        simple, integrated, change = slow(task, target, 200)
        torch.testing.assert_close(found.text_maps[GRADIENT][k], torch.tensor(simple))
        torch.testing.assert_close(found.text_maps[INTEGRATED][k], torch.tensor(integrated), rtol=1e-4, atol=1e-6)
        assert float(found.text_maps[INTEGRATED][k].sum()) == pytest.approx(change, rel=1e-3)
        # The two are no rescaled versions of each other, so neither can stand in for the other.
        assert abs(sum(simple) - change) > 0.05 * abs(change)
        assert found.text_errors[INTEGRATED][k] < 1e-3


def test_the_error_tells_when_there_are_too_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """One step in the middle of the path: the error is what the sum lacks, as a share of the change."""
    from mmexplain import reading

    task, targets = asking(LSTMReader), classes(0, 2, 3)
    monkeypatch.setitem(reading.read.__kwdefaults__, "steps", (1,))
    (found,) = explained(task, targets=targets, text=INTEGRATED)
    for k, target in enumerate(targets):
        _, integrated, change = slow(task, target, 1)
        expected = abs(sum(integrated) - change) / abs(change)
        assert expected > 0.01
        assert float(found.text_errors[INTEGRATED][k]) == pytest.approx(expected, rel=1e-4)


def test_more_steps_are_taken_until_the_words_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only by the targets that need them, and only as long as they help."""
    from mmexplain import reading

    task, targets = asking(LSTMReader), classes(0, 2, 3)
    taken: list[int] = []
    original = reading.vectorized
    monkeypatch.setattr(
        reading, "vectorized", lambda *args, **kwargs: taken.append(args[0].shape[1]) or original(*args, **kwargs)
    )
    monkeypatch.setitem(reading.read.__kwdefaults__, "steps", (1,))
    (coarsest,) = explained(task, targets=targets, text=INTEGRATED)
    *_, middle, largest = sorted(coarsest.text_errors[INTEGRATED].tolist())
    middle = (middle + largest) / 2
    monkeypatch.setattr(reading, "TOLERANCE", middle)
    monkeypatch.setitem(reading.read.__kwdefaults__, "steps", (1, 8, 16))
    taken.clear()
    (coarse,) = explained(task, targets=targets, text=INTEGRATED)
    assert coarse.text_errors[INTEGRATED].max() <= middle
    assert taken == [3, 1], "one target's error was too large"
    assert coarse.provenance["text_steps"] == 8
    monkeypatch.setattr(reading, "TOLERANCE", 0.0)
    monkeypatch.setitem(reading.read.__kwdefaults__, "steps", (64, 65, 1000))
    (fine,) = explained(task, targets=targets, text=INTEGRATED)
    assert fine.provenance["text_steps"] < 1000, "an error of rounding does not halve"
    worst = int(coarsest.text_errors[INTEGRATED].argmax())
    refined, exact = (found.text_maps[INTEGRATED][worst] for found in (coarse, fine))
    torch.testing.assert_close(refined, exact, rtol=1e-3, atol=1e-6)


def test_a_contrast_is_the_difference_of_two() -> None:
    one, other = classes(1, 3)
    (found,) = explained(asking(LSTMReader), targets=[one, other, contrast(one, other)])
    for value in found.text_maps.values():
        torch.testing.assert_close(value[2], value[0] - value[1])
    assert found.text_errors[INTEGRATED].max() < 1e-3


# -- batches, bounds ------------------------------------------------------------------------------------------------


def test_a_batch_gives_what_single_inputs_give() -> None:
    task = asking(LSTMReader)
    questions = [[3, 1], [2, 7, 1, 8, 2, 8], [5]]
    rows = [classes(0, 2), classes(1), classes(3, 0, 2)]
    image = photos(3)
    together = explain(task, task.prepare(image), task.choice(questions, rows), text="all")
    for number, found in enumerate(together):
        assert found.text_maps[INTEGRATED].shape == (len(rows[number]), len(questions[number]))
        assert found.text_errors[INTEGRATED].shape == (len(rows[number]),)
        choice = task.choice(questions[number : number + 1], rows[number : number + 1])
        (alone,) = explain(task, task.prepare(image[number : number + 1]), choice, text="all")
        assert_same(found, alone)


def test_padding_does_not_matter() -> None:
    task = asking(LSTMReader)
    assert_same(explained(task, padding=4)[0], explained(task)[0])


def test_rows_at_once_are_bounded_and_the_photo_is_encoded_once() -> None:
    task = asking(LSTMReader)
    rows: list[int] = []
    photos_seen: list[int] = []
    (expected,) = explained(task)
    task.model.embed.register_forward_hook(lambda module, args, output: rows.append(len(output)))
    task.model.conv.register_forward_hook(lambda module, args, output: photos_seen.append(len(output)))
    (found,) = explained(task, memory=200_000)
    assert_same(found, expected)
    # By the estimate: 6 tensors of the features (5×3×3) and 40 of the embeddings (5×6), of 8 bytes, for 3 targets.
    assert 1 < max(rows) <= 200_000 // (8 * (6 * 45 + 40 * 30) * 3)
    assert sum(rows[2:]) == 10, "8 points on the path and both its ends, once for all targets"
    assert photos_seen == [1]
    rows.clear()
    explained(task, memory=1)
    assert max(rows) == 1


@pytest.mark.parametrize("strategy", ["expand", "vjp", "loop"])
def test_strategies_agree(strategy: Any) -> None:
    task = asking(LSTMReader)
    (expected,) = explained(task)
    batch, choice = task.prepare(photos()), task.choice([QUESTION], [classes(0, 2, 1)])
    assert_same(explain(task, batch, choice, text="all", strategy=strategy)[0], expected)


# -- surroundings ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_the_model_comes_back_as_it_was(context: Any) -> None:
    task = asking(LSTMReader)
    (expected,) = explained(task)
    model = task.model.train()
    model.conv.eval()
    for parameter in model.out.parameters():
        parameter.requires_grad_(False)
    flags = [module.training for module in model.modules()]
    frozen = [parameter.requires_grad for parameter in model.parameters()]
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    with context():
        (found,) = explained(task)
    assert_same(found, expected)
    assert [module.training for module in model.modules()] == flags
    assert [parameter.requires_grad for parameter in model.parameters()] == frozen
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert torch.equal(torch.get_rng_state(), state)
    assert not found.text_maps[INTEGRATED].requires_grad


def test_hooks_are_gone_after_an_error() -> None:
    task = asking(LSTMReader)
    task.layer = "photo"
    with pytest.raises(LayerError):
        explained(task)
    assert not any(module._forward_hooks for module in task.model.modules())


def test_frozen_and_embedded_under_no_grad() -> None:
    class Frozen(LSTMReader):
        def decode(self, features: Tensor, question: Tensor) -> Tensor:
            with torch.no_grad():
                words = self.embed(question)
            words += 0  # in place: must not reach what is differentiated
            return self.answer(features, words, question != PAD)

    task = asking(Frozen)
    task.model.requires_grad_(False)
    assert_same(explained(task)[0], explained(asking(LSTMReader))[0])


def test_half_precision_is_near() -> None:
    task = asking(LSTMReader)
    (expected,) = explained(task)
    task.model.to(torch.bfloat16)
    (found,) = explained(task)
    for name, value in found.text_maps.items():
        assert value.dtype == torch.float32
        scale = float(expected.text_maps[name].abs().max())
        torch.testing.assert_close(value, expected.text_maps[name], rtol=0, atol=0.1 * scale)


# -- what cannot be done --------------------------------------------------------------------------------------------


def test_nothing_is_read_without_being_asked() -> None:
    (found,) = explained(asking(LSTMReader), text=())
    assert found.text_maps == {} and found.text_errors == {}
    assert "text_layer" not in found.provenance


def test_the_record_tells_how() -> None:
    (found,) = explained(asking(LSTMReader), text=[GRADIENT, GRADIENT])
    assert list(found.text_maps) == [GRADIENT]
    assert found.text_errors == {}
    assert found.provenance["text_layer"] == "embed"


class Twice(LSTMReader):
    def decode(self, features: Tensor, question: Tensor) -> Tensor:
        return super().decode(features, question) + self.embed(question).sum((1, 2))[:, None]


class Detached(LSTMReader):
    def answer(self, features: Tensor, words: Tensor, told: Tensor) -> Tensor:
        return super().answer(features, words.detach(), told)


class Infinite(LSTMReader):
    def answer(self, features: Tensor, words: Tensor, told: Tensor) -> Tensor:
        return super().answer(features, words, told) + words.norm(dim=2).log().sum(1, keepdim=True)


@pytest.mark.parametrize(
    ("kind", "layer", "error", "message"),
    [
        (LSTMReader, "embd", LayerError, r"no layer 'embd'; closest: 'embed'"),
        (LSTMReader, "conv", LayerError, r"'conv' does not run while the model decodes"),
        (LSTMReader, "photo", LayerError, r"'photo' puts out torch.float64 \(1, 7\) for 1 text"),
        (Twice, "embed", LayerError, r"'embed' runs more than once"),
        (Detached, "embed", ModelError, r"do not depend on text layer 'embed' in a differentiable way"),
        (Infinite, "embed", ModelError, r"not finite \(NaN or Inf\)"),
        (LSTMReader, None, MethodError, r"model 'LSTMReader' reads no text"),
    ],
)
def test_text_layers_that_cannot_be_explained(
    kind: type[Reader], layer: str | None, error: type[Exception], message: str
) -> None:
    task = asking(kind)
    task.layer = layer
    with pytest.raises(error, match=message):
        explained(task)


def test_a_place_that_does_not_exist() -> None:
    task = asking(LSTMReader)
    task.text_places = lambda target, count: range(1, count + 1)  # type: ignore[method-assign]
    with pytest.raises(LayerError, match=r"'embed' puts out 5 place\(s\); there is no 5"):
        explained(task)


def test_what_is_refused() -> None:
    task = asking(LSTMReader)
    with pytest.raises(MethodError, match=r"unknown text method 'integrated'; closest: 'integrated-gradients'"):
        explained(task, text="integrated")
    with pytest.raises(MethodError, match="cannot be trained through"):
        explained(task, create_graph=True)
    classifier = ModelTask(seeded(PlainCNN), "conv2")
    with pytest.raises(MethodError, match="'PlainCNN' reads no text"):
        explain(classifier, classifier.prepare(photos()), [classes(0)], text="all")
    choice = task.choice([QUESTION], [classes(0)])
    choice.words = None
    with pytest.raises(MethodError, match="task 'test' does not tell the words"):
        explain(task, task.prepare(photos()), choice, text="all")


def test_a_text_layer_may_put_out_a_tuple() -> None:
    """A text layer that puts out more than its vectors: the first tensor counts, the rest is handed on."""

    class Pair(nn.Embedding):
        def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
            return super().forward(tokens), tokens

    class Paired(LSTMReader):
        def decode(self, features: Tensor, question: Tensor) -> Tensor:
            words, tokens = self.embed(question)
            return self.answer(features, words, tokens != PAD)

    task = asking(LSTMReader)
    (expected,) = explained(task)
    paired = Asking(task.model)
    task.model.__class__, task.model.embed.__class__ = Paired, Pair
    assert_same(explained(paired)[0], expected)
