"""What works for which family of transformers models: tried on tiny checkpoints, written as a table for the docs.

python -m tests.tasks.huggingface.families    # prints the table
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

import mmexplain
from mmexplain.errors import MMExplainError
from tests.tasks.huggingface import tiny, tiny_queries, tiny_speakers, tiny_video
from tests.tasks.huggingface.planted import photo

COLUMNS = (
    "class",
    "per word",
    "forced answer",
    "video",
    "attention methods",
    PIXELS := "pixel and perturbation methods",
    "text side",
)

CLASSIFIERS: Mapping[str, str] = {
    "vit": "ViT",
    "deit": "DeiT, with its teacher too",
    "swin": "Swin, Swinv2",
    "convnext": "ConvNeXt, ConvNeXtV2",
    "resnet": "ResNet",
    "clip": "CLIP (texts as classes)",
    "siglip": "SigLIP (texts as classes)",
    "siglip2": "SigLIP2 (texts as classes)",
}
SPEAKERS: Mapping[str, str] = {
    "blip": "BLIP",
    "blip-vqa": "BLIP for questions",
    "blip2": "BLIP-2 (OPT)",
    "blip2-t5": "BLIP-2 (T5)",
    "instructblip": "InstructBLIP",
    "git": "GIT",
    "vit-gpt2": "VisionEncoderDecoder (ViT + GPT-2)",
    "florence2": "Florence-2",
    "vilt": "ViLT",
    "llava": "LLaVA",
    "llava_next": "LLaVA-NeXT (tiles)",
    "qwen2_vl": "Qwen2-VL",
    "qwen2_5_vl": "Qwen2.5-VL",
    "qwen3_vl": "Qwen3-VL",
    "idefics3": "Idefics3 (tiles)",
    "smolvlm": "SmolVLM (tiles)",
    "paligemma": "PaliGemma, PaliGemma 2",
}
VIDEOS: Mapping[str, str] = {
    "videomae": "VideoMAE",
    "timesformer": "TimeSformer",
    "vivit": "ViViT",
    "vjepa2": "V-JEPA 2",
}
ATTENTION = ("attention", "attention-rollout")
ON_PHOTO = ("input-x-gradient", "occlusion")


def works(run: Callable[[], Any]) -> bool:
    """Whether something is explained, with maps that are not all empty, and not refused."""
    try:
        found = run()
    except MMExplainError:
        return False
    return any(bool(maps.any()) for maps in found.maps.values())


def classifier(kind: str, folder: Path) -> set[str]:
    """Columns that work for a classifier of photos."""
    task: Any = mmexplain.load(str(tiny.save(kind, folder)), device="cpu")
    texts = ["a red ball", "a dog"] if task.labels is None else None
    told: dict[str, Any] = {"top": 2} if texts is None else {"texts": texts}
    image = photo(120, 80)
    found = {"class"} if works(lambda: task.explain(image, **told)) else set()
    if any(works(lambda name=name: task.explain(image, methods=[name], **told)) for name in ATTENTION):
        found.add("attention methods")
    if any(works(lambda name=name: task.explain(image, methods=[name], **told)) for name in ON_PHOTO):
        found.add(PIXELS)
    return found


def speaker(family: str, folder: Path) -> set[str]:
    """Columns that work for a model that writes."""
    (tiny_speakers.MAKERS | tiny_queries.CAPTIONERS | tiny_queries.ANSWERERS | {"vilt": tiny_queries.vilt})[family](
        folder
    )
    image, question, found = photo(120, 80), "what color is the ball", set()
    ways: dict[str, Callable[..., Any]] = {}
    for name, kind in (("per word", "caption"), ("forced answer", "vqa")):
        try:
            task: Any = mmexplain.load(f"hf:{folder}", kind, "cpu")
        except MMExplainError:
            continue
        if kind == "caption":
            ways[name] = lambda task=task, **options: task.explain(image, caption="a dog with two balls", **options)
        else:
            ways[name] = lambda task=task, **options: task.explain(image, question, ["red"], top=0, **options)
    for name, explain in ways.items():
        if works(explain):
            found.add(name)
        if any(works(lambda method=method, explain=explain: explain(methods=[method])) for method in ATTENTION):
            found.add("attention methods")
        if any(works(lambda method=method, explain=explain: explain(methods=[method])) for method in ON_PHOTO):
            found.add(PIXELS)
        if works(lambda explain=explain: explain(text="all")) and explain(text="all").text_maps:
            found.add("text side")
    return found


def video(family: str, folder: Path) -> set[str]:
    """Columns that work for a model of clips."""
    task: Any = mmexplain.load(str(tiny_video.save(folder, family)), device="cpu")
    clip = tiny_video.noise()
    found = {"video"} if works(lambda: task.explain(clip, top=1)) else set()
    if any(works(lambda name=name: task.explain(clip, top=1, methods=[name], sampling="dense")) for name in ATTENTION):
        found.add("attention methods")
    if any(works(lambda name=name: task.explain(clip, top=1, methods=[name], sampling="dense")) for name in ON_PHOTO):
        found.add(PIXELS)
    return found


def table() -> str:
    """The Markdown table."""
    torch.manual_seed(0)
    lines = [["family", *COLUMNS], ["---", *[":---:"] * len(COLUMNS)]]
    with tempfile.TemporaryDirectory() as root:
        for names, tried in ((CLASSIFIERS, classifier), (SPEAKERS, speaker), (VIDEOS, video)):
            for key, name in names.items():
                folder = Path(root) / key
                folder.mkdir()
                found = tried(key, folder)
                lines.append([name, *("✓" if column in found else "–" for column in COLUMNS)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    print(table())
