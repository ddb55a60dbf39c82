"""What threads share: attention that is listened to, models that keep some of it to themselves, and vmap's advice."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

import mmexplain
from mmexplain import gradients
from mmexplain.io import load_image
from mmexplain.tasks.huggingface.attention import Listening
from mmexplain.tasks.huggingface.photo_task import ids_of
from tests.tasks.huggingface.planted import photo


def implementations(model: Any) -> list[str]:
    return [m.config._attn_implementation for m in model.modules() if hasattr(m, "config")]


class Reading:
    """One pass over a text, with or without listening."""

    def __init__(self, task: Any, size: tuple[int, int], listen: bool) -> None:
        self.on = task.before(load_image(photo(*size)), task.speaker.asked)
        batch = self.on.prepare()
        said = ids_of([[task.speaker.tokens("a dog with two balls")]], self.on.look.prompt)
        self.context = {**batch.context, "said": said, "spans": said.new_zeros(1, 1, 2)}
        if listen:
            self.context["listen"] = said.new_zeros(1, 1)
        with torch.no_grad():
            self.features = self.on.encode(batch.inputs)

    def __call__(self) -> Any:
        with torch.no_grad():
            found = self.on.decode(self.features, self.context)
        return found.hidden, found.attention


def test_threads_that_overlap_hear_what_they_hear_alone(captioner: Any) -> None:
    """The first one leaves while the second is still in the language model's first layer."""
    task = captioner("llava")
    before = implementations(task.model)
    assert "sdpa" in before
    one, two = Reading(task, (120, 120), True), Reading(task, (240, 100), True)
    expected = one(), two()
    layer = task.model.get_submodule(task.speaker.attention_layers()[0])
    first, inside, left = threading.get_ident(), threading.Event(), threading.Event()

    def wait(*_: Any) -> None:
        if threading.get_ident() == first:
            assert inside.wait(20)
        else:
            inside.set()
            assert left.wait(20)

    handle = layer.register_forward_pre_hook(wait)
    try:
        with ThreadPoolExecutor(1) as pool:
            other = pool.submit(two)
            found = one()
            left.set()
            results = found, other.result(30)
    finally:
        left.set()
        handle.remove()
    for (hidden, attention), (own_hidden, own_attention) in zip(results, expected, strict=True):
        assert torch.allclose(hidden, own_hidden, atol=1e-6) and torch.allclose(attention, own_attention, atol=1e-7)
    assert implementations(task.model) == before


def test_a_pass_without_listening_keeps_its_kernel_to_the_end(captioner: Any) -> None:
    """Its mask is one of its kernel: in another the text would see what comes after it."""
    task = captioner("llava")
    quiet, loud = Reading(task, (120, 120), False), Reading(task, (240, 100), True)
    expected = quiet(), loud()
    layer = task.model.get_submodule(task.speaker.attention_layers()[0])
    main = threading.get_ident()
    seen: list[str] = []
    with ThreadPoolExecutor(1) as pool:
        futures: list[Any] = []

        def start(*_: Any) -> None:
            if threading.get_ident() == main:
                futures.append(pool.submit(loud))
                assert not futures[0].done()
                threading.Event().wait(0.2)
                seen.append(layer.config._attn_implementation)

        handle = layer.register_forward_pre_hook(start)
        try:
            found = quiet()
            other = futures[0].result(30)
        finally:
            handle.remove()
    assert seen == ["sdpa"]
    assert torch.allclose(found[0], expected[0][0], atol=1e-6)
    assert torch.allclose(other[1], expected[1][1], atol=1e-7)


def test_many_threads_get_the_maps_of_one(captioner: Any) -> None:
    task = captioner("llava")
    before = implementations(task.model)
    images = [photo(*size) for size in ((240, 100), (90, 260), (120, 120), (100, 80))]

    def run(number: int) -> Any:
        methods = ["attention"] if number % 2 else ["gradcam-no-relu"]
        (maps,) = task.explain(images[number], caption="a dog", methods=methods).maps.values()
        return maps

    expected = [run(number) for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            for maps, own in zip(pool.map(run, range(4)), expected, strict=True):
                assert torch.allclose(maps, own, rtol=1e-3, atol=1e-6)
    assert implementations(task.model) == before


def test_a_layer_that_keeps_its_weights_is_no_mean(captioner: Any) -> None:
    task = captioner("llava")
    layer = task.model.get_submodule(task.speaker.attention_layers()[1])
    before = implementations(task.model)
    handle = layer.register_forward_hook(lambda *call: (call[-1][0], None))
    try:
        with pytest.raises(mmexplain.MethodError, match="weights of 1 of its 2 layers; load it with"):
            task.explain(photo(120, 120), caption="a dog", methods=["attention"])
    finally:
        handle.remove()
    assert implementations(task.model) == before


def test_nothing_is_left_behind_by_names_that_are_wrong(captioner: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    task = captioner("llava")
    model, names = task.model, task.speaker.attention_layers()
    before = implementations(model)
    hooks = [len(module._forward_hooks) for module in model.modules()]
    monkeypatch.setattr(task.speaker, "attention_layers", lambda: [*names, "model.no.such"])
    views = task.before(load_image(photo(120, 120)), "").look.views
    with pytest.raises(AttributeError), Listening(task.speaker, {}, views, 1, True):
        pass
    # One that fails when the first hooks are in.
    last = model.get_submodule(names[-1])
    monkeypatch.setattr(task.speaker, "attention_layers", lambda: names)
    with monkeypatch.context() as patch:
        patch.setattr(last, "register_forward_hook", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError), Listening(task.speaker, {}, views, 1, True):
            pass
    assert [len(module._forward_hooks) for module in model.modules()] == hooks
    assert implementations(model) == before


def test_advice_on_vmap_stays_off_while_any_thread_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    switched: list[bool] = []
    monkeypatch.setattr(torch._C._functorch, "_set_vmap_fallback_warning_enabled", switched.append)

    def once() -> None:
        with gradients._without_advice():
            pass

    with gradients._without_advice():
        with ThreadPoolExecutor(1) as pool:
            pool.submit(once).result()
        assert True not in switched
    assert switched[-1] is True and switched.count(True) == 1
