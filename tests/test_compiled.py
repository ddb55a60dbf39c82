"""Models that were compiled already: explained as they were written."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
import torchvision
from PIL import Image
from torch import nn

from mmexplain.explanation import Explanation
from mmexplain.surroundings import undisturbed
from mmexplain.taps import resolve
from mmexplain.tasks.classification import Classifier
from tests.command_line import picture

pytestmark = pytest.mark.skipif(not hasattr(torch.compiler, "set_stance"), reason="torch before 2.6")

LAYERS = ("layer4", "_orig_mod.layer4")


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return torchvision.models.resnet18().eval()


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return picture()


@pytest.fixture(scope="module")
def eager(model: nn.Module, photo: Image.Image) -> Explanation:
    found: Explanation = Classifier(model).explain(photo, [3, 14, 159], layers=["layer4"])
    return found


def counted() -> tuple[list[int], Any]:
    """A compiler that compiles nothing, and the calls of what it made."""
    calls: list[int] = []

    def backend(graph: torch.fx.GraphModule, _: Any) -> Any:
        def run(*args: Any) -> Any:
            calls.append(1)
            return graph(*args)

        return run

    return calls, backend


def hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


@pytest.mark.parametrize("layer", [*LAYERS, None])
@pytest.mark.parametrize("has_run", [True, False])
def test_a_compiled_classifier(
    model: nn.Module, photo: Image.Image, eager: Explanation, layer: str | None, has_run: bool
) -> None:
    torch.compiler.reset()
    calls, backend = counted()
    compiled: Any = torch.compile(model, backend=backend)
    inputs = torch.rand(1, 3, 224, 224)
    if has_run:
        with torch.no_grad():
            before = compiled(inputs)
    ran = len(calls)
    layers = None if layer is None else [layer]
    found = Classifier(compiled).explain(photo, [3, 14, 159], layers=layers)
    assert len(calls) == ran  # as it was written
    (value,), (expected,) = found.maps.values(), eager.maps.values()
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(found.scores, eager.scores)
    assert not hooks(compiled)
    with torch.no_grad():
        after = compiled(inputs)
    assert len(calls) > ran  # compiled again
    if has_run:
        torch.testing.assert_close(after, before)


def test_a_model_compiled_in_place(photo: Image.Image, eager: Explanation, model: nn.Module) -> None:
    torch.compiler.reset()
    calls, backend = counted()
    other = torchvision.models.resnet18().eval()
    other.load_state_dict(model.state_dict())
    other.compile(backend=backend)
    with torch.no_grad():
        other(torch.rand(1, 3, 224, 224))
    ran = len(calls)
    assert ran
    found = Classifier(other).explain(photo, [3, 14, 159], layers=["layer4"])
    assert len(calls) == ran
    torch.testing.assert_close(next(iter(found.maps.values())), next(iter(eager.maps.values())))


def test_a_compiled_part(photo: Image.Image, eager: Explanation, model: nn.Module) -> None:
    """A block inside is the wrapper's: its name is as it would be without."""
    torch.compiler.reset()
    _, backend = counted()
    other = torchvision.models.resnet18().eval()
    other.load_state_dict(model.state_dict())
    other.layer4 = torch.compile(other.layer4, backend=backend)
    with torch.no_grad():
        other(torch.rand(1, 3, 224, 224))
    inside = Classifier(other).explain(photo, [3, 14, 159], layers=["layer4.1"])
    torch.testing.assert_close(next(iter(inside.maps.values())), next(iter(eager.maps.values())))


def test_names_with_the_wrapper_and_without(model: nn.Module) -> None:
    compiled: Any = torch.compile(model, backend="eager")
    assert resolve(compiled, ["layer?"]) == [f"_orig_mod.layer{number}" for number in (1, 2, 3, 4)]
    assert resolve(compiled, ["_orig_mod.layer[12]"]) == ["_orig_mod.layer1", "_orig_mod.layer2"]
    assert resolve(compiled, ["layer4.1.relu@0"]) == ["_orig_mod.layer4.1.relu@0"]
    assert resolve(model, ["_orig_mod.layer4"]) == ["layer4"]


def test_the_stance_comes_back_when_the_last_thread_is_done(model: nn.Module) -> None:
    torch.compiler.reset()
    calls, backend = counted()
    small = nn.Linear(2, 2)
    compiled: Any = torch.compile(small, backend=backend)
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with undisturbed(model, torch.device("cpu")):
            inside.set()
            leave.wait(60)

    thread = threading.Thread(target=other)
    with undisturbed(model, torch.device("cpu")):
        thread.start()
        assert inside.wait(60)
    compiled(torch.ones(1, 2))
    assert not calls
    leave.set()
    thread.join()
    compiled(torch.ones(1, 2))
    assert calls
