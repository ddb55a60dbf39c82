"""Grad-CAM++ through the softmax, against derivatives of the softmax that autograd takes element by element."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mmexplain.engine import run
from mmexplain.errors import MethodError
from mmexplain.explainer import explain
from mmexplain.explanation import MapKey
from mmexplain.methods import gradcam_pp_softmax
from mmexplain.moments import softmax_moments
from mmexplain.problem import Problem, Rows
from mmexplain.targets import Target, contrast
from tests import slow
from tests.models import (
    AttentiveCaptioner,
    Head,
    ModelTask,
    PlainCNN,
    caption_problem,
    class_problem,
    classes,
    noise,
    seeded,
    words,
)

ROWS = [classes(0, 3), classes(4, 1)]


def class_logits(output: Tensor, rows: Rows) -> Tensor:
    return output[:, None].expand(-1, len(rows[0]), -1)


def maps_of(problem: Problem, rows: Rows, layers: list[str], **options) -> dict[str, Tensor]:
    found = softmax_moments(problem, class_logits, rows, layers, **options)
    return {layer: gradcam_pp_softmax(activations, moments) for layer, (activations, moments) in found.items()}


@pytest.mark.parametrize("sharpness", [0.3, 1, 5])
def test_against_derivatives_of_the_softmax(sharpness):
    model, image = seeded(Head), noise(2, 3, 3, 3)
    with torch.no_grad():
        model.fc2.weight.mul_(sharpness * 4)
    found = maps_of(class_problem(model, image), ROWS, ["tap"])["tap"]
    for b, row in enumerate(ROWS):
        for k, target in enumerate(row):
            activations = image[b].relu()
            with torch.no_grad():
                probabilities = model.after(activations[None]).softmax(1)[0]
            # Only the classes that hold what is left beside the target count.
            others = sorted(set(range(5)) - {target.ids[0]}, key=lambda v: -probabilities[v])

            def probability(a: Tensor, target=target) -> Tensor:
                return model.after(a[None]).softmax(1)[0, target.ids[0]]

            assert probabilities[others[3]] > 1e-3 * probabilities[others].sum(), "all classes are to be taken"
            expected = slow.gradcam_pp(probability, activations)
            y = probabilities[target.ids[0]]  # cancels from α, and is left out where it scales the map
            torch.testing.assert_close(found[b, k] * y, expected, rtol=1e-6, atol=1e-9 * expected.max().item())
    assert found.amax((2, 3)).min() > 0


def test_fewer_classes_are_a_softmax_over_those():
    model, image = seeded(Head), noise(1, 3, 3, 3)
    row = classes(2)
    with torch.no_grad():
        logits = model.after(image.relu())[0]
    likeliest = [v for v in logits.argsort(descending=True).tolist() if v != 2][:2]
    found = maps_of(class_problem(model, image), [row], ["tap"], limit=2)["tap"]

    def restricted(a: Tensor) -> Tensor:
        return model.after(a[None])[0, [2, *likeliest]].softmax(0)[0]

    expected = slow.gradcam_pp(restricted, image[0].relu())
    y = logits[[2, *likeliest]].softmax(0)[0]
    torch.testing.assert_close(found[0, 0] * y, expected, rtol=1e-6, atol=1e-9 * expected.max().item())


def test_a_confident_model_keeps_its_map():
    """With P = 1 − 1e-9 the map is that of the few others still, in float32 too: Y' = Y Σ P_v (g_c − g_v)."""
    model, image = seeded(Head), noise(1, 3, 3, 3)
    logits = model.after(image.relu())[0]
    best = int(logits.argmax())
    with torch.no_grad():
        model.fc2.bias[best] += 20
        probability = model.after(image.relu()).softmax(1)[0, best]
    assert 1 - probability < 1e-8
    exact = maps_of(class_problem(model, image), [classes(best)], ["tap"])["tap"]
    expected = slow.gradcam_pp(lambda a: model.after(a[None]).softmax(1)[0, best], image[0].relu())
    torch.testing.assert_close(exact[0, 0] * probability, expected, rtol=1e-4, atol=1e-4 * expected.max().item())
    model.float()
    single = maps_of(class_problem(model, image.float()), [classes(best)], ["tap"])["tap"]
    assert single.dtype == torch.float32 and single.max() > 0
    torch.testing.assert_close(single.double(), exact, rtol=1e-3, atol=1e-3 * exact.max().item())


@pytest.mark.parametrize("limit", [2, 128])
@pytest.mark.parametrize("memory", [1, 50_000, 10**9])
def test_moments_against_plain_sums(memory, limit):
    """Σ P_v (g_v − g_c)^p with every g_v from a pass of its own; ragged rows, several layers by a glob, any chunk."""
    tokens = torch.tensor([[1, 2, 3], [4, 5, 6]])
    problem = caption_problem(seeded(AttentiveCaptioner), noise(2, 3, 8, 8), tokens)
    rows = [words([1, 2, 3]), words([4, 5])]

    def logits(output: Tensor, rows: Rows) -> Tensor:
        places = torch.tensor([[target.index for target in row] for row in rows])
        return output[torch.arange(len(rows))[:, None], places]

    found = softmax_moments(problem, logits, rows, ["conv?"], memory=memory, limit=limit)
    assert list(found) == ["conv1", "conv2"]
    log_p = problem.decode(problem.encode(problem.inputs), problem.context).detach()
    for b, row in enumerate(rows):
        for k, target in enumerate(row):
            p = log_p[b, k].exp()
            order = [v for v in p.argsort(descending=True).tolist() if v != target.ids[0]]
            size = min(limit, 1 + sum(p[order[: n + 1]].sum() < 0.999 * p[order].sum() for n in range(len(order))))
            kept = [target.ids[0], *order[:10]] if limit > size else [target.ids[0], *order[:limit]]
            share = p[kept] / p[kept].sum()
            each = [[Target("", "word", (v,), target.index)] for v in kept]
            one = Problem(
                problem.model,
                problem.encode,
                problem.decode,
                problem.score,
                {"image": problem.inputs["image"][b : b + 1].expand(len(kept), -1, -1, -1)},
                {"tokens": tokens[b : b + 1].expand(len(kept), -1)},
            )
            for layer, (activations, moments) in found.items():
                a, g, _ = slow.activations_and_gradients(one, each, layer)
                torch.testing.assert_close(activations[b, 0], a[0][0])
                for power, moment in enumerate(moments, 1):
                    expected = sum(s * (g[i][0] - g[0][0]) ** power for i, s in enumerate(share.tolist()))
                    torch.testing.assert_close(
                        moment[b, k], expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item()
                    )


def test_one_trunk_forward_for_all_targets():
    model = seeded(PlainCNN)
    calls = []
    model.conv1.register_forward_hook(lambda *_: calls.append(1))
    softmax_moments(class_problem(model, noise(2, 3, 16, 16)), class_logits, ROWS, ["conv2"], memory=1)
    assert calls == [1]


def test_through_explain():
    model, image = seeded(PlainCNN), noise(2, 3, 16, 16)
    task = ModelTask(model)
    found = explain(task, task.prepare(image), ROWS, layers=["relu2"], methods=["gradcam++-softmax", "gradcam++"])
    direct = maps_of(class_problem(model, image), ROWS, ["relu2"])["relu2"]
    for b in range(2):
        torch.testing.assert_close(found[b].maps[MapKey("relu2", "gradcam++-softmax")], direct[b])
        assert found[b].methods == ["gradcam++-softmax", "gradcam++"]


def test_what_has_no_softmax_is_refused():
    problem = class_problem(seeded(PlainCNN), noise(1, 3, 16, 16))
    with pytest.raises(MethodError, match="one outcome of a softmax, not 'class 1 rather than class 2'"):
        maps_of(problem, [[contrast(*classes(1, 2))]], ["conv2"])
    with pytest.raises(MethodError, match="not 'a dog'"):
        maps_of(problem, [[Target("a dog", "span", (1, 2), 0)]], ["conv2"])
    with pytest.raises(MethodError, match="ends in a softmax"):
        softmax_moments(problem, lambda output, rows: None, [classes(1)], ["conv2"])
    task = ModelTask(problem.model)
    with pytest.raises(MethodError, match="cannot be trained through"):
        explain(
            task,
            task.prepare(problem.inputs["image"]),
            [classes(1)],
            layers=["conv2"],
            methods=["gradcam++-softmax"],
            create_graph=True,
        )


def test_two_classes_are_a_sigmoid():
    """Of two classes there is one other: S_c − S_o is piecewise linear and P is its sigmoid."""
    model = seeded(PlainCNN, classes=2)
    problem = class_problem(model, noise(1, 3, 16, 16))
    found = softmax_moments(problem, class_logits, [classes(0)], ["relu2"])["relu2"][1]
    result = run(
        Problem(model, problem.encode, problem.decode, lambda out, rows: out[:, 1:] - out[:, :1], problem.inputs),
        [classes(0)],
        ["relu2"],
        lambda _, a, g: {"g": g},
    )
    with torch.no_grad():
        other = model(problem.inputs["image"]).softmax(1)[0, 1]
    for power, moment in enumerate(found, 1):
        torch.testing.assert_close(moment, other * result.reduced["relu2"]["g"] ** power)
