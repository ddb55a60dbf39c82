"""Runs over many inputs: whether memory stays flat, how fast they are, what a map takes on disk.

    python benchmarks/scale.py --synthetic 200000
    python benchmarks/scale.py --captions 1000 --data $MMEXPLAIN_DATA

The first takes tiny photos and a model of two small convolutions, so that what a run does besides running the model
is nearly all of it. The second captions Flickr8k's test photos with the bundled captioner, and captions and explains
them, in turns of a few batches, so that a machine that is shared slows both alike.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import os
import statistics
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import psutil
import torch
from common import RESULTS, Others, describe, laid_out, machine, positive, save, table
from PIL import Image
from safetensors.torch import save_file
from timm.models import register_model
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mmexplain.jobs.item import Item
from mmexplain.jobs.job import Job
from mmexplain.jobs.rows import Rows
from mmexplain.jobs.run import Summary, run
from mmexplain.jobs.shards import encoded
from mmexplain.jobs.store import Store, open_store
from mmexplain.jobs.stream import BATCHES_AHEAD, alone
from mmexplain.jobs.worker import Outcome, Worker, outcomes
from mmexplain.memory import keep_freed
from mmexplain.surroundings import undisturbed
from mmexplain.tasks.base import Batch

CLASSES = 10
TURN = 8
"""Batches that are captioned, then captioned and explained, before it is the other way round."""

QUERIES = {
    "labels": "select label, count(*), avg(probability) from rows group by 1 order by 2 desc",
    "doubtful": "select id, probability, peak_x, peak_y from rows where label = 'class 3' and probability < .3",
}


# -- memory -----------------------------------------------------------------------------------------------------------


class Memory:
    """Resident memory of this process while inputs are gone through.

    Attributes:
        samples: ``(inputs done, bytes)``.
    """

    def __init__(self, seconds: float = 0.5) -> None:
        self.samples: list[tuple[int, int]] = []
        self._done, self._seconds = 0, seconds
        self._process, self._over = psutil.Process(), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def progress(self, done: int, total: int) -> None:
        """For ``run``."""
        self._done = done

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(self._seconds):
            self.samples.append((self._done, self._process.memory_info().rss))

    @property
    def peak(self) -> int:
        """Most bytes."""
        return max(size for _, size in self.samples)

    def slope(self, warm: float = 0.25) -> float:
        """Bytes for each further input, by least squares over what comes after the first quarter of the inputs."""
        start = warm * self.samples[-1][0]
        done, size = np.array([(n, size) for n, size in self.samples if n >= start], dtype=np.float64).T
        return float(np.polyfit(done, size, 1)[0])


# -- many tiny inputs -------------------------------------------------------------------------------------------------


class Tiny(nn.Module):
    """``[B, 3, 16, 16]`` → ``[B, N]``: two convolutions, a map of 4×4."""

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.last = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.head = nn.Linear(16, classes)
        self.num_classes = classes
        self.pretrained_cfg = {"input_size": (3, 16, 16), "crop_pct": 1.0, "mean": (0.5,) * 3, "std": (0.25,) * 3}

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        found = self.last(self.first(images).relu()).relu()
        return self.head(found.mean((2, 3)))


@register_model
def scale_tiny(pretrained: bool = False, num_classes: int = CLASSES, **_: Any) -> Tiny:
    """As timm makes models."""
    return Tiny(num_classes)


def save_tiny(path: Path) -> str:
    torch.manual_seed(0)
    save_file({name: 3 * value for name, value in Tiny().state_dict().items()}, path)
    card = {"architecture": "timm:scale_tiny", "labels": [f"class {number}" for number in range(CLASSES)]}
    path.with_suffix(".json").write_text(json.dumps(card))
    return str(path)


def write_tars(folder: Path, count: int, each: int = 10_000) -> str:
    """``count`` photos of 16×16 pixels, of which 64 are different; returns the pattern of the tars."""
    noise = np.random.default_rng(0)
    photos = []
    for _ in range(64):
        buffer = io.BytesIO()
        Image.fromarray(noise.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(buffer, "JPEG")
        photos.append(buffer.getvalue())
    for start in range(0, count, each):
        with tarfile.open(folder / f"{start // each:06d}.tar", "w") as tar:
            for number in range(start, min(start + each, count)):
                data = photos[number % len(photos)]
                header = tarfile.TarInfo(f"{number:09d}.jpg")
                header.size = len(data)
                tar.addfile(header, io.BytesIO(data))
    return str(folder / "*.tar")


def synthetic(count: int, folder: Path, batch: int = 64) -> dict[str, Any]:
    """Run over ``count`` tiny photos, and what that says of memory, speed and the store."""
    pattern, model = write_tars(folder, count), save_tiny(folder / "tiny.safetensors")
    job, memory, out = Job("classify", model, device="cpu"), Memory(min(0.5, count / 20_000)), folder / "store"
    with memory:
        before, started = time.process_time(), time.perf_counter()
        found = run(job, pattern, out, batch=batch, progress=memory.progress)
        whole, spent = time.perf_counter() - started, time.process_time() - before
    assert found.explained == count, found.failed
    store = open_store(out)
    return {
        "inputs": count,
        "seconds": found.seconds,
        "listing and trial": whole - found.seconds,
        "inputs per second": count / found.seconds,
        "processor seconds": spent,
        "stages": stages(store),
        "peak bytes": memory.peak,
        "bytes per further input": memory.slope(),
        "samples": memory.samples[:: max(1, len(memory.samples) // 200)],
        "store": sizes(store, found),
        "queries": {name: asked(store, query) for name, query in QUERIES.items()},
    }


def sizes(store: Store, found: Summary) -> dict[str, Any]:
    files = len(store.shards.numbers())
    return {"files": files, "rows": found.rows, "bytes": found.size, "bytes per map": found.size / found.rows}


def asked(store: Store, query: str, times: int = 3) -> float:
    """Median seconds of a question, each to a database that has not seen the store."""
    rows = f"read_parquet('{store.root}/rows/*.parquet')"
    taken = []
    for _ in range(times):
        with duckdb.connect() as connection:
            started = time.perf_counter()
            connection.sql(query.replace("from rows", f"from {rows}")).fetchall()
            taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def stages(store: Store, count: int = 1024) -> dict[str, float]:
    """Processor time of what is done to an input, microseconds, in one thread."""
    worker = Worker(store.job)
    items = store.manifest.items(0, count)
    found: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        started = time.process_time()
        made = work()
        found[name] = 1e6 * (time.process_time() - started) / len(items)
        return made

    def explain() -> list[Outcome]:
        pieces = range(0, len(items), store.job.batch)
        cut = [slice(start, start + store.job.batch) for start in pieces]
        return [outcome for piece in cut for outcome in worker.explain(items[piece], ready[piece])]

    def rows(made: Sequence[Outcome]) -> Rows:
        collected = Rows(store.job.map_shape)
        for item, explanation in made:
            collected.add(item, explanation)
        return collected

    ready = [worker.ready(item) for item in items]  # what is done once only
    rows(explain())
    ready = timed("read, decode, prepare", lambda: [worker.ready(item) for item in items])
    made = timed("model, gradients, maps", explain)
    collected = timed("rows and statistics", lambda: rows(made))
    timed("table, compression", lambda: encoded(collected.table()))
    return found


# -- captions ---------------------------------------------------------------------------------------------------------


class CaptionsAlone(Worker):
    """Reads and captions as a run does, and explains nothing."""

    def explain(self, items: Sequence[Item], inputs: Sequence[Any]) -> list[Any]:
        """The captions' tokens."""
        batch = Batch.joined(inputs)
        with undisturbed(self.task.model, self.task.device), torch.no_grad():
            return self.task.generate(self.task.encode(laid_out(batch.inputs)), 3)


def captioned(worker: CaptionsAlone, items: Sequence[Item]) -> float:
    """Seconds that captions alone take."""
    batches: Iterator[tuple[int, list[Item]]] = ((0, batch) for batch in worker.batches(items))
    started = time.perf_counter()
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1), initializer=alone) as readers:
        for _ in outcomes(worker, batches, readers.submit, BATCHES_AHEAD, worker.ready):
            pass
    return time.perf_counter() - started


def captions(count: int, data: Path, folder: Path, batch: int, device: str = "cpu") -> dict[str, Any]:
    """Caption test photos of Flickr8k alone, and explain every word too."""
    with gzip.open(data / "flickr8k" / "annotations.jsonl.gz", "rt") as lines:
        names = [record["file"] for record in map(json.loads, lines) if record["split"] == "test"][:count]
    photos = [str((data / "flickr8k" / "images" / name).resolve()) for name in names]
    job = Job("caption", "show-attend-tell", device=device, batch=batch)
    alone = CaptionsAlone(job)
    turns = [photos[start : start + TURN * batch] for start in range(0, len(photos), TURN * batch)]
    seconds: dict[str, list[float]] = {"captioned": [], "explained": []}
    rows = size = 0
    memory = Memory()
    # The first batches fetch memory and choose kernels.
    warm = folder / "warm.jsonl"
    warm.write_text("".join(json.dumps({"image": photo}) + "\n" for photo in photos[: 4 * batch]))
    run(job, str(warm), folder / "warm.store", batch=batch)
    with memory:
        for number, turn in enumerate(turns):
            print(f"\rturn {number + 1}/{len(turns)}", end="", file=sys.stderr, flush=True)
            source = folder / f"{number}.jsonl"
            source.write_text("".join(json.dumps({"image": photo}) + "\n" for photo in turn))

            def explain(source: Path = source) -> float:
                nonlocal rows, size
                found = run(job, str(source), source.with_suffix(".store"), batch=batch)
                assert found.explained == found.inputs, found.failed
                rows, size = rows + found.rows, size + found.size
                return found.seconds

            def caption(turn: Sequence[str] = turn) -> float:
                return captioned(alone, [Item(place, str(place), photo) for place, photo in enumerate(turn)])

            order = [("captioned", caption), ("explained", explain)]
            for name, work in order if number % 2 else order[::-1]:
                seconds[name].append(work())
    print(file=sys.stderr)
    first = open_store(folder / "0.store")
    ratios = [both / alone for both, alone in zip(seconds["explained"], seconds["captioned"], strict=True)]
    return {
        "model": job.model,
        "photos": len(photos),
        "batch": batch,
        "device": device,
        "photo bytes": statistics.mean(os.path.getsize(photo) for photo in photos),
        "captioned per second": len(photos) / sum(seconds["captioned"]),
        "explained per second": len(photos) / sum(seconds["explained"]),
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "maps per photo": rows / len(photos),
        "operations per photo": operations(alone.task, photos[:8]),
        "stages": stages(first, TURN * batch),
        "store": {"files": len(turns), "rows": rows, "bytes": size, "bytes per map": size / rows},
        "peak bytes": memory.peak,
    }


def operations(task: Any, photos: Sequence[str]) -> float:
    """Additions and multiplications of convolutions and matrices, to caption and explain a photo (mean)."""
    with FlopCounterMode(display=False) as counter:
        task.explain(list(photos), strategy="loop")
    return counter.get_total_flops() / len(photos)


# -- telling ----------------------------------------------------------------------------------------------------------


def markdown(record: Mapping[str, Any]) -> str:
    parts = ["# Runs over many inputs"]
    if found := record.get("synthetic"):
        rows = [
            ["inputs", f"{found['inputs']:,}"],
            ["inputs a second", f"{found['inputs per second']:,.0f}"],
            ["processor time for each, µs", f"{1e6 * found['processor seconds'] / found['inputs']:,.0f}"],
            *([f"of which in one thread: {name}", f"{value:,.0f}"] for name, value in found["stages"].items()),
            ["listing, trial, loading: seconds", f"{found['listing and trial']:.1f}"],
            ["memory at the peak, MiB", f"{found['peak bytes'] / 2**20:,.0f}"],
            ["growth for each further 100,000 inputs, MiB", f"{1e5 * found['bytes per further input'] / 2**20:+.1f}"],
            ["store, MB", f"{found['store']['bytes'] / 1e6:,.1f}"],
            ["files", f"{found['store']['files']:,}"],
            ["bytes for each map of 4×4", f"{found['store']['bytes per map']:,.0f}"],
            ["DuckDB: count and mean by label, seconds", f"{found['queries']['labels']:.2f}"],
            ["DuckDB: one label below a probability, seconds", f"{found['queries']['doubtful']:.2f}"],
        ]
        parts += ["## Tiny photos, a model of two convolutions", table(["", "measured"], rows)]
        parts += [f"Machine: {describe(found['machine'])}. `python benchmarks/scale.py --synthetic {found['inputs']}`."]
    if found := record.get("captions"):
        rows = [
            ["photos", f"{found['photos']:,}"],
            ["at a time", f"{found['batch']}"],
            ["captioned, a second", f"{found['captioned per second']:.2f}"],
            ["captioned and explained, a second", f"{found['explained per second']:.2f}"],
            ["times as long (median of turns)", f"{found['ratio']:.2f}"],
            ["maps for each photo", f"{found['maps per photo']:.1f}"],
            ["10⁹ operations for each photo", f"{found['operations per photo'] / 1e9:.2f}"],
            *([f"processor time for each, µs: {name}", f"{value:,.0f}"] for name, value in found["stages"].items()),
            ["bytes for each map", f"{found['store']['bytes per map']:,.0f}"],
            ["memory at the peak, MiB", f"{found['peak bytes'] / 2**20:,.0f}"],
        ]
        parts += [f"## Flickr8k's test photos, {found['model']}", table(["", "measured"], rows)]
        parts += [
            f"Machine: {describe(found['machine'])}. `python benchmarks/scale.py --captions {found['photos']} "
            f"--batch {found['batch']} --threads {found['machine']['threads']}`."
        ]
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--synthetic", type=positive, metavar="N", help="tiny photos")
    parser.add_argument("--captions", type=positive, metavar="N", help="photos of Flickr8k")
    parser.add_argument("--data", type=Path, default=os.environ.get("MMEXPLAIN_DATA"), help="default: $MMEXPLAIN_DATA")
    parser.add_argument("--batch", type=positive, default=16, help="photos that are captioned at a time")
    parser.add_argument("--device", default="cpu", help="where photos are captioned")
    parser.add_argument("--threads", type=positive, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if not arguments.synthetic and not arguments.captions:
        parser.error("say what: --synthetic N, --captions N, or both")
    if arguments.captions and not arguments.data:
        parser.error("name the folder of data: --data, or the environment variable MMEXPLAIN_DATA")
    torch.set_num_threads(arguments.threads)
    keep_freed()  # as `mmexplain run` does
    file = arguments.out / "scale.json"
    record: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}

    def measured(name: str, measure: Callable[[Path], dict[str, Any]]) -> None:
        with tempfile.TemporaryDirectory() as folder, Others() as others:
            found = measure(Path(folder))
        record[name] = {"machine": {**machine(arguments.device), "others": others.share}, **found}

    if arguments.synthetic:
        measured("synthetic", lambda folder: synthetic(arguments.synthetic, folder))
    if arguments.captions:
        measured(
            "captions",
            lambda folder: captions(arguments.captions, arguments.data, folder, arguments.batch, arguments.device),
        )
    text = markdown(record)
    print(text)
    save("scale", record, text, arguments.out)


if __name__ == "__main__":
    main()
