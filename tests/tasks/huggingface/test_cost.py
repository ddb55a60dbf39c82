"""What many words cost where the language model is most of the model: its activations are those of one text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import mmexplain
from mmexplain import strategies
from tests.tasks.huggingface.planted import photo
from tests.tasks.huggingface.tiny_queries import vilt
from tests.tasks.huggingface.tiny_speakers import llava

CAPTION = " ".join(["a man and a dog with a red ball on the street"] * 2)
WORDS = CAPTION.split()[:20]
CAPTION = " ".join(WORDS)
METHODS = ["gradcam-no-relu"]


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("deep")
    llava(folder, layers=4)
    return mmexplain.load(f"hf:{folder}", "caption", "cpu")


def rows_of(module: Any, run: Any) -> list[int]:
    """Rows of all calls of a module that keep a graph."""
    seen: list[int] = []

    def note(_: Any, __: Any, output: Any) -> None:
        if torch.is_grad_enabled():
            seen.append(len(output[0] if isinstance(output, tuple) else output))

    handle = module.register_forward_hook(note)
    try:
        run()
    finally:
        handle.remove()
    return seen


def saved_bytes(run: Any) -> int:
    """What the graphs of a run keep, each piece of memory once."""
    kept: dict[int, int] = {}
    held: list[Tensor] = []  # so that no memory is used again under the same address

    def pack(value: Tensor) -> Tensor:
        held.append(value)
        kept[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        run()
    return sum(kept.values())


@pytest.mark.parametrize("on_cpu", [True, False])
@pytest.mark.parametrize("vmap", [True, False])
@pytest.mark.parametrize("layer", [None, "model.language_model.layers.0"])
def test_the_language_model_reads_one_row_for_20_words(
    task: Any, on_cpu: bool, vmap: bool, layer: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"caption": CAPTION, "methods": METHODS, "layers": layer and [layer]}
    image = photo(120, 120)
    expected = task.explain(image, strategy="loop", **options)
    monkeypatch.setattr(strategies, "_on_cpu", lambda _: on_cpu)
    if not vmap:
        monkeypatch.setattr(torch, "vmap", lambda _: lambda *_: (_ for _ in ()).throw(RuntimeError("no rule")))
    found: list[Any] = []
    last = task.model.model.language_model.layers[-1]
    rows = rows_of(last, lambda: found.append(task.explain(image, **options)))
    assert set(rows) == {1} and len(rows) <= (1 if vmap else 2)
    assert len(found[0]) == 20
    (key,) = expected.maps
    scale = float(expected.maps[key].abs().max())
    assert torch.allclose(found[0].maps[key], expected.maps[key], rtol=1e-3, atol=1e-5 * scale)


@pytest.mark.parametrize("on_cpu", [True, False])
def test_20_words_keep_what_2_do(task: Any, on_cpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strategies, "_on_cpu", lambda _: on_cpu)
    image = photo(120, 120)

    def run(words: list[str] | None) -> None:
        task.explain(image, caption=CAPTION, methods=METHODS, words=words)

    run(None)
    few, many = saved_bytes(lambda: run(["street", "red"])), saved_bytes(lambda: run(None))
    assert few > 100_000
    assert many <= 1.2 * few


def test_vilt_reads_one_row_for_several_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vilt(tmp_path)
    task: Any = mmexplain.load(f"hf:{tmp_path}", device="cpu")
    monkeypatch.setattr(strategies, "_on_cpu", lambda _: False)
    last = task.model.vilt.encoder.layer[-1]
    rows = rows_of(last, lambda: task.explain(photo(120, 120), "what is it?", ["red", "dog", "two"], top=0))
    assert rows == [1]
