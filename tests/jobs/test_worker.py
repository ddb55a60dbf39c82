"""How a worker goes through a batch: who is asked together, and what one bad input costs the others."""

import math

import pytest
import torch
from PIL import Image

from mmexplain.errors import InputError, MethodError, ModelError, TargetError
from mmexplain.explanation import Explanation
from mmexplain.jobs.item import Item
from mmexplain.jobs.job import Job
from mmexplain.jobs.trial import FAULTS, try_batches
from mmexplain.jobs.worker import Worker
from tests.command_line import save_answerer, save_captioner, save_mover
from tests.jobs.tiny import photos

WHITE = 5


@pytest.fixture
def items(tmp_path):
    """16 photos of noise, of which one is white."""
    folder = photos(tmp_path / "photos", 16)
    Image.new("RGB", (16, 16), "white").save(folder / f"{WHITE:04d}.png")
    return [Item(number, path.name, str(path)) for number, path in enumerate(sorted(folder.iterdir()))]


def worker_of(model, task="classify", **fields):
    return Worker(Job(task, model, device="cpu", **{"batch": 4, **fields}))


def explained(worker, items):
    return worker.explain(items, [worker.ready(item) for item in items])


def breaks(worker, kind):
    """Let the model break on a white photo; returns the sizes of the batches that it saw."""
    seen = []

    def hook(_, inputs, output):
        (images,) = inputs
        seen.append(len(images))
        white = images.flatten(1).mean(1) > 1.9
        if kind == "nan":
            return torch.where(white[:, None], torch.nan, output)
        if white.any():
            raise RuntimeError("the size of tensor a must match\nthe size of tensor b")
        return output

    worker.task.default_layer()  # looks at an empty photo
    worker.task.model.register_forward_hook(hook)
    return seen


@pytest.mark.parametrize("kind, expected", [("nan", ModelError), ("raise", (RuntimeError, ModelError))])
def test_one_bad_input_costs_no_other_its_maps(tiny, items, kind, expected):
    worker = worker_of(tiny)
    whole = dict(explained(worker, items))
    seen = breaks(worker, kind)
    found = explained(worker, items)
    assert [item for item, _ in found] == items
    for item, outcome in found:
        if item.number == WHITE:
            assert isinstance(outcome, expected)
            continue
        assert isinstance(outcome, Explanation)
        for key, values in whole[item].maps.items():
            torch.testing.assert_close(outcome.maps[key], values, rtol=1e-4, atol=1e-6)
    # Halves of 16 down to the one: two runs for each halving at most, of what is left of it.
    assert max(seen) == 16 and {1, 2, 4, 8} <= set(seen)
    assert len(set(seen)) == 5


def test_what_cannot_be_read_never_reaches_the_model(tiny, items, tmp_path):
    worker = worker_of(tiny)
    seen = breaks(worker, "nan")
    (tmp_path / "photos" / "0001.png").write_bytes(b"\x89PNG\r\n\x1a\nbut no more")
    items[2] = Item(2, "gone", str(tmp_path / "gone.png"))
    found = dict(explained(worker, items[:4]))
    assert [type(found[item]).__name__ for item in items[:4]] == [
        "Explanation",
        "InputError",
        "InputError",
        "Explanation",
    ]
    assert "no such file" in str(found[items[2]])
    assert set(seen) == {2}


def test_a_model_that_says_nothing_but_nan(tiny, items):
    worker = worker_of(tiny)
    with torch.no_grad():
        worker.task.model.head.weight.fill_(torch.nan)
    assert all(isinstance(outcome, ModelError) for _, outcome in explained(worker, items[:4]))
    with pytest.raises(ModelError, match="finite"):
        try_batches(worker, items)


def test_batches_hold_like_captions(tmp_path):
    save_captioner(tmp_path / "captioner.safetensors")
    worker = worker_of(str(tmp_path / "captioner.safetensors"), "caption", batch=2)
    captions = ["a dog", None, "a dog runs on grass", "a cat", None, "a dog runs", None]
    items = [Item(n, str(n), "photo.png", caption=caption) for n, caption in enumerate(captions)]
    batches = worker.batches(items)
    assert sorted(item.number for batch in batches for item in batch) == list(range(7))
    assert [[item.number for item in batch] for batch in batches] == [[0, 3], [5, 2], [1, 4], [6]]


def test_batches_hold_like_answers(tmp_path):
    save_answerer(tmp_path / "answerer.safetensors")
    worker = worker_of(str(tmp_path / "answerer.safetensors"), "vqa", batch=8)
    asked = [("red",), (), ("red",), ("red", "yellow"), ()]
    items = [Item(n, str(n), "p.png", question="a dog", answers=answers) for n, answers in enumerate(asked)]
    assert [[item.number for item in batch] for batch in worker.batches(items)] == [[0, 2], [1, 4], [3]]


def test_answers_of_the_job_and_of_the_input(tmp_path, items):
    save_answerer(tmp_path / "answerer.safetensors")
    worker = worker_of(str(tmp_path / "answerer.safetensors"), "vqa", options={"targets": ["red"]})
    asked = [
        Item(0, "0", items[0].source, question="a dog", answers=("yellow",)),
        Item(1, "1", items[1].source, question="a dog", answers=("red",)),
        Item(2, "2", items[2].source, question="  "),
        Item(3, "3", items[3].source, question="a dog", answers=("purple",)),
    ]
    found = [dict(explained(worker, [item]))[item] for item in asked]
    assert [target.label for target in found[0].targets] == ["red", "yellow"]
    assert [target.label for target in found[1].targets] == ["red"]
    assert isinstance(found[2], InputError) and "input '2' has no question" in str(found[2])
    assert isinstance(found[3], TargetError) and "purple" in str(found[3])


def test_classes_that_are_named_are_explained_alone(tiny, items):
    worker = worker_of(tiny, options={"targets": ["bee"], "top": 3})
    (_, named), (_, of_its_own) = explained(worker, items[:2])
    assert [target.label for target in named.targets] == [target.label for target in of_its_own.targets] == ["bee"]
    found = dict(explained(worker, [Item(0, "0", items[0].source, answers=("eel", "bee"))]))
    assert [target.label for target in next(iter(found.values())).targets] == ["bee", "eel"]


def test_clips_are_explained_one_by_one(tmp_path):
    save_mover(tmp_path / "mover.safetensors")
    worker = worker_of(str(tmp_path / "mover.safetensors"), "action")
    items = [Item(n, str(n), "clip.mp4") for n in range(3)]
    assert worker.batches(items) == [[item] for item in items]


# -- what is tried before a run -------------------------------------------------------------------------------------


def test_trial_finds_a_batch(tiny, items):
    found = try_batches(worker_of(tiny), items)
    assert found.batch in found.tried and list(found.tried) == [1, 2, 4, 8, 16][: len(found.tried)]
    assert found.batch > 1  # a call costs far more than a photo of 16×16 pixels
    assert all(rate > 0 and memory >= 0 for rate, memory in found.tried.values())
    fastest = max(rate for rate, _ in found.tried.values())
    assert found.tried[found.batch][0] * 1.05**4 >= fastest
    assert found.explanations


def test_trial_stays_within_the_memory_that_it_is_given(tiny, items):
    assert list(try_batches(worker_of(tiny), items, memory=-1).tried) == [1]


def test_trial_looks_on_where_the_first_cannot_be_read(tiny, items, tmp_path):
    bad = [Item(n, str(n), str(tmp_path / "gone.png")) for n in range(200)]
    assert try_batches(worker_of(tiny), [*bad, *items], batch=4).explanations
    with pytest.raises(MethodError):
        try_batches(worker_of(tiny, methods=("attention",)), [*bad, *items], batch=4)
    nothing = try_batches(worker_of(tiny), bad)
    assert (nothing.batch, nothing.explanations) == (1, [])


def test_trial_does_not_take_one_photo_for_all(tiny, items):
    worker = worker_of(tiny)
    breaks(worker, "nan")
    white = [Item(n, str(n), items[WHITE].source) for n in range(FAULTS - 1)]
    assert try_batches(worker, [*white, *items], batch=4).explanations
    with pytest.raises(ModelError):
        try_batches(worker, [*white, white[0], *items], batch=4)


def test_scores_are_finite_numbers(tiny, items):
    for _, outcome in explained(worker_of(tiny), items):
        assert all(math.isfinite(score) for score in outcome.scores.tolist())
