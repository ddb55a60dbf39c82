"""A loaded model on some machine of a cluster, which makes files of shards."""

from __future__ import annotations

import os
import platform
from contextlib import suppress

import pyarrow as pa
import torch

from mmexplain.errors import InputError, MMExplainError, ModelError
from mmexplain.evaluate.fingerprint import weights_checksum
from mmexplain.jobs.item import Item
from mmexplain.jobs.job import Job
from mmexplain.jobs.manifest import Manifest
from mmexplain.jobs.parcels import READERS, parcel
from mmexplain.jobs.shards import Shards, encoded
from mmexplain.jobs.stream import stream
from mmexplain.jobs.worker import Input, Worker
from mmexplain.memory import keep_freed


class Explainer:
    """Actor of the distributed engine.

    It is always made: what keeps the model from being loaded comes out as the fault of the first shard.

    Args:
        job: what is done to each item.
        manifest: the items.
        shards: where pictures of maps go.
        folder: that relative paths of the model begin at.
        threads: for computing.
    """

    def __init__(self, job: Job, manifest: Manifest, shards: Shards, folder: str, threads: int) -> None:
        self._manifest = manifest
        self._shards = shards
        self._fault: MMExplainError | None = None
        with suppress(OSError):  # only a model with a relative path needs it, and says so if it is not found
            os.chdir(folder)
        torch.set_num_threads(threads)
        keep_freed()
        try:
            self._worker = Worker(job)
            same = weights_checksum(self._worker.task.model) == job.weights
        except Exception as error:  # of whatever kind, from whatever library loads the model
            text = " ".join(str(error).split()) or type(error).__name__
            self._fault = ModelError(f"{job.model!r} cannot be loaded on {platform.node()}: {text}")
            return
        if not same:
            self._fault = ModelError(f"{job.model!r} has other weights on {platform.node()} than where the run began")

    def __call__(self, table: pa.Table) -> pa.Table:
        """The file of a shard."""
        number = table["number"][0].as_py()
        if table["fault"][0].is_valid:
            return table
        if self._fault is not None:
            return parcel(number, fault=self._fault)
        start, stop = self._worker.job.stretch(number)
        contents, refusals = table["contents"][0].values, table["refusals"][0].values

        def ready(item: Item) -> Input:
            place = item.number - start
            refusal = refusals[place].as_py()
            return self._worker.ready(item, contents[place].as_py() if refusal is None else InputError(refusal))

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
            return parcel(number, fault=error)
        return parcel(number, inputs=stop - start, file=files[0])
