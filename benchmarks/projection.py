"""What a million photos and a hundred million cost: time, money and storage, from what was measured and assumed.

    python benchmarks/projection.py
    python benchmarks/projection.py --gpu-rate 60 --price 3.5 --photo-bytes 250000

What ``results/scale.json`` holds was measured on a CPU: operations of a photo, its maps and their bytes, and the time
of a core to decode it and to make its rows. The rate of a GPU was not measured: it is the operations that one computes
at most, times the share of them that is assumed to be reached, by the operations of a photo. ``--gpu-rate`` takes a
measured one. Every other number can be given too.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from common import RESULTS, save, table


@dataclass(frozen=True)
class Assumptions:
    """Everything that the projection depends on.

    Attributes:
        operations: additions and multiplications for a photo, captioned and explained.
        maps: of a photo.
        map_bytes: of a map in the store, all columns included.
        photo_bytes: of a photo's file.
        decode_us: microseconds of a core to read, decode and prepare a photo.
        rows_us: microseconds of a core to make and compress a photo's rows; a process for each GPU does it.
        gpu_tflops: 10^12 operations a second in 32 bits that a GPU computes at most; an H100's or H200's without tensor
            cores.
        utilisation: share of them that is reached: the encoder is made of small layers, and a search goes word by word.
        gpu_rate: photos a second of one GPU; reckoned from the operations where it is 0.
        efficiency: share that is left of the speed of a GPU each time that their number is doubled.
        price: of an hour of one GPU with its cores, in dollars.
        cores: for each GPU.
        gpus_each: GPUs of one machine.
        bandwidth: bytes a second that one machine reads.
        shard: photos whose rows are one file.
        storage_price: of a terabyte for a month, in dollars.
    """

    operations: float
    maps: float
    map_bytes: float
    photo_bytes: float
    decode_us: float
    rows_us: float
    gpu_tflops: float = 67.0
    utilisation: float = 0.03
    gpu_rate: float = 0.0
    efficiency: float = 0.97
    price: float = 3.0
    cores: int = 12
    gpus_each: int = 8
    bandwidth: float = 1e9
    shard: int = 1024
    storage_price: float = 23.0

    @property
    def rate(self) -> float:
        """Photos a second that one GPU explains."""
        return self.gpu_rate or self.gpu_tflops * 1e12 * self.utilisation / self.operations

    def limits(self) -> dict[str, float]:
        """What each part lets through for one GPU, photos a second."""
        return {
            "the GPU": self.rate,
            "decoding, on the cores of one GPU": 1e6 / self.decode_us * self.cores,
            "rows, in one process": 1e6 / self.rows_us,
            "reading, the share of one GPU": self.bandwidth / self.photo_bytes / self.gpus_each,
        }


@dataclass(frozen=True)
class Projection:
    """Of some photos on some GPUs.

    Attributes:
        photos: how many.
        gpus: how many.
        hours: that it takes.
        cost: of the GPUs.
        terabytes: of the store.
        monthly: price of keeping it.
        files: of rows.
        limit: what the time depends on.
    """

    photos: int
    gpus: int
    hours: float
    cost: float
    terabytes: float
    monthly: float
    files: int
    limit: str


def project(given: Assumptions, photos: int, gpus: int) -> Projection:
    """What ``photos`` take on ``gpus``: each goes as fast as the slowest of what it needs, and several as fast as the
    efficiency lets them."""
    limit, rate = min(given.limits().items(), key=lambda pair: pair[1])
    hours = photos / (rate * gpus * given.efficiency ** math.log2(gpus)) / 3600
    terabytes = photos * given.maps * given.map_bytes / 1e12
    return Projection(
        photos,
        gpus,
        hours,
        hours * gpus * given.price,
        terabytes,
        terabytes * given.storage_price,
        math.ceil(photos / given.shard),
        limit,
    )


def measured(file: Path) -> dict[str, float]:
    """What the benchmark of captions found.

    Raises:
        FileNotFoundError: it was not run.
        KeyError: only its other part was.
    """
    found = json.loads(file.read_text())["captions"]
    stages = found["stages"]
    return {
        "operations": found["operations per photo"],
        "maps": found["maps per photo"],
        "map_bytes": found["store"]["bytes per map"],
        "photo_bytes": found["photo bytes"],
        "decode_us": stages["read, decode, prepare"],
        "rows_us": stages["rows and statistics"] + stages["table, compression"],
    }


def descriptions() -> dict[str, str]:
    """Name of an assumption → what it is, as the class says."""
    text = (Assumptions.__doc__ or "").partition("Attributes:")[2]
    joined = " " + " ".join(text.split())
    names = [field.name for field in fields(Assumptions)]
    places = [joined.index(f" {name}: ") for name in names]
    ends = [*places[1:], len(joined)]
    return {
        name: joined[place + len(name) + 3 : end].strip(" .")
        for name, place, end in zip(names, places, ends, strict=True)
    }


def spoken(hours: float) -> str:
    """Hours as people say them."""
    if hours < 2:
        return f"{60 * hours:,.0f} min"
    return f"{hours:,.1f} h" if hours < 72 else f"{hours / 24:,.1f} days"


def markdown(given: Assumptions, source: Mapping[str, Any], photos: list[int], gpus: list[int]) -> str:
    rows = []
    for count in photos:
        for number in gpus:
            found = project(given, count, number)
            time = spoken(found.hours)
            rows.append(
                [
                    f"{count:,}",
                    f"{number}",
                    time,
                    f"{found.cost:,.0f}",
                    f"{found.terabytes:,.3f}",
                    f"{found.monthly:,.2f}",
                    f"{found.files:,}",
                ]
            )
    told = descriptions()
    where = [
        [
            name,
            f"{value:,.4g}" if isinstance(value, float) else f"{value:,}",
            "measured" if source.get(name) == value else "assumed",
            told[name],
        ]
        for name, value in asdict(given).items()
    ]
    limits = [[name, f"{value:,.1f}"] for name, value in sorted(given.limits().items(), key=lambda pair: pair[1])]
    return "\n\n".join(
        [
            "# What many photos cost",
            table(["photos", "GPUs", "time", "GPUs, $", "store, TB", "kept a month, $", "files"], rows),
            "Reckoned, not measured: no GPU was at hand. What each part lets through for one GPU:",
            table(["what", "photos a second"], limits),
            "What it is reckoned from:",
            table(["name", "value", "", "what it is"], where),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measured", type=Path, default=RESULTS / "scale.json", help="what benchmarks/scale.py wrote")
    parser.add_argument("--photos", type=int, nargs="+", default=[1_000_000, 100_000_000])
    parser.add_argument("--gpus", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--out", type=Path, default=RESULTS)
    for field in fields(Assumptions):
        kind = {"int": int, "float": float}[str(field.type)]
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, metavar="X")
    arguments = parser.parse_args()
    try:
        source = measured(arguments.measured)
    except (OSError, KeyError):
        parser.error(f"{arguments.measured} has no captions: run benchmarks/scale.py --captions first")
    told = {field.name: getattr(arguments, field.name) for field in fields(Assumptions)}
    given = Assumptions(**{**source, **{name: value for name, value in told.items() if value is not None}})
    text = markdown(given, source, arguments.photos, arguments.gpus)
    print(text)
    record = {
        "assumptions": asdict(given),
        "projections": [asdict(project(given, photos, gpus)) for photos in arguments.photos for gpus in arguments.gpus],
    }
    save("projection", record, text, arguments.out)


if __name__ == "__main__":
    main()
