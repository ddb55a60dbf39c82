"""Checksums of data and weights: what changes them, and what does not."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mmexplain.errors import InputError
from mmexplain.evaluate import Item, run
from mmexplain.evaluate.fingerprint import data_checksum, readable, weights_checksum
from mmexplain.evaluate.pointing import Pointing
from tests.evaluate.objects import colours, lines, photo


@dataclass
class Marked:
    path: Path
    boxes: list[tuple[float, ...]]


def marked(folder: Path, text: str = "photo", box: float = 2.0, key: str = "one") -> list[Item]:
    folder.mkdir(exist_ok=True)
    (folder / "one.txt").write_text(text)
    return [Item(key, {"photo": Marked(folder / "one.txt", [(1.0, box)]), "more": np.arange(3)})]


def test_data_is_told_apart_by_content_and_not_by_place(tmp_path: Path) -> None:
    own = data_checksum(marked(tmp_path / "a"))
    copy = marked(tmp_path / "b")
    os.utime(tmp_path / "b" / "one.txt", (1, 1))
    assert data_checksum(copy) == own
    others = [
        data_checksum(marked(tmp_path / "c", text="longer photo")),
        data_checksum(marked(tmp_path / "d", box=3.0)),
        data_checksum(marked(tmp_path / "e", key="two")),
        data_checksum([*copy, *copy]),
        data_checksum([Item("one", copy[0].content, tmp_path / "b" / "one.txt")]),
        data_checksum([]),
    ]
    assert len({own, *others}) == 7
    (tmp_path / "b" / "one.txt").unlink()
    assert data_checksum(copy) != own, "a file that is not there is no error here"


def test_what_is_no_data_counts_by_its_type() -> None:
    assert data_checksum([Item("a", object())]) == data_checksum([Item("a", object())])
    assert data_checksum([Item("a", torch.ones(2))]) != data_checksum([Item("a", torch.ones(2, 1))])


def test_weights_by_hand() -> None:
    model = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, -2.0]]))
    header = b"weight torch.float32 (1, 2)\0"
    wanted = hashlib.sha256(header + np.array([1, -2], "<f4").tobytes()).hexdigest()
    assert weights_checksum(model) == wanted
    assert weights_checksum(model.half()) != wanted


def test_every_kind_of_weights_counts() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).to(torch.bfloat16)
    seen = {weights_checksum(model)}
    model[1].running_mean += 1
    seen.add(weights_checksum(model))
    model[1].num_batches_tracked += 1
    seen.add(weights_checksum(model))
    with torch.no_grad():
        model[0].weight[0, 0, 0, 0] += 1
    seen.add(weights_checksum(model))
    assert len(seen) == 4
    model.register_buffer("made_on_the_way", torch.ones(1), persistent=False)
    assert weights_checksum(model) in seen


def test_settings_show_8_digits() -> None:
    digest = hashlib.sha256(b"x").hexdigest()
    assert readable({"data": f"photos sha256:{digest}", "seed": 3}) == {"data": f"photos {digest[:8]}", "seed": 3}


def test_a_run_refuses_other_photos_and_other_weights(tmp_path: Path) -> None:
    folder, out = tmp_path / "data", tmp_path / "out"
    for number in range(3):
        photo(folder / "images" / f"{number}.png", ("red", (0, 0, 32, 32)))
    lines(folder, *((f"{number}.png", [("red", (0, 0, 32, 32))]) for number in range(3)))

    def measured(model: Any, data: Path = folder, limit: int | None = None) -> Any:
        return run(Pointing(model, data, ["gradcam"]), out, limit)

    result = measured(colours(), limit=2)
    line = next(told for told in result.told() if told.startswith("Settings"))
    kept = json.loads((out / "rows.jsonl").read_text().splitlines()[0])["settings"]
    assert kept["data"].startswith("data sha256:") and f"weights {kept['weights'][7:15]}" in line
    assert f"data data {kept['data'][12:20]}" in line and kept["weights"][7:] not in line
    assert len(kept["data"]) == 12 + 64

    shutil.copytree(folder, tmp_path / "elsewhere" / "data", copy_function=shutil.copyfile)
    assert measured(colours(), tmp_path / "elsewhere" / "data").items == 3, "a copy is the same data"

    retrained = colours()
    with torch.no_grad():
        retrained.model.fc.weight += 0.5
    with pytest.raises(InputError, match=r"other settings \(weights\)"):
        measured(retrained)
    shutil.copytree(folder, tmp_path / "renamed")
    with pytest.raises(InputError, match=r"other settings \(data\)"):
        measured(colours(), tmp_path / "renamed")
    photo(folder / "images" / "2.png", ("green", (3, 5, 32, 32)), ("red", (40, 41, 50, 60)))
    with pytest.raises(InputError, match=r"other settings \(data\)"):
        measured(colours())
