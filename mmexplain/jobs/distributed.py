"""Many machines: Ray Data reads, actors that hold the model explain, tasks write.

What goes through is shards, one row each: tasks read their photos' bytes, an actor makes their Parquet file of them, a
task puts it into the store. Ray schedules, holds back what is ahead, moves and spills the bytes, and repeats what was
under way on a process or a machine that died; a shard that is made twice is the same file twice.

Every machine must see, under the same paths, the store and the model, and those inputs that are files; a folder that
all of them mount, or URLs.
"""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import pyarrow as pa
import torch

from mmexplain.errors import DeviceError, InputError, MMExplainError, ModelError
from mmexplain.evaluate.fingerprint import weights_checksum
from mmexplain.jobs import fetch
from mmexplain.jobs.item import Item
from mmexplain.jobs.job import Job
from mmexplain.jobs.manifest import Manifest
from mmexplain.jobs.shards import Shards, encoded, put
from mmexplain.jobs.store import Store
from mmexplain.jobs.stream import Progress, stream
from mmexplain.jobs.worker import Input, Worker

CARRIED = 128 * 2**20
"""Bytes of a shard's photos that are read ahead at most, as large as Ray's own blocks; the actor reads the others."""

AHEAD = 2
"""Shards that are read at a time, and that wait for an actor, for each of them."""

CORES = 4
"""Of an actor without a GPU: a model gains less from more of them than another copy of it does."""

SHARE = 0.75
"""Of its cores that an actor claims; what reads and writes waits more than it computes, and gets by with the rest."""

READERS = 8
"""Threads that read, in each actor and task."""

_ROW = pa.schema(
    [
        ("number", pa.int64()),
        ("inputs", pa.int64()),
        ("contents", pa.large_list(pa.large_binary())),
        ("refusals", pa.large_list(pa.string())),
        ("file", pa.large_binary()),
        ("fault", pa.binary()),
    ]
)
"""A shard on its way: first its photos' bytes, or why they cannot be had, then the file of its rows, then nothing but how
many inputs it has. A fault goes to the end and stops the run: what is raised within Ray comes out as a page of text."""


def run_ray(
    job: Job, store: Store, todo: Sequence[int], workers: int | None = None, progress: Progress | None = None
) -> None:
    """Explain the items of the shards ``todo`` on a Ray cluster: on the one that ``RAY_ADDRESS`` names, or else the one
    that ``ray start`` started here, or else one that is started on this machine and stopped at the end.

    Memory is bounded on each machine: per actor the model, a batch and a shard's rows; and the bytes of at most
    ``2 × AHEAD`` shards, at most :data:`CARRIED` each, of which Ray spills to the disk what its store has no room for.

    Args:
        job: of the store, with the device to use.
        store: whose manifest is explained.
        todo: numbers of the shards.
        workers: copies of the model; one for each GPU, or :data:`CORES` cores where there is none, where left out.
        progress: told how many inputs have come out.

    Raises:
        InputError: Ray is not installed, its cluster cannot be reached or lost what it cannot do without.
        ModelError: an actor cannot load the model.
        OSError: a shard could not be written; others are.
    """
    ray = _imported()
    with _connected(ray), _quiet(ray):
        pool = _pool(ray, job.device, workers, len(todo))
        results = _results(ray, job, store, todo, pool)
        try:
            for row in results:
                if row["fault"] is not None:
                    raise pickle.loads(row["fault"])
                if progress is not None:
                    progress(row["inputs"])
        except (ray.exceptions.RayTaskError, ray.exceptions.RayActorError, ray.exceptions.RaySystemError) as error:
            if isinstance(error, ray.exceptions.RayTaskError):  # a bug of ours, to be seen with its traceback
                raise
            raise InputError(f"Ray gave up ({_line(error)}); --resume goes on with what is left") from None
        finally:
            results.close()
    store.shards.sweep()  # what those left half written that were killed


# -- the cluster ---------------------------------------------------------------------------------------------------------


def _imported() -> ModuleType:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else Ray warns of it
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise InputError(f"--engine ray needs {error.name or 'ray'}: pip install 'mmexplain[ray]'") from None
    return ray  # type: ignore[no-any-return]


@contextmanager
def _connected(ray: Any) -> Iterator[None]:
    """Within a cluster; one that was started for it is stopped at the end. A connection that is there stays."""
    if ray.is_initialized():
        yield
        return
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
    named = os.environ.get("RAY_ADDRESS")
    if named and named.startswith("ray://"):
        raise InputError(f"RAY_ADDRESS={named!r}: start the run on a machine of the cluster, by `ray job submit`")
    try:
        try:
            ray.init(**quiet)
        except ConnectionError:
            if named:
                raise
            ray.init(address="local", **quiet)  # what `ray start` noted down is no longer there
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        where = f"the Ray cluster RAY_ADDRESS={named!r} cannot be reached" if named else "Ray cannot be started"
        raise InputError(f"{where}: {_line(error)}") from None
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _quiet(ray: Any) -> Iterator[None]:
    """Without Ray Data's bars and notes: they would run into ours."""
    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    log = logging.getLogger("ray.data")
    level = log.level
    log.setLevel(logging.CRITICAL)  # whatever stops the run is raised as well
    try:
        with ray.data.DataContext.current(context):
            yield
    finally:
        log.setLevel(level)


@dataclass(frozen=True)
class _Pool:
    """Of actors.

    Attributes:
        size: how many.
        cpus: that each claims.
        gpus: that each claims.
        threads: of each, for computing.
        device: of each, as :func:`mmexplain.load` takes it.
    """

    size: int
    cpus: float
    gpus: int
    threads: int
    device: str


def _pool(ray: Any, device: str, workers: int | None, shards: int) -> _Pool:
    """As many actors as there are GPUs, or groups of cores.

    Raises:
        DeviceError: the cluster has no such device, or not that it can choose.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cores = [int(node.get("CPU", 0)) for node in nodes if node.get("CPU", 0) >= 1] or [1]
    gpus = int(sum(node.get("GPU", 0) for node in nodes))
    if device.startswith("cuda:"):
        raise DeviceError(f"device {device!r}: Ray chooses among the GPUs; give cuda, or set CUDA_VISIBLE_DEVICES")
    if device == "cuda" and not gpus:
        raise DeviceError("device 'cuda': no machine of the Ray cluster has a GPU")
    if gpus and device in ("auto", "cuda"):
        return _Pool(min(workers or gpus, shards), SHARE, 1, min(CORES, *cores), "cuda")
    threads = min(CORES, *cores) if workers is None else max(1, min(sum(cores) // workers, *cores))
    size = min(workers or sum(count // threads for count in cores), shards)
    return _Pool(size, SHARE * min(threads, sum(cores) / size), 0, threads, device)


# -- the stages ----------------------------------------------------------------------------------------------------------


def _results(ray: Any, job: Job, store: Store, todo: Sequence[int], pool: _Pool) -> Iterator[dict[str, Any]]:
    """The rows of the shards, when they are written."""
    manifest, shards = store.manifest, store.shards
    limit = os.environ.get("OMP_NUM_THREADS", "")
    threads = min(pool.threads, int(limit)) if limit.isdecimal() else pool.threads
    whole = {"batch_size": 1, "batch_format": "pyarrow", "zero_copy_batch": True}
    # The claims differ, or Ray would make one stage of two.
    stages = (
        ray.data.from_items([{"number": number} for number in todo], override_num_blocks=len(todo))
        .map_batches(
            _read,
            fn_kwargs={"job": job, "manifest": manifest},
            compute=ray.data.TaskPoolStrategy(size=AHEAD * pool.size),
            num_cpus=0.25,
            max_retries=-1,
            **whole,
        )
        .map_batches(
            _Explainer,
            fn_constructor_kwargs={
                "job": replace(job, device=pool.device),
                "manifest": manifest,
                "shards": shards,
                "folder": os.getcwd(),
                "threads": threads,
            },
            compute=ray.data.ActorPoolStrategy(size=pool.size, max_tasks_in_flight_per_actor=AHEAD),
            num_cpus=pool.cpus,
            num_gpus=pool.gpus,
            scheduling_strategy="SPREAD",
            max_restarts=-1,
            max_task_retries=-1,
            **whole,
        )
        .map_batches(_write, fn_kwargs={"shards": shards}, num_cpus=0.2, max_retries=-1, **whole)
    )
    for batch in stages.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        yield from batch.select(["number", "inputs", "fault"]).to_pylist()


def _read(table: pa.Table, job: Job, manifest: Manifest) -> pa.Table:
    """The bytes of a shard's photos. A plain file that cannot be read here is left to the actor, which says why."""
    number = table["number"][0].as_py()
    try:
        items = manifest.items(*job.stretch(number))
    except MMExplainError as error:
        return _row(number, fault=error)
    contents: list[bytes | None] = [None] * len(items)
    refusals: list[str | None] = [None] * len(items)
    if job.task == "action":
        return _row(number, contents=contents, refusals=refusals)
    room = CARRIED
    with ThreadPoolExecutor(READERS, "read") as readers:
        for start in range(0, len(items), READERS):
            if room <= 0:
                break
            for place, found in enumerate(readers.map(_content, items[start : start + READERS]), start):
                if isinstance(found, bytes):
                    contents[place] = found
                    room -= len(found)
                else:
                    refusals[place] = found
    return _row(number, contents=contents, refusals=refusals)


def _content(item: Item) -> bytes | str | None:
    """The bytes of a photo, or why they cannot be had."""
    try:
        return fetch.data(item)
    except InputError as error:
        try:
            return None if fetch.plain_path(item) is not None else str(error)
        except InputError:
            return str(error)


class _Explainer:
    """A loaded model on some machine, which makes files of shards."""

    def __init__(self, job: Job, manifest: Manifest, shards: Shards, folder: str, threads: int) -> None:
        self._manifest = manifest
        self._shards = shards
        self._fault: MMExplainError | None = None
        with suppress(OSError):  # a model by a path that is not relative does without
            os.chdir(folder)
        torch.set_num_threads(threads)
        try:
            self._worker = Worker(job)
            same = weights_checksum(self._worker.task.model) == job.weights
        except Exception as error:  # of whatever kind, from whatever library loads the model
            self._fault = ModelError(f"{job.model!r} cannot be loaded on {os.uname().nodename}: {_line(error)}")
            return
        if not same:
            self._fault = ModelError(f"{job.model!r} has other weights on {os.uname().nodename} than where the run began")

    def __call__(self, table: pa.Table) -> pa.Table:
        """The file of a shard."""
        number = table["number"][0].as_py()
        if table["fault"][0].is_valid:
            return table
        if self._fault is not None:
            return _row(number, fault=self._fault)
        start, stop = self._worker.job.stretch(number)
        contents, refusals = table["contents"][0].values, table["refusals"][0].values

        def ready(item: Item) -> Input:
            place = item.number - start
            refusal = refusals[place].as_py()
            return self._worker.ready(item, contents[place].as_py()) if refusal is None else InputError(refusal)

        files: list[bytes] = []
        try:
            stream(
                self._worker,
                self._manifest,
                self._shards,
                [number],
                lambda _, rows: files.append(encoded(rows)),
                threads=READERS,
                ready=ready,
            )
        except (MMExplainError, OSError) as error:
            return _row(number, fault=error)
        return _row(number, inputs=stop - start, file=files[0])


def _write(table: pa.Table, shards: Shards) -> pa.Table:
    """A shard's file put into the store."""
    number = table["number"][0].as_py()
    if table["fault"][0].is_valid:
        return table
    try:
        put(shards.fs, shards.path(number), table["file"][0].as_py())
    except OSError as error:
        return _row(number, fault=error)
    return _row(number, inputs=table["inputs"][0].as_py())


def _row(number: int, fault: Exception | None = None, **values: Any) -> pa.Table:
    kept = None if fault is None else pickle.dumps(fault.with_traceback(None))
    return pa.Table.from_pylist([{"number": number, "fault": kept, **values}], _ROW)


def _line(error: BaseException) -> str:
    """The first sentence of what libraries write pages about."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
