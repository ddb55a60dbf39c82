"""Many machines: Ray Data reads, actors that hold the model explain, tasks write.

What goes through is shards, one row each: tasks read their photos' bytes, an actor makes their Parquet file of them, a
task puts it into the store. Ray schedules, holds back what is ahead, moves and spills the bytes, and repeats what was
under way on a process or a machine that died; a shard that is made twice is the same file twice.

Every machine must see, under the same paths, the store and the model, and those inputs that are files; a folder that
all of them mount, or URLs.
"""

from __future__ import annotations

import gc
import logging
import os
import socket
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import torch

from mmexplain.errors import DeviceError, InputError
from mmexplain.jobs.explainer import Explainer
from mmexplain.jobs.job import Job
from mmexplain.jobs.parcels import fault_of, read, write
from mmexplain.jobs.store import Store
from mmexplain.jobs.stream import Progress

AHEAD = 2
"""Shards that are read at a time, and that wait for an actor, for each of them."""

CORES = 4
"""Of an actor without a GPU: a model gains less from more of them than another copy of it does."""

SHARE = 0.75
"""Of its cores that an actor claims; what reads and writes waits more than it computes, and gets by with the rest."""


def run_ray(
    job: Job, store: Store, todo: Sequence[int], workers: int | None = None, progress: Progress | None = None
) -> None:
    """Explain the items of the shards ``todo`` on a Ray cluster: on the one that ``RAY_ADDRESS`` names, or else the one
    that ``ray start`` started here, or else one that is started on this machine and stopped at the end.

    Memory is bounded on each machine: per actor the model, a batch and a shard's rows, and the bytes of a few shards'
    photos, at most :data:`mmexplain.jobs.parcels.CARRIED` of each shard, which Ray holds back and spills to the disk.

    Rows are the local engine's, bit for bit where the processors, the versions and the numbers of threads are the same:
    which inputs are explained together is settled by the store alone.

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
    gc.collect()
    torch.cuda.empty_cache()  # the model that the run began with is gone; an actor may be given its GPU
    with _quiet(ray), _connected(ray):
        pool = _pool(ray, job.device, workers, len(todo))
        results = _results(ray, job, store, todo, pool)
        try:
            for row in results:
                if row["fault"] is not None:
                    raise fault_of(row["fault"])
                if progress is not None:
                    progress(row["inputs"])
        except ray.exceptions.RayTaskError:  # a bug of ours, to be seen with its traceback
            raise
        except ray.exceptions.RayError as error:
            raise InputError(f"Ray gave up ({_line(error)}); --resume goes on with what is left") from None
        finally:
            results.close()
    store.shards.sweep()  # what those left half written that were killed


# -- the cluster -----------------------------------------------------------------------------------------------------


def _imported() -> ModuleType:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
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
    address = _address(ray)
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.CRITICAL}
    try:
        with _muted():
            ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        where = "Ray cannot be started" if address == "local" else f"the Ray cluster at {address} cannot be used"
        raise InputError(f"{where}: {_line(error)}") from None
    try:
        yield
    finally:
        ray.shutdown()


def _address(ray: Any) -> str:
    """Of the cluster that ``RAY_ADDRESS`` names or that ``ray start`` started here; "local" for none of them.

    Raises:
        InputError: the one that is named does not answer.
    """
    named = os.environ.get("RAY_ADDRESS", "").removeprefix("auto")
    if named.startswith("ray://"):
        raise InputError(f"RAY_ADDRESS={named!r}: start the run on a machine of the cluster, by `ray job submit`")
    found = named or sys.modules["ray._private.utils"].read_ray_address() or "local"
    if found == "local" or _answers(found):
        return str(found)
    if named:
        raise InputError(f"no Ray cluster answers at RAY_ADDRESS={named!r}; `ray start --head` starts one")
    return "local"  # what `ray start` noted down is no longer there


def _answers(address: str) -> bool:
    """Whether anything listens there: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, ValueError):
        return False
    return True


@contextmanager
def _muted() -> Iterator[None]:
    """Without what Ray's C++ writes to stderr past Python: that it obeys this variable, and without the variable that
    each actor with arguments is an error."""
    name = "RAY_BACKEND_LOG_LEVEL"
    if name in os.environ:
        yield
        return
    sys.stderr.flush()
    kept = os.dup(2)
    os.environ[name] = "fatal"
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        del os.environ[name]
        os.dup2(kept, 2)
        os.close(kept)


@contextmanager
def _quiet(ray: Any) -> Iterator[None]:
    """Without Ray's bars and notes: they would run into ours."""
    context, log = ray.data.DataContext.get_current(), logging.getLogger("ray.data")
    # The last is what Ray's debugger silences it by: it tells of each machine that is lost, and there is no setting.
    switches = [
        (context, "enable_progress_bars"),
        (context, "print_on_execution_start"),
        (sys.modules["ray._private.worker"], "_worker_logs_enabled"),
    ]
    before = [(owner, name, getattr(owner, name)) for owner, name in switches if hasattr(owner, name)]
    level = log.level
    for owner, name, _ in before:
        setattr(owner, name, False)
    log.setLevel(logging.CRITICAL + 1)  # whatever stops the run is raised as well
    try:
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)
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


# -- what runs on it -------------------------------------------------------------------------------------------------


def _results(ray: Any, job: Job, store: Store, todo: Sequence[int], pool: _Pool) -> Generator[dict[str, Any]]:
    """A row for each shard that was written, or what kept it from being."""
    manifest, shards = store.manifest, store.shards
    limit = os.environ.get("OMP_NUM_THREADS", "")
    explainer = {
        "job": replace(job, device=pool.device),
        "manifest": manifest,
        "shards": shards,
        "folder": os.getcwd(),
        "threads": min(pool.threads, int(limit)) if limit.isdecimal() else pool.threads,
    }
    whole = {"batch_size": 1, "batch_format": "pyarrow", "zero_copy_batch": True}
    # Ray Data repeats tasks and restarts actors that a process or a machine took along without end, unless told not to;
    # and spreads them over the machines. What is claimed differs, or it would make one stage of two.
    stages = (
        ray.data.from_items([{"number": number} for number in todo], override_num_blocks=len(todo))
        .map_batches(
            read,
            fn_kwargs={"job": job, "manifest": manifest},
            compute=ray.data.TaskPoolStrategy(size=AHEAD * pool.size),
            num_cpus=0.25,
            **whole,
        )
        .map_batches(
            Explainer,
            fn_constructor_kwargs=explainer,
            compute=ray.data.ActorPoolStrategy(size=pool.size, max_tasks_in_flight_per_actor=AHEAD),
            num_cpus=pool.cpus,
            num_gpus=pool.gpus,
            **whole,
        )
        .map_batches(write, fn_kwargs={"shards": shards}, num_cpus=0.2, **whole)
    )
    for batch in stages.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        yield from batch.select(["number", "inputs", "fault"]).to_pylist()


def _line(error: BaseException) -> str:
    """The first line of what libraries write pages about."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
