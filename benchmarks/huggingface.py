"""Maps of 20 words of models of transformers, beside one teacher-forced forward and backward pass for one word.

    python benchmarks/huggingface.py

The models are the tests' tiny ones, made as large as --width and --layers say, with random weights. The yardstick is
what a map of one word costs by hand: the photo prepared, the model run once over photo and caption, and the word's
log-probability differentiated.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS, Others, alternate, describe, machine, save, table, with_spread
from PIL import Image

import mmexplain
from mmexplain.io import load_image

sys.path.insert(0, str(Path(__file__).parent.parent))

WORDS = 20
FAMILIES = ("blip", "llava")


def contenders(family: str, folder: Path, width: int, layers: int) -> tuple[Callable[[], Any], dict[str, Any]]:
    """The yardstick, and what explains 1 and 20 words."""
    from tests.tasks.huggingface.tiny_speakers import MAKERS

    MAKERS[family](folder, width=width, layers=layers)
    task: Any = mmexplain.load(f"hf:{folder}", "caption", "cpu")
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8))
    caption = " ".join(["a man and a dog with a red ball on the street"] * 2)
    words = caption.split()[:WORDS]
    caption = " ".join(words)
    said = torch.tensor([task.speaker.tokens(caption)])
    model = task.model

    def by_hand() -> None:
        look = task.speaker.look(load_image(photo), task.speaker.asked)
        ids = torch.cat([look.prompt, said], 1)
        beside = {name: value for name, value in look.arguments.items() if name not in ("input_ids", "attention_mask")}
        model.zero_grad()
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), **beside).logits
        logits[0, -2].log_softmax(-1)[ids[0, -1]].backward()

    def explain(*named: str) -> Callable[[], Any]:
        return lambda: task.explain(photo, caption=caption, words=list(named) or None)

    found = task.explain(photo, caption=caption)
    assert len(found) == WORDS, len(found)
    return by_hand, {"1 word": explain(words[-1]), f"{WORDS} words": explain()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=32, help="of the hidden states")
    parser.add_argument("--layers", type=int, default=2, help="of each part")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, help="threads that torch may use; its own choice if left out")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the results")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    found: dict[str, Any] = {}
    rows = []
    with Others() as others, tempfile.TemporaryDirectory() as folder:
        for family in FAMILIES:
            plain, runs = contenders(family, Path(folder) / family, arguments.width, arguments.layers)
            stick, timings = alternate(plain, runs, arguments.rounds)
            found[family] = {name: timing.record() for name, timing in {"by hand": stick, **timings}.items()}
            for name, entry in found[family].items():
                rows.append([family, name, with_spread(entry["ms"]), with_spread(entry["ratio"], 2)])
    record = {
        "machine": {**machine(), "others": others.share},
        "width": arguments.width,
        "layers": arguments.layers,
        "words": WORDS,
        "runs": found,
    }
    markdown = "\n".join(
        [
            "# Words of transformers models",
            "",
            f"Models of {arguments.layers} layers in each part and {arguments.width} hidden units, random weights. By "
            "hand: the photo prepared, one forward and backward pass of the model for one word; explained: from the "
            "photo to the maps.",
            "",
            table(["model", "", "ms (quartiles)", "x by hand (quartiles)"], rows),
            "",
            f"Machine: {describe(record['machine'])}.",
        ]
    )
    print(markdown)
    save("huggingface", record, markdown, arguments.out)


if __name__ == "__main__":
    main()
