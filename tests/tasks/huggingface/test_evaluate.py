"""Every protocol with models of transformers: it measures them, or refuses in one line."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

import mmexplain
from mmexplain.evaluate.data.questions import Asked
from mmexplain.evaluate.faithfulness import Faithfulness
from mmexplain.evaluate.questions import Question, ask, probability, probe_of
from mmexplain.evaluate.registry import PROTOCOLS
from tests.command_line import picture, record, refusal
from tests.evaluate.objects import lines
from tests.tasks.huggingface import tiny, tiny_queries, tiny_speakers, tiny_video

QUESTION = "what is the dog"
MAKERS: Mapping[str, Callable[[Path], Any]] = {
    "captioner": tiny_speakers.blip,
    "answerer": tiny_queries.ANSWERERS["blip-vqa"],
    "both": tiny_speakers.MAKERS["qwen2_5_vl"],
    "vilt": tiny_queries.vilt,
    "classifier": lambda folder: tiny.save("vit", folder),
    "texts": lambda folder: tiny.save("clip", folder),
    "tiles": tiny_speakers.MAKERS["idefics3"],
    "video": lambda folder: tiny_video.save(folder, "videomae"),
}
MEASURED: Mapping[str, set[str]] = {
    "captioner": {"faithfulness", "randomisation", "data-randomisation", "human-attention"},
    "answerer": {"faithfulness", "randomisation", "data-randomisation", "human-attention (VQA-HAT)"},
    "vilt": {"faithfulness", "randomisation", "data-randomisation", "human-attention (VQA-HAT)"},
    "both": {
        "faithfulness",
        "randomisation",
        "data-randomisation",
        "human-attention",
        "human-attention (VQA-HAT)",
    },
    "classifier": {
        "faithfulness",
        "randomisation",
        "data-randomisation",
        "human-attention",
        "localisation",
        "pointing",
    },
    "texts": set(),
    "tiles": {"randomisation", "data-randomisation", "human-attention", "human-attention (VQA-HAT)"},
    "video": {"faithfulness", "randomisation", "data-randomisation"},
}
"""Kind of a model → protocols that measure it."""

TRIED = (*PROTOCOLS, "human-attention (VQA-HAT)")
QUICK = {
    "faithfulness": ("--set", "steps=2", "--set", "metrics=drop,insertion,correlation,infidelity,sensitivity"),
    "randomisation": ("--set", "stages=2"),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Kind → ``--model``."""

    @cache
    def made(kind: str) -> str:
        folder = tmp_path_factory.mktemp(kind)
        MAKERS[kind](folder)
        return f"hf:{folder}"

    return made


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Protocol and kind of a model → a folder of data, two items in each."""
    root = tmp_path_factory.mktemp("data")
    inputs, objects, phrases, free, hat = (root / name for name in ("inputs", "objects", "phrases", "free", "hat"))
    clips = root / "clips"
    for folder in (inputs / "images", objects / "images", phrases / "images", free / "images", free / "maps", hat):
        folder.mkdir(parents=True)
    clips.mkdir()
    for number, name in enumerate(("0", "1")):
        photo = picture(60 + 20 * number, 100)
        for folder in (inputs, objects, phrases, free):
            photo.save(folder / "images" / f"{name}.png")
        photo.convert("L").save(free / "maps" / f"{name}.png")
        photo.save(hat / f"COCO_val2014_{number:012}.jpg")
        photo.convert("L").save(hat / f"{number}_1.png")
        frames = [photo.point(lambda value, n=n: min(255, value + 5 * n)) for n in range(12)]
        frames[0].save(clips / f"{name}.gif", save_all=True, append_images=frames[1:], duration=100)
    files = ("0.png", "1.png")
    asked = [json.dumps({"image": file, "question": QUESTION}) for file in files]
    (inputs / "qa.jsonl").write_text("\n".join(asked))
    lines(objects, *((file, [("dog", (10, 30, 20, 20))]) for file in files[:1]), size=(100, 60))
    seen = [{"file": file, "maps": {"eyes": file}} for file in files]
    (free / "annotations.jsonl").write_text("\n".join(map(json.dumps, seen)))
    questions = [{"question_id": n, "image_id": n, "question": QUESTION} for n in range(2)]
    (hat / "questions.json").write_text(json.dumps({"questions": questions}))
    (phrases / "annotations.jsonl.gz").write_bytes(gzip.compress(b""))  # nobody gets as far as reading it

    def found(protocol: str, kind: str) -> Path:
        if "VQA-HAT" in protocol:
            return hat
        layout = PROTOCOLS[protocol].data
        return {"objects": objects, "phrases": phrases, "attention": free, "inputs": inputs}[layout]

    return lambda protocol, kind: (
        clips if kind == "video" and PROTOCOLS.get(protocol, ("", "", ""))[2] == "inputs" else found(protocol, kind)
    )


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("protocol", TRIED)
def test_a_protocol_measures_a_model_or_refuses_in_one_line(
    protocol: str, kind: str, model: Callable[[str], str], data: Callable[[str, str], Path]
) -> None:
    name = protocol.partition(" ")[0]
    arguments = [name, "--data", data(protocol, kind), "--model", model(kind), "--limit", 2, "--device", "cpu"]
    arguments += QUICK.get(name, ())
    if name == "data-randomisation":
        arguments += ["--against", model(kind)]
    if protocol not in MEASURED[kind]:
        assert refusal("evaluate", *arguments)
        return
    found = record("evaluate", *arguments)
    assert found["items"] >= 1 and any(mean["rows"] for line in found["lines"] for mean in line["means"].values())


@pytest.mark.parametrize("kind", ["captioner", "both", "answerer"])
def test_an_unchanged_photo_has_the_explained_probabilities(
    kind: str, model: Callable[[str], str], tmp_path: Path
) -> None:
    """The probe runs what was explained: the same prompt, and the same words."""
    path = tmp_path / "0.png"
    picture().save(path)
    verb = "vqa" if kind == "answerer" else "caption"
    task: Any = mmexplain.load(model(kind), verb, "cpu")
    content: Any = Asked(path, QUESTION) if verb == "vqa" else path
    bound, batch, (explanation,) = Faithfulness(task, tmp_path, ["gradcam"])._alone([content])
    probe = probe_of(bound, batch, [explanation])
    unchanged = Question(0, 3, lambda numbers: probe.inputs.expand(len(numbers), -1, -1, -1))
    (scores,) = ask(probe, [unchanged], probability(probe))
    assert explanation.probabilities is not None
    assert scores.shape == (3, len(explanation))
    torch.testing.assert_close(scores, explanation.probabilities.expand(3, -1), rtol=1e-4, atol=0)
    own = task.explain(path, QUESTION) if verb == "vqa" else task.explain(path)
    assert explanation.targets == own.targets
    assert explanation.map(0).equal(own.map(0))


def test_a_model_that_serves_both_answers_where_there_are_questions(
    model: Callable[[str], str], data: Callable[[str, str], Path], tmp_path: Path
) -> None:
    photo = tmp_path / "photo.png"
    picture().save(photo)
    kind = model("both")
    assert record("layers-report", photo, "--model", kind)["task"] == "caption"
    found = record("layers-report", photo, "--model", kind, "--question", QUESTION)
    assert (found["task"], found["text"]) == ("vqa", QUESTION)
    folder = data("faithfulness", "both")
    found = record("evaluate", "faithfulness", "--data", folder, "--model", kind, "--set", "metrics=drop")
    assert any("likeliest answer" in note for note in found["notes"])
