"""What a long video takes: time and memory of `mmexplain action` on one that is made for it, everything written.

python benchmarks/long_video.py --minutes 10
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from common import RESULTS, describe, machine, save, table

RATE = 25


def write_video(path: Path, frames: int, width: int, height: int) -> None:
    """Squares that drift over noise: compresses as poorly as filmed video does."""
    random = np.random.default_rng(0)
    ground = random.integers(60, 200, (height, width, 3), dtype=np.uint8)
    with av.open(str(path), "w") as file:
        stream: Any = file.add_stream("libx264", rate=RATE, options={"preset": "ultrafast", "crf": "28"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(frames):
            picture = ground.copy()
            for square in range(4):
                x = (number * (square + 1) + 60 * square) % (width - 40)
                picture[40 * square : 40 * square + 40, x : x + 40] = (250, 60 * square, 30)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--height", type=int, default=240)
    parser.add_argument("--model", default="i3d-kinetics400", help="see 'mmexplain models'; i3d-kinetics400 is pulled")
    parser.add_argument("--targets", nargs="+", default=["riding a bike", "driving car"])
    parser.add_argument("--stride", type=int, default=8)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the results")
    arguments = parser.parse_args()
    frames = round(arguments.minutes * 60 * RATE)
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder, "long.mp4")
        write_video(video, frames, arguments.width, arguments.height)
        command = [sys.executable, "-m", "mmexplain", "action", str(video), "--model", arguments.model]
        command += ["--stride", str(arguments.stride), "--out", f"{folder}/out/"]
        command += [part for target in arguments.targets for part in ("--target", target)]
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - started
        written = {file.name: file.stat().st_size for file in sorted(Path(folder, "out").iterdir())}
    # The largest of all children; nothing else that this process starts comes near it.
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    record = {
        "machine": machine(),
        "settings": {"frames": frames, **{name: getattr(arguments, name) for name in ("width", "height", "stride")}},
        "model": arguments.model,
        "targets": arguments.targets,
        "seconds": round(seconds),
        "peak_bytes": peak,
        "written": written,
    }
    size = f"{arguments.width} × {arguments.height}"
    row = [
        arguments.model,
        f"{frames:,} of {size}",
        str(arguments.stride),
        f"{peak / 2**30:.2f} GiB",
        f"{seconds:.0f} s",
    ]
    markdown = "\n".join(
        [
            "# What a long video takes",
            "",
            f"`mmexplain action` with {len(arguments.targets)} targets; report, film strip, an MP4 for each target and "
            "raw maps are written.",
            "",
            table(["model", "frames", "every n-th", "memory at its peak", "time in all"], [row]),
            "",
            f"Machine: {describe(record['machine'])}.",
        ]
    )
    print(markdown)
    save("long_video", record, markdown, arguments.out)


if __name__ == "__main__":
    main()
