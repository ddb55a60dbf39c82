"""The command line: what it prints, what it writes, what it never does."""

from __future__ import annotations

import errno
import json
import resource
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mmexplain.cli import cli
from mmexplain.explanation import Explanation
from mmexplain.methods.registry import METHODS
from mmexplain.tasks.registry import load
from tests.command_line import CLASSES, one_line, picture, refusal, run, save_classifier, write_card

pytest_plugins = ["tests.command_line_fixtures"]

VERBS = ("caption", "classify", "methods", "models", "layers", "demo")


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def record(*arguments: object) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    return dict(json.loads(result.stdout))


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
        assert list(found) == ["task", "model", "input", "text", "targets", "files", "seconds"]
        assert (found["task"], found["model"], found["input"], found["files"]) == (verb, model, str(photo), [])
        assert found["seconds"] > 0
        for target in found["targets"]:
            assert list(target) == list(TARGET)
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
    listed = [line.split()[0] for line in run("methods").stdout.splitlines()[1:]]
    assert listed == list(METHODS)
    listed = [line.split()[0] for line in run("models").stdout.splitlines()[1:]]
    assert {"efficientnet-lite0", "show-attend-tell", "torchvision:NAME"} <= set(listed)


def test_layers_that_are_listed_can_be_explained(photo: Path, classifier: str, captioner: str) -> None:
    for verb, model, default in (("classify", classifier, "layer4"), ("caption", captioner, "encoder.bn2")):
        rows = [line.split() for line in run("layers", "--model", model).stdout.splitlines()[1:]]
        assert [row[0] for row in rows if row[-1] == "default"] == [default]
        everything = run("layers", "--model", model, "--all").stdout.splitlines()[1:]
        assert len(everything) > len(rows) or verb == "caption", "a captioner's encoder puts out nothing but maps"
        for row in rows[:: len(rows) // 5]:
            assert record(verb, photo, "--model", model, "--layer", row[0])["targets"][0]["layer"] == row[0]


# -- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["maps.html", "maps.png", "maps.safetensors", "MAPS.PNG"])
def test_the_suffix_says_what_is_written(photo: Path, classifier: str, name: str) -> None:
    for _ in range(2):  # the second time over what the first one wrote
        assert record("classify", photo, "--model", classifier, "--out", name)["files"] == [name]
    if name.endswith("safetensors"):
        assert [target.label for target in Explanation.load(name).targets] != []
    elif name.endswith(".html"):
        assert "<html" in Path(name).read_text(encoding="utf-8")
    else:
        Image.open(name).verify()


@pytest.mark.parametrize("name", ["new", "new/", "deep/er/new", "with.dot/"])
def test_a_folder_gets_everything(photo: Path, classifier: str, name: str) -> None:
    arguments = ["--top", 2, "--method", "gradcam", "--method", "gradcam++", "--out", name]
    files = record("classify", photo, "--model", classifier, *arguments)["files"]
    assert sorted(map(str, Path(name).iterdir())) == sorted(files)
    assert [Path(file).suffix for file in files] == [".html", *[".png"] * 4, ".safetensors"]
    assert all(Image.open(file).size == (160, 120) for file in files if file.endswith(".png"))


def test_a_label_cannot_lead_out_of_the_folder(photo: Path, tmp_path: Path) -> None:
    model = tmp_path / "odd.safetensors"
    save_classifier(model)
    labels = ["../../outside", "C:\\con?*\x00\n.", "ø" * 300]
    write_card(model, {"architecture": "timm:test_resnet", "labels": labels})
    files = record("classify", photo, "--model", model, "--out", "in/")["files"]
    assert len(files) == 5
    assert all(Path(file).resolve().parent == tmp_path / "in" and len(Path(file).name) < 80 for file in files)


def test_the_photo_and_the_files_of_others_survive(classifier: str, tmp_path: Path) -> None:
    picture().save("photo.png")
    Path("notes.html").write_text("<html>my notes</html>")
    Path("folder").mkdir()
    Path("folder/report.html").write_text("<html>another program's report</html>")
    for out, expected in [
        ("photo.png", "the photo itself"),
        ("notes.html", "not from mmexplain"),
        ("photo.png/x.png", "folder"),
        ("photo.png/", "it is a file"),
        ("maps.gif", ".html"),
        ("nowhere/maps.html", "no folder 'nowhere'"),
        ("folder", "not from mmexplain"),
    ]:
        assert expected in refusal("classify", "photo.png", "--model", classifier, "--out", out)
    assert Path("notes.html").read_text() == "<html>my notes</html>"
    assert Path("folder/report.html").read_text() == "<html>another program's report</html>"
    with Image.open("photo.png") as image:
        assert image.tobytes() == picture().tobytes()


def test_an_empty_file_may_be_filled(photo: Path, classifier: str) -> None:
    Path("maps.html").touch()
    assert record("classify", photo, "--model", classifier, "--out", "maps.html")["files"] == ["maps.html"]


@pytest.mark.parametrize("as_json", [True, False])
def test_a_full_disk_does_not_cost_the_result(photo: Path, classifier: str, monkeypatch: Any, as_json: bool) -> None:
    def full(self: Explanation, path: Path) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(Explanation, "save", full)
    result = run("classify", photo, "--model", classifier, "--out", "maps.html", *(["--json"] if as_json else []))
    assert result.exit_code == 2
    assert "no space left on device" in one_line(result.stderr)
    if as_json:
        found = json.loads(result.stdout)
        assert (len(found["targets"]), found["files"]) == (3, [])
    else:
        assert all(label in result.stdout for label in CLASSES)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a file system that refuses even root")
@pytest.mark.parametrize("out", ["/proc/maps.html", "/proc/maps.png", "/proc/maps.safetensors", "/proc/maps/"])
def test_a_closed_folder_does_not_cost_the_result(photo: Path, classifier: str, out: str) -> None:
    result = run("classify", photo, "--model", classifier, "--out", out, "--json")
    assert result.exit_code == 2
    assert "/proc" in one_line(result.stderr)
    if result.stdout:  # root finds out when it writes, others before the work begins
        assert len(json.loads(result.stdout)["targets"]) == 3


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
