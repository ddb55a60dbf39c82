"""Pictures of a run's maps: what they show, and that the model does not wait for them."""

from __future__ import annotations

import io
import threading

import numpy as np
import pytest
from PIL import Image

from mmexplain.jobs import stream
from mmexplain.jobs.item import Item
from mmexplain.jobs.job import Job
from mmexplain.jobs.pictures import overlays
from mmexplain.jobs.run import run
from mmexplain.jobs.worker import Worker
from tests.jobs.tiny import photos

PATIENCE = 60
"""Seconds that a test waits for what must happen."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """12 photos."""
    return photos(tmp_path_factory.mktemp("pictures") / "photos", 12, size=48)


def test_each_map_over_its_photo(tiny, folder):
    methods = ("gradcam", "occlusion(patch=8)", "guided-backprop")
    worker = Worker(Job("classify", tiny, methods=methods, options={"top": 2}, device="cpu"))
    item = Item(0, "a/b.png", str(folder / "0000.png"))
    ((_, explanation),) = worker.explain([item], [worker.ready(item)])
    made = dict(overlays(item, explanation))
    expected = [explanation.overlay(number, key.layer, key.method) for key, number, _ in explanation.each_map()]
    assert len(made) == len(expected) == 2 * 3
    for (name, file), picture in zip(made.items(), expected, strict=True):
        assert name.startswith("overlays/000000/000000000_a-b.png_0")
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=88)
        with Image.open(io.BytesIO(file)) as found, Image.open(buffer) as same:
            assert (np.asarray(found) == np.asarray(same)).all()


def test_the_model_goes_on_while_pictures_are_made(tiny, folder, tmp_path, monkeypatch):
    """No picture of the first batch is finished before the second batch is explained, which begins when one of them has
    begun."""
    begun, went_on = threading.Event(), threading.Event()
    explain, write, where = Worker.explain, stream.write_overlays, set()

    def slow(*arguments):
        where.add(threading.current_thread().name.rpartition("_")[0])
        begun.set()
        assert went_on.wait(PATIENCE)
        write(*arguments)

    def waiting(self, items, inputs):
        if items[0].number != 4:
            return explain(self, items, inputs)
        assert begun.wait(PATIENCE)
        found = explain(self, items, inputs)
        went_on.set()
        return found

    monkeypatch.setattr(stream, "write_overlays", slow)
    monkeypatch.setattr(Worker, "explain", waiting)
    job = Job("classify", tiny, options={"top": 2}, device="cpu", overlays=True)
    found = run(job, str(folder), tmp_path / "store", batch=4, shard=4)
    assert (found.explained, where) == (12, {"paint"})
    assert len(list((tmp_path / "store" / "overlays").rglob("*.jpg"))) == 12 * 2


def test_pictures_of_a_batch_are_made_side_by_side(tiny, folder, tmp_path, monkeypatch):
    """Two of them wait for each other."""
    both, write = threading.Barrier(2, timeout=PATIENCE), stream.write_overlays

    def meeting(*arguments):
        both.wait()
        write(*arguments)

    monkeypatch.setattr(stream, "write_overlays", meeting)
    job = Job("classify", tiny, device="cpu", overlays=True)
    assert run(job, str(folder), tmp_path / "store", batch=4, shard=4, workers=2).explained == 12


def test_an_interruption_keeps_what_is_computed(tiny, folder, tmp_path, monkeypatch):
    """The shard that is whole is written, with its pictures, though they were still waiting to be made."""
    interrupted, write, explain = threading.Event(), stream.write_overlays, Worker.explain

    def late(*arguments):
        assert interrupted.wait(PATIENCE)
        write(*arguments)

    def interrupting(self, items, inputs):
        if items[0].number == 4:
            interrupted.set()
            raise KeyboardInterrupt
        return explain(self, items, inputs)

    monkeypatch.setattr(stream, "write_overlays", late)
    monkeypatch.setattr(Worker, "explain", interrupting)
    job = Job("classify", tiny, options={"top": 2}, device="cpu", overlays=True)
    with pytest.raises(KeyboardInterrupt):
        run(job, str(folder), tmp_path / "store", batch=4, shard=4)
    assert len(list((tmp_path / "store" / "overlays").rglob("*.jpg"))) == 4 * 2
    monkeypatch.setattr(Worker, "explain", explain)
    found = run(job, str(folder), tmp_path / "store", batch=4, shard=4, resume=True)
    assert (found.explained, found.done) == (12, 8)
