"""From a source of inputs to a store that accounts for every one of them."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal, get_args

import fsspec
import pyarrow.dataset as ds
from filelock import FileLock, Timeout
from fsspec.implementations.local import LocalFileSystem

from mmexplain.errors import InputError
from mmexplain.evaluate.fingerprint import weights_checksum
from mmexplain.explanation import Explanation
from mmexplain.jobs.inputs import items
from mmexplain.jobs.item import Item
from mmexplain.jobs.job import Job
from mmexplain.jobs.local import run_local
from mmexplain.jobs.manifest import Manifest, freeze
from mmexplain.jobs.places import absolute
from mmexplain.jobs.shards import opened
from mmexplain.jobs.store import MANIFEST, SETTINGS, Store, open_store, save_settings
from mmexplain.jobs.trial import Trial, try_batches
from mmexplain.jobs.worker import Worker
from mmexplain.methods.registry import select
from mmexplain.preprocess import Preprocess

Engine = Literal["local", "ray"]

SHARDS = 64
"""Files that the rows of a run make at least, as far as :data:`LEAST` allows: what is lost when a run is killed, and
what several machines share out."""

LEAST, MOST_INPUTS = 32, 1024
"""Inputs whose rows make one file, at least and at most."""

SHARD_BYTES = 256 * 2**20
"""Bytes of maps that one file holds at most."""

LOCK = ".run.lock"

Progress = Callable[[int, int], None]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Summary:
    """What a store accounts for.

    Attributes:
        store: where it is.
        inputs: how many there are.
        failed: name of the exception → ``(how many inputs, id of the first, its message)``.
        rows: of maps and of errors.
        size: of the rows on disk, bytes.
        done: inputs that this run has gone through; fewer than ``inputs`` if it went on with an earlier one.
        seconds: that it took, from the first input to the last.
    """

    store: str
    inputs: int
    failed: dict[str, tuple[int, str, str]]
    rows: int
    size: int
    done: int
    seconds: float

    @property
    def explained(self) -> int:
        """Inputs that have maps."""
        return self.inputs - sum(count for count, _, _ in self.failed.values())


def run(
    job: Job,
    source: str,
    out: str | Path,
    *,
    engine: Engine = "local",
    batch: int | None = None,
    shard: int | None = None,
    workers: int | None = None,
    resume: bool = False,
    limit: int | None = None,
    images: str | None = None,
    generate: bool = False,
    question: str | None = None,
    memory: int | None = None,
    progress: Progress | None = None,
    say: Say | None = None,
) -> Summary:
    """Explain every input of a source, and write the rows to a store.

    A run that was killed, interrupted or stopped by a full disk goes on with ``resume=True``: the shards that are
    whole stay as they are, and exactly the others are made. What is wrong with an input becomes a row that says so.

    Args:
        job: what is done to each input.
        source: a folder, a glob, a table, COCO or VQA v2 JSON, or WebDataset tars; a path or any URL that fsspec opens.
        out: folder of the store, or its URL.
        engine: "local" uses this process, "ray" a cluster.
        batch: inputs at a time; found by trial where left out.
        shard: inputs whose rows make one file; reckoned where left out.
        workers: "local": threads that read; "ray": copies of the model.
        resume: go on with a store that is not complete; a complete one is left alone.
        limit: the first inputs only.
        images: folder that relative paths of the source begin at.
        generate: leave out the captions that the source has, and let the model speak.
        question: for "vqa", asked of every photo that comes without one.
        memory: bytes that a batch may take; half of what is free where left out.
        progress: told how many inputs of how many are done.
        say: told in a few words what happens.

    Raises:
        InputError: the source or the store cannot be used, the disk is full, or the store is of another job.
        MMExplainError: the model, a method or a layer cannot be used.
    """
    if engine not in get_args(Engine):
        raise InputError(f"unknown engine {engine!r}; there are: {', '.join(get_args(Engine))}")
    for name, value in (("batch", batch), ("shard", shard), ("workers", workers), ("limit", limit)):
        if value is not None and value < 1:
            raise InputError(f"{name}={value}: give 1 or more")
    job = replace(job, methods=tuple(method.name for method in select(job.methods)))
    reading: dict[str, Any] = {"images": images and absolute(images), "generate": generate, "question": question}
    tell = say or (lambda _: None)
    root = str(out)
    fs, folder = opened(root)
    exists = fs.exists(f"{folder}/{SETTINGS}")
    if exists and not resume:
        raise InputError(f"{root!r} is a store already: go on with it by --resume, or choose another --out")
    if not exists:
        _require_empty(fs, folder, root)
    there = fs.exists(folder)
    with _writing(fs, folder, root), _locked(fs, folder, root), _begun_or_nothing(fs, folder, there):
        if exists:
            store = open_store(root)
            _require_same_inputs(store.job, source, {**reading, "limit": limit}, root)
            _require_same_settings(job, store, root)
            for name, value, kept in (("batch", batch, store.job.batch), ("shard", shard, store.job.shard)):
                if value not in (None, kept):
                    raise InputError(f"{root!r} was begun with {name} {kept}: leave out --{name} {value}")
            # Everything is read once: a run of days is worth the seconds.
            if not (todo := store.missing(verify=True)):
                return summary(store)
        tell("loading the model")
        worker = Worker(job)
        job = replace(job, weights=weights_checksum(worker.task.model))
        if exists:
            _require_same_settings(job, store, root)
        else:
            tell("listing the inputs")
            store = _begun(
                replace(job, source=absolute(source), reading={**reading, "limit": limit}),
                worker,
                islice(items(source, job.task, **reading), limit),
                (root, fs, folder),
                batch,
                shard,
                memory,
                tell,
            )
        worker = Worker(replace(store.job, device=job.device), worker.task)
        store.shards.sweep()
        if not exists:
            todo = list(range(store.job.shards))
        done = store.job.count - sum(stop - start for start, stop in map(store.job.stretch, todo))
        before, started = done, time.perf_counter()
        if progress is not None:
            progress(done, store.job.count)

        def count(more: int) -> None:
            nonlocal done
            done += more
            if progress is not None:
                progress(done, store.job.count)

        if engine == "local":
            run_local(worker, store.manifest, store.shards, todo, workers, count)
        else:
            from mmexplain.jobs.distributed import run_ray

            placed = worker.job
            del worker  # an actor will want its GPU
            run_ray(placed, store, todo, workers, count)
        if missing := store.missing():
            raise InputError(f"{len(missing)} of {store.job.shards} parts of {root!r} are missing: --resume makes them")
        found = summary(store)
        return replace(found, done=store.job.count - before, seconds=time.perf_counter() - started)


def summary(store: Store) -> Summary:
    """What a store accounts for."""
    failed: dict[str, tuple[int, str, str]] = {}
    dataset = store.dataset
    told = dataset.to_batches(columns=["id", "error", "error_type"], filter=ds.field("error").is_valid())
    for row in chain.from_iterable(batch.to_pylist() for batch in told):
        count, name, text = failed.get(row["error_type"], (0, row["id"], row["error"]))
        failed[row["error_type"]] = (count + 1, name, text)
    rows, size = dataset.count_rows(), store.shards.size()
    return Summary(store.root, store.job.count, failed, rows, size, 0, 0.0)


def _begun(
    job: Job,
    worker: Worker,
    found: Iterator[Item],
    place: tuple[str, fsspec.AbstractFileSystem, str],
    batch: int | None,
    shard: int | None,
    memory: int | None,
    tell: Say,
) -> Store:
    """A new store: its inputs and its settings, and no rows yet."""
    root, fs, folder = place
    fs.makedirs(folder, exist_ok=True)
    path = f"{folder}/{MANIFEST}"
    count = freeze(found, path, fs)
    manifest = Manifest.open(path, fs)
    tell("trying batches" if batch is None else "trying a batch")
    trial = try_batches(worker, manifest, memory, batch)
    batch = batch or trial.batch
    job = replace(
        job,
        count=count,
        manifest=manifest.digest,
        batch=batch,
        shard=shard or _shard(count, batch, trial),
        map_shape=_map_shape(worker, trial),
        pixel_methods=tuple(sorted(method.name for method in select(job.methods) if method.colour)),
        versions={name: version(name) for name in ("mmexplain", "torch", "transformers", "pyarrow")},
    )
    save_settings(fs, folder, job)
    return Store(root, fs, folder, job)


def _shard(count: int, batch: int, trial: Trial) -> int:
    """Inputs whose rows make one file: whole batches, and no more maps than memory can hold."""
    wanted = min(max(count // SHARDS, LEAST), MOST_INPUTS)
    bytes_each = max((_bytes(explanation) for explanation in trial.explanations), default=0)
    if bytes_each:
        wanted = min(wanted, max(1, SHARD_BYTES // bytes_each))
    return wanted if wanted < batch else wanted // batch * batch


def _bytes(explanation: Explanation) -> int:
    """Of its maps in the store."""
    return sum(2 * value.numel() for value in explanation.maps.values())


def _map_shape(worker: Worker, trial: Trial) -> tuple[int, ...] | None:
    """The shape of every map, if the model sees all photos at one size and all layers have the same."""
    preprocess = getattr(worker.task, "preprocess", None)
    sized = isinstance(preprocess, Preprocess) and (preprocess.crop or isinstance(preprocess.resize, tuple))
    if worker.job.task == "action" or worker.task.one_by_one or not sized:
        return None
    shapes = {tuple(value.shape[1:]) for found in trial.explanations for value in found.maps.values()}
    return shapes.pop() if len(shapes) == 1 else None


def _require_empty(fs: fsspec.AbstractFileSystem, folder: str, root: str) -> None:
    """Nothing but what a run that was killed at its beginning may have left is in the folder."""
    if fs.isfile(folder):
        raise InputError(f"--out {root!r} is a file: a store is a folder")
    names = {path.rstrip("/").rpartition("/")[2] for path in fs.ls(folder, detail=False)} if fs.isdir(folder) else set()
    others = sorted(name for name in names if name not in (MANIFEST, LOCK) and not name.endswith(".partial"))
    if others:
        raise InputError(f"--out {root!r} is no store and not empty ({others[0]}): choose another folder")


def _require_same_inputs(job: Job, source: str, reading: Mapping[str, Any], root: str) -> None:
    if job.source != absolute(source):
        raise InputError(f"{root!r} holds the inputs of {job.source!r}, not of {source!r}: choose another --out")
    if differing := [name for name, value in reading.items() if job.reading.get(name) != value]:
        raise InputError(f"{root!r} was begun with another {' and '.join(differing)}: choose another --out")


def _require_same_settings(job: Job, store: Store, root: str) -> None:
    if differing := job.differing(store.job):
        raise InputError(f"{root!r} was made with other settings ({', '.join(differing)}): choose another --out")
    if store.manifest.digest != store.job.manifest:
        raise InputError(f"{root}/{MANIFEST} is not the list of inputs that the run began with: choose another --out")


@contextmanager
def _locked(fs: fsspec.AbstractFileSystem, folder: str, root: str) -> Iterator[None]:
    """No other run writes to the same folder. The system lifts the lock of a process that is killed."""
    if not isinstance(fs, LocalFileSystem):
        yield
        return
    Path(folder).mkdir(parents=True, exist_ok=True)
    lock = FileLock(Path(folder, LOCK), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise InputError(f"another run is writing to {root!r}: wait for it, or choose another --out") from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _begun_or_nothing(fs: fsspec.AbstractFileSystem, folder: str, there: bool) -> Iterator[None]:
    """A folder that did not become a store is left as it was found: without ours in it, or not at all if it was not
    there before. Only who holds the lock may do so."""
    try:
        yield
    finally:
        if isinstance(fs, LocalFileSystem) and Path(folder).is_dir() and not fs.exists(f"{folder}/{SETTINGS}"):
            with suppress(OSError):  # of a disk that refuses everything
                for name in (MANIFEST, LOCK):
                    Path(folder, name).unlink(missing_ok=True)
                if not there:
                    Path(folder).rmdir()


@contextmanager
def _writing(fs: fsspec.AbstractFileSystem, folder: str, root: str) -> Iterator[None]:
    """A disk that refuses becomes one line."""
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        hints = ["free some space"] if error.errno in (errno.ENOSPC, errno.EDQUOT) else []
        with suppress(OSError):
            if fs.exists(f"{folder}/{SETTINGS}"):
                hints.append("what is whole stays, and the same command with --resume goes on")
        raise InputError("; ".join([f"cannot write to {root!r}: {reason}", *hints])) from None
