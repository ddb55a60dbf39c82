"""Captions a second from batches of photos, alone and with every word explained.

python benchmarks/captions_in_batches.py --photos $MMEXPLAIN_DATA/flickr8k/images

Captioning alone reads the files, runs the encoder and searches with a beam of 3. Explaining does the same and makes a
map of every word, one method at a time. The two take turns, so that other work on the machine weighs on both.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from common import RESULTS, Others, alternate, describe, laid_out, machine, positive, save, table
from torch.utils.flop_counter import FlopCounterMode

from mmexplain.explainer import problem_of
from mmexplain.memory import keep_freed
from mmexplain.precisions import PRECISIONS
from mmexplain.surroundings import undisturbed
from mmexplain.tasks.registry import load

MODELS = ("show-attend-tell", "show-and-tell")
METHODS = ("gradcam", "layercam", "hirescam")
BEAM = 3
"""The default of ``mmexplain caption``."""


def runs(
    task: Any, photos: Sequence[Path], methods: Sequence[str], precision: str = "float32"
) -> dict[str, Callable[[], Any]]:
    """Captioning alone, and with the words explained by each method."""

    def caption() -> list[list[int]]:
        batch = task.prepare(list(photos))
        with undisturbed(task.model, task.device), torch.no_grad():
            problem = problem_of(task, batch, precision=precision)
            found: list[list[int]] = task.generate(problem.encode(laid_out(batch.inputs)), BEAM)
            return found

    def explained(method: str) -> Callable[[], Any]:
        return lambda: task.explain(list(photos), beam=BEAM, methods=[method], precision=precision)

    return {"caption": caption, **{method: explained(method) for method in methods}}


def work(run: Callable[[], Any], photos: int) -> float:
    """Multiplications and additions of matrix products and convolutions, in 10⁹ a photo: what no other work on the
    machine changes."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() / photos / 1e9


def measure(
    model: str,
    photos: Sequence[Path],
    sizes: Sequence[int],
    methods: Sequence[str],
    rounds: int,
    precision: str = "float32",
) -> dict[str, Any]:
    """Batch size → words in a caption, captions a second, and the share of captioning's that is left, by method."""
    task: Any = load(model, task="caption", device="cpu")
    found = {}
    for size in sizes:
        alone, *_ = contenders = runs(task, photos[:size], methods, precision)
        caption = contenders.pop(alone)
        words = fmean(map(len, caption()))
        stick, timings = alternate(caption, contenders, rounds, progress=f"{model}, {size} photos")
        found[str(size)] = {
            "words": words,
            "gflop": work(caption, size),
            "alone": size / stick.record()["ms"]["median"] * 1e3,
            "explained": {
                method: {
                    "gflop": work(contenders[method], size),
                    "a second": size / (record := timing.record())["ms"]["median"] * 1e3,
                    # The slower, the smaller the share: the quartiles change places.
                    "share": {
                        name: 1 / record["ratio"][other]
                        for name, other in (("median", "median"), ("low", "high"), ("high", "low"))
                    },
                    "rounds": record["rounds"],
                }
                for method, timing in timings.items()
            },
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="folder of photos, the first of which are taken")
    parser.add_argument("--models", nargs="*", default=MODELS, help="bundled captioners, or files of weights")
    parser.add_argument("--methods", nargs="*", default=METHODS)
    parser.add_argument("--sizes", nargs="*", type=positive, default=(1, 8, 16, 32), help="photos in a batch")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32", help="what the encoder runs in")
    parser.add_argument("--rounds", type=positive, default=7)
    parser.add_argument("--threads", type=positive, help="threads that torch may use; its own choice if left out")
    parser.add_argument("--give-back", action="store_true", help="freed memory goes back to the system, as by default")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the results")
    arguments = parser.parse_args()
    if not arguments.give_back:
        keep_freed()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    photos = sorted(path for path in arguments.photos.iterdir() if path.is_file())
    if len(photos) < max(arguments.sizes):
        parser.error(f"{arguments.photos} holds {len(photos)} photos, fewer than a batch of {max(arguments.sizes)}")
    with Others() as others:
        found = {
            Path(model).name: measure(
                model, photos, arguments.sizes, arguments.methods, arguments.rounds, arguments.precision
            )
            for model in arguments.models
        }
    rows = [
        [
            model,
            size,
            f"{entry['words']:.1f}",
            f"{entry['alone']:.1f}",
            f"{entry['gflop']:.2f}",
            method,
            f"{explained['a second']:.1f}",
            f"{explained['gflop']:.2f}",
            f"{explained['share']['median']:.0%} ({explained['share']['low']:.0%}-{explained['share']['high']:.0%})",
        ]
        for model, sizes in found.items()
        for size, entry in sizes.items()
        for method, explained in entry["explained"].items()
    ]
    alone, explaining = ("captions/s alone", "GFLOP each"), ("captions/s", "GFLOP each")
    header = ["model", "photos", "words each", *alone, "words explained by", *explaining, "share (quartiles)"]
    record = {
        "machine": {**machine(), "others": others.share},
        "precision": arguments.precision,
        "models": found,
    }
    markdown = "\n".join(
        [
            "# Captions from batches of photos, alone and with every word explained",
            "",
            table(header, rows),
            "",
            *([] if arguments.precision == "float32" else [f"The encoder ran in {arguments.precision}.", ""]),
            f"Alone: files read, encoder, beam of {BEAM}. The share is of the captions a second that captioning alone "
            "makes, medians of runs that lie next to each other.",
            "",
            f"Machine: {describe(record['machine'])}.",
        ]
    )
    print(markdown)
    save("captions_in_batches", record, markdown, arguments.out)


if __name__ == "__main__":
    main()
