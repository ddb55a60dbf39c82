"""The command line: what it prints, what it writes, what it never does."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mmexplain.cli import cli
from mmexplain.explanation import Explanation
from mmexplain.methods.registry import METHODS
from mmexplain.methods.text import TEXT_METHODS
from mmexplain.tasks.registry import load
from tests.command_line import (
    one_line,
    record,
    refusal,
    run,
)

pytest_plugins = ["tests.command_line_fixtures"]
pytestmark = pytest.mark.usefixtures("own_folder")

VERBS = (
    "study",
    "app",
    "caption",
    "vqa",
    "classify",
    "action",
    "layers-report",
    "run",
    "gallery",
    "evaluate",
    "methods",
    "models",
    "layers",
    "demo",
)


# -- help -------------------------------------------------------------------------------------------------------------


def test_the_verbs_are_those_that_were_promised() -> None:
    assert set(cli.commands) == set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_examples(verb: str) -> None:
    result = run(verb, "--help")
    assert result.exit_code == 0
    assert f"mmexplain {verb}" in result.stdout.partition("Examples:")[2]


LIGHT = """
import sys
from click.testing import CliRunner
from mmexplain.cli import cli
assert CliRunner().invoke(cli, sys.argv[2:]).exit_code == 0
heavy = [name for name in sys.argv[1].split(",") if name in sys.modules]
assert not heavy, heavy
"""


@pytest.mark.parametrize(
    ("arguments", "unneeded"),
    [
        (["--help"], "torch,torchvision,timm,transformers,numpy,PIL,matplotlib,rich,jinja2,nltk"),
        (["caption", "--help"], "torch,torchvision,timm,transformers,numpy,PIL,matplotlib,rich,jinja2,nltk"),
        (["models"], "torch,torchvision,timm,transformers,numpy"),
    ],
    ids=["help", "help of a verb", "models"],
)
def test_what_is_quick_imports_nothing_heavy(arguments: list[str], unneeded: str) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", LIGHT, unneeded, *arguments], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert seconds < 0.5, "the work alone, apart from whatever else the machine does; 0.1 on a quiet one"


# -- the record -------------------------------------------------------------------------------------------------------

TARGET = {
    "label": str,
    "kind": str,
    "index": (int, type(None)),
    "content": bool,
    "score": float,
    "probability": (float, type(None)),
    "layer": str,
    "method": str,
    "peak": (list, type(None)),
}


def test_the_record_has_the_promised_shape_for_every_task(photo: Path, classifier: str, captioner: str) -> None:
    for verb, model in (("classify", classifier), ("caption", captioner)):
        found = record(verb, photo, "--model", model, "--method", "gradcam", "--method", "gradcam++")
        assert list(found) == ["task", "model", "input", "text", "words", "targets", "files", "seconds"]
        assert " ".join(found["words"]) == (found["text"] or "")
        assert (found["task"], found["model"], found["input"], found["files"]) == (verb, model, str(photo), [])
        assert found["seconds"] > 0
        for target in found["targets"]:
            assert list(target) == [*TARGET, *(["words"] if verb == "caption" else [])]
            assert all(isinstance(target[name], kind) for name, kind in TARGET.items())
            assert target["peak"] is None or (0 <= target["peak"][0] < 160 and 0 <= target["peak"][1] < 120)
        assert {target["method"] for target in found["targets"]} == {"gradcam", "gradcam++"}


def test_the_record_says_what_the_library_says(photo: Path, classifier: str) -> None:
    targets = record("classify", photo, "--model", classifier, "--target", "cloud", "--target", "0")["targets"]
    expected = load(classifier, device="cpu").explain(photo, ["cloud", 0])  # type: ignore[attr-defined]
    assert [target["label"] for target in targets] == ["cloud", "square"]
    for number, target in enumerate(targets):
        assert target["score"] == pytest.approx(float(expected.scores[number]), abs=1e-5)
        assert target["peak"] == (None if expected.peak(number) is None else list(expected.peak(number)))


def test_an_impossible_word_has_no_number_in_the_record(photo: Path, captioner: str, monkeypatch: Any) -> None:
    honest = Explanation.to_json

    def with_infinity(self: Explanation, files: list[str] | None = None) -> dict[str, Any]:
        found = honest(self, files)
        found["targets"][0]["score"] = float("-inf")
        return found

    monkeypatch.setattr(Explanation, "to_json", with_infinity)
    assert record("caption", photo, "--model", captioner)["targets"][0]["score"] is None


def test_words_spans_contrasts_and_the_whole(photo: Path, captioner: str) -> None:
    said = "a dog runs on red grass"
    arguments = ["--caption", said, "--words", "red grass, dog", "--versus", "dog", "cat", "--whole"]
    found = record("caption", photo, "--model", captioner, *arguments)
    assert found["text"] == said
    kinds = [(target["label"], target["kind"], target["index"]) for target in found["targets"]]
    assert kinds == [
        ("red grass", "span", 4),
        ("dog", "word", 1),
        ("dog rather than cat", "contrast", 1),
        (said, "caption", 0),
    ]
    every = record("caption", photo, "--model", captioner, "--caption", said)["targets"]
    assert [(target["label"], target["content"]) for target in every] == [
        (word, word not in ("a", "on")) for word in said.split()
    ]


def test_classes_and_contrasts(photo: Path, classifier: str) -> None:
    assert len(record("classify", photo, "--model", classifier)["targets"]) == 3
    assert len(record("classify", photo, "--model", classifier, "--top", 2)["targets"]) == 2
    found = record("classify", photo, "--model", classifier, "--target", "cloud", "--versus", "square", "stripe")
    assert [target["label"] for target in found["targets"]] == ["cloud", "square rather than stripe"]


def test_layers_can_be_globs(photo: Path, classifier: str) -> None:
    found = record("classify", photo, "--model", classifier, "--top", 1, "--layer", "layer[34]", "--layer", "layer2")
    assert [target["layer"] for target in found["targets"]] == ["layer3", "layer4", "layer2"]


def test_beams_agree_on_what_a_greedy_search_can_say(photo: Path, captioner: str) -> None:
    assert record("caption", photo, "--model", captioner, "--beam", 1)["text"]


# -- for people -------------------------------------------------------------------------------------------------------


def test_a_person_sees_the_caption_a_table_and_the_report(photo: Path, captioner: str, tmp_path: Path) -> None:
    result = run("caption", photo, "--model", captioner, "--caption", "a dog runs")
    lines = result.stdout.splitlines()
    assert result.exit_code == 0 and result.stderr == ""
    assert lines[0] == "a dog runs"
    assert lines[2].split()[:2] == ["word", "probability"]
    assert [line.split()[0] for line in lines[3:6]] == ["a", "dog", "runs"]
    assert "wrote photo.mmexplain.html" in lines
    assert "<html" in (tmp_path / "photo.mmexplain.html").read_text(encoding="utf-8")
    assert run("caption", photo, "--model", captioner).exit_code == 0, "its own report may be replaced"


def test_methods_and_models_are_listed() -> None:
    maps, _, texts = run("methods").stdout.partition("\n\n")
    rows = maps.splitlines()[1:]
    assert [line.split()[0] for line in rows if not line.startswith(" ")] == list(METHODS)
    told = [line for line in rows if line.startswith(" ")]
    for method in METHODS.values():
        assert any(f"needs {method.needs}; {method.cost}; {method.paper}" in line for line in told)
    assert "parameters: patch=35, stride=0, frames=8, fill='grey'" in maps
    assert [line.split()[0] for line in texts.splitlines()[1:]] == list(TEXT_METHODS)
    listed = [line.split()[0] for line in run("models").stdout.splitlines()[1:]]
    assert {"efficientnet-lite0", "show-attend-tell", "torchvision:NAME"} <= set(listed)


def test_methods_are_readable_in_a_narrow_terminal(monkeypatch: Any) -> None:
    monkeypatch.setattr("mmexplain.commands.tables.PIPED_WIDTH", 100)
    maps = run("methods").stdout.partition("\n\n")[0].splitlines()
    assert all(len(line.rstrip()) <= 100 for line in maps)
    assert len(maps) < 4 * len(METHODS)


def test_methods_with_parameters(photo: Path, classifier: str, captioner: str) -> None:
    asked = ["--method", "occlusion(patch=[60, 200], stride=90)", "--method", "gradcam"]
    names = ["occlusion(patch=60, stride=90)", "occlusion(patch=200, stride=90)", "gradcam"]
    for verb, model in (("classify", classifier), ("caption", captioner)):
        targets = record(verb, photo, "--model", model, *asked)["targets"]
        assert list(dict.fromkeys(target["method"] for target in targets)) == names
        assert {target["layer"] for target in targets if target["method"] != "gradcam"} == {"input"}
    files = record("classify", photo, "--model", classifier, *asked, "--top", 1, "--out", "maps/")["files"]
    pictures = [Path(file).name for file in files if file.endswith(".png")]
    assert len(pictures) == 3
    assert "occlusion-patch-60-stride-90" in pictures[0] and "occlusion-patch-200-stride-90" in pictures[1]
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_.") for name in pictures)
    loaded = Explanation.load("maps/explanation.safetensors")
    assert loaded.methods == names
    result = run("classify", photo, "--model", classifier, "--method", "occlusion(patch=90, stride=90)")
    assert "occlusion(patch=90, stride=90) at input" in result.stdout


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("oclusion", "unknown method 'oclusion'; closest: 'occlusion'"),
        ("occlusion(patch=15", "it is written NAME or NAME(PARAMETER=VALUE, ...)"),
        ("occlusion(15)", "it is written NAME or NAME(PARAMETER=VALUE, ...)"),
        ("occlusion(size=15)", "'occlusion' has no parameter 'size'"),
        ("occlusion(patch=1.5)", "patch of 'occlusion' is like 35, not 1.5"),
        ("gradcam(layer=3)", "it has none"),
    ],
)
@pytest.mark.parametrize("verb", ["classify", "caption", "action"])
def test_wrong_methods_are_told_before_a_model_is_loaded(
    photo: Path, clip: Path, verb: str, name: str, message: str, monkeypatch: Any
) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("mmexplain.tasks.registry.load", never)
    assert message in refusal(verb, clip if verb == "action" else photo, "--method", name)


def test_progress_of_methods_that_take_long(
    photo: Path, clip: Path, classifier: str, mover: str, monkeypatch: Any
) -> None:
    said: list[str] = []

    @contextmanager
    def noting(text: str) -> Iterator[Any]:
        said.append(text)
        yield said.append

    monkeypatch.setattr("mmexplain.commands.running.working", noting)
    method = ["--method", "rise(masks=3)"]
    assert run("classify", photo, "--model", classifier, *method).exit_code == 0
    assert "explaining: 3 of 3 steps" in said
    said.clear()
    assert run("action", clip, "--model", mover, *method, "--sampling", "uniform").exit_code == 0
    assert "explaining: 3 of 3 steps" in said
    said.clear()
    assert run("action", clip, "--model", mover, "--frames", 16, "--stride", 1).exit_code == 0
    assert "explaining: 4 of 4 steps" in said, "two windows, each of which is seen twice"


def test_layers_that_are_listed_can_be_explained(photo: Path, classifier: str, captioner: str) -> None:
    for verb, model in (("classify", classifier), ("caption", captioner)):
        default = load(model, device="cpu").default_layer()
        rows = [line.split() for line in run("layers", "--model", model).stdout.splitlines()[1:]]
        assert [row[0] for row in rows if row[-1] == "default"] == [default]
        everything = run("layers", "--model", model, "--all").stdout.splitlines()[1:]
        assert len(everything) > len(rows) or verb == "caption", "a captioner's encoder puts out nothing but maps"
        for row in rows[:: len(rows) // 5]:
            assert record(verb, photo, "--model", model, "--layer", row[0])["targets"][0]["layer"] == row[0]


# -- conduct ----------------------------------------------------------------------------------------------------------


def test_noise_of_libraries_stays_out_of_the_result(photo: Path, classifier: str, monkeypatch: Any) -> None:
    import logging

    import mmexplain.tasks.registry as registry

    honest = registry.load

    def noisy(*arguments: Any, **options: Any) -> Any:
        print("hello from a library")
        warnings.warn("this will be removed", stacklevel=2)
        logging.getLogger("library").warning("a warning")
        return honest(*arguments, **options)

    monkeypatch.setattr(registry, "load", noisy)
    result = run("classify", photo, "--model", classifier, "--json")
    assert json.loads(result.stdout)["task"] == "classify"
    assert result.stderr == "hello from a library\n"


def test_an_interrupt_exits_with_130_and_a_bug_keeps_its_traceback(photo: Path, monkeypatch: Any) -> None:
    import mmexplain.io

    def raising(error: type[BaseException]) -> Any:
        def fail(*_: Any) -> None:
            raise error("boom")

        return fail

    monkeypatch.setattr(mmexplain.io, "load_image", raising(KeyboardInterrupt))
    result = run("classify", photo)
    assert (result.exit_code, result.stdout, one_line(result.stderr)) == (130, "", "interrupted")
    monkeypatch.setattr(mmexplain.io, "load_image", raising(RuntimeError))
    with pytest.raises(RuntimeError, match="boom"):
        run("classify", photo)
    monkeypatch.setattr(mmexplain.io, "load_image", raising(MemoryError))
    assert "out of memory" in refusal("classify", photo)
