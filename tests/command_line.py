"""Running the command line in tests: in-process, on photos and on models so small that a call takes a moment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from click.testing import CliRunner, Result
from PIL import Image

from mmexplain.cli import cli

CLASSES = ["square", "stripe", "cloud"]
ANSWERS = ["red", "yellow", "ice cream"]
ACTIONS = ["jumping", "falling", "sitting still"]
WORDS = ["<pad>", "<start>", "<end>", "<unk>", "a", "dog", "cat", "runs", "red", "frisbee", "on", "grass"]


def run(*arguments: object) -> Result:
    """The command line with these arguments; a bug raises here instead of hiding in an exit code."""
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments], prog_name="mmexplain")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def record(*arguments: object) -> dict[str, Any]:
    """What these arguments print with --json."""
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    return dict(json.loads(result.stdout))


def refusal(*arguments: object) -> str:
    """The one line with which the command line refuses these arguments."""
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    return one_line(result.stderr)


def one_line(stderr: str) -> str:
    assert stderr.endswith("\n") and stderr.count("\n") == 1, stderr
    assert "Traceback" not in stderr
    assert stderr.startswith("mmexplain: "), stderr
    return stderr.removeprefix("mmexplain: ").strip()


def picture(height: int = 120, width: int = 160) -> Image.Image:
    """A grey photo with noise and one bright square in its lower left: upside down or mirrored it is another."""
    pixels = np.random.default_rng(0).integers(90, 130, (height, width, 3), dtype=np.uint8)
    pixels[height // 2 : height - 10, 10 : width // 3] = (250, 60, 30)
    return Image.fromarray(pixels)


def save_classifier(path: Path, poison: bool = False) -> None:
    """Untrained weights of timm's smallest ResNet, with a card that names the architecture; ``poison`` makes its
    logits NaN."""
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(0)
    state = timm.create_model("test_resnet", num_classes=len(CLASSES)).state_dict()
    if poison:
        state["fc.weight"][0, 0] = torch.nan
    save_file(state, path)
    write_card(path, {"architecture": "timm:test_resnet", "labels": CLASSES})


def save_captioner(path: Path, poison: bool = False) -> None:
    """An untrained Show-Attend-and-Tell with tiny layers over a whole encoder; ``poison`` makes its logits NaN."""
    from mmexplain.tasks.captioning.show_attend_tell import ShowAttendTell
    from mmexplain.tasks.captioning.vocabulary import Vocabulary
    from mmexplain.tasks.captioning.weights import save_captioner as save

    torch.manual_seed(0)
    model = ShowAttendTell(Vocabulary(WORDS), annotation=8, attention=4, embedding=8, hidden=8)
    with torch.no_grad():
        model.l_o.bias[:4] = -20.0  # it never stops before the longest caption, and says words only
        if poison:
            model.l_o.weight[5, 0] = torch.nan
    save(path, model, {"input_size": 96, "architecture": model.architecture})


def save_answerer(path: Path, poison: bool = False) -> None:
    """An untrained co-attention model with tiny layers over a whole encoder; ``poison`` makes its logits NaN."""
    from mmexplain.tasks.captioning.vocabulary import Vocabulary
    from mmexplain.tasks.vqa.coattention import CoAttention
    from mmexplain.tasks.vqa.weights import save_vqa

    torch.manual_seed(0)
    model = CoAttention(Vocabulary(WORDS), ANSWERS, size=8, attention=4)
    if poison:
        with torch.no_grad():
            model.output.weight[0, 0] = torch.nan
    save_vqa(path, model, {"input_size": 96, "architecture": model.architecture})


def save_mover(path: Path, poison: bool = False) -> None:
    """Untrained weights of a narrow C3D, with a card that names the architecture; ``poison`` makes its logits NaN."""
    from safetensors.torch import save_file

    from mmexplain.tasks.action.c3d import C3D

    torch.manual_seed(0)
    state = {name: value * 3 for name, value in C3D(len(ACTIONS), (4, 4, 5, 5, 6, 6, 7, 8, 9, 10)).state_dict().items()}
    if poison:
        state["fc8.weight"][0, 0] = torch.nan
    save_file(state, path)
    write_card(path, {"architecture": "c3d", "labels": ACTIONS})


def write_card(path: Path, card: dict[str, Any]) -> None:
    path.with_suffix(".json").write_text(json.dumps(card), encoding="utf-8")
