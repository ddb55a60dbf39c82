"""What is asked: limits, and the code that asks the same."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import mmexplain
from mmexplain.app.asked import Asked
from mmexplain.app.desk import Desk, Stopped
from mmexplain.app.shelf import Shelf
from mmexplain.errors import InputError, ModelError
from tests.command_line import run

QUESTION = "what is the colour of the ball"


@pytest.fixture(scope="module")
def desk() -> Desk:
    return Desk(Shelf(device="cpu"))


@pytest.fixture
def photo(tmp_path: Path) -> str:
    Image.effect_noise((120, 80), 70).convert("RGB").save(tmp_path / "my photo.jpg")
    return str(tmp_path / "my photo.jpg")


ASKED = {
    "caption": {"text": "a dog runs"},
    "some words": {"text": "a dog and a ball", "targets": ("ball",), "versus": (("ball", "cat"),)},
    "the model speaks": {"methods": ("gradcam", "attention"), "layers": ("encoder.bn2.act",)},
    "vqa": {"text": QUESTION},
    "answers": {"text": QUESTION, "targets": ("red", "ball"), "versus": (("red", "blue"),), "weight": 0.5, "top": 2},
    "no answer of its own": {"text": QUESTION, "targets": ("red",), "top": 0},
    "classify": {},
    "classes": {"targets": ("tabby", "boxer"), "versus": (("tabby", "boxer"),)},
    "a contrast": {"versus": (("tabby", "boxer"),), "weight": 0.25, "methods": ("hirescam",)},
    "the top": {"top": 5, "methods": ("occlusion(patch=100)",)},
}
VERBS = ["caption"] * 3 + ["vqa"] * 3 + ["classify"] * 4
MODELS = {"caption": "show-attend-tell", "vqa": "deeper-lstm-norm-i", "classify": "efficientnet-lite0"}


@pytest.mark.parametrize(("verb", "told"), zip(VERBS, ASKED.values(), strict=True), ids=ASKED)
def test_the_code_asks_the_same(
    verb: str, told: dict[str, Any], desk: Desk, photo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked(verb, photo, MODELS[verb], **told)
    expected = desk.explain(asked)
    monkeypatch.chdir(Path(photo).parent)
    names: dict[str, Any] = {}
    exec(compile(asked.python(), "python", "exec"), names)
    found = names["explanation"]
    assert (found.text, found.targets, list(found.maps)) == (expected.text, expected.targets, list(expected.maps))
    torch.testing.assert_close(found.scores, expected.scores)
    for key, values in expected.maps.items():
        torch.testing.assert_close(found.maps[key], values)
    assert list(found.text_maps) or verb == "classify"
    assert Path("explanation.html").is_file()
    line = shlex.split(asked.command())
    assert line[0] == "mmexplain"
    done = run(*line[1:], "--out", "line.safetensors")
    assert done.exit_code == 0, done.output
    shell = mmexplain.Explanation.load("line.safetensors")
    assert (shell.text, shell.targets, list(shell.maps)) == (expected.text, expected.targets, list(expected.maps))
    torch.testing.assert_close(shell.scores, expected.scores)
    assert list(shell.text_maps) == list(expected.text_maps)


def test_sanity_is_part_of_the_code(desk: Desk, photo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked("vqa", photo, MODELS["vqa"], text=QUESTION, targets=("red",), sanity=True)
    expected = desk.explain(asked).provenance["sanity"]
    monkeypatch.chdir(Path(photo).parent)
    names: dict[str, Any] = {}
    exec(compile(asked.python(), "python", "exec"), names)
    assert names["explanation"].provenance["sanity"] == expected
    assert "random weights" in Path("explanation.html").read_text(encoding="utf-8")
    assert "--sanity" in asked.command()


@pytest.mark.parametrize(
    ("told", "problem"),
    [
        ({"source": ""}, "there is no photo yet"),
        ({"verb": "vqa", "text": "  "}, "there is no question"),
        (
            {"methods": ("gradcam", "layercam", "hirescam", "xgradcam", "cam", "eigencam", "gradcam++")},
            "7 methods at once",
        ),
        ({"methods": ("occlusion(patch=[5, 6, 7, 8, 9, 10, 11])",)}, "7 methods at once"),
        ({"methods": ("rise(masks=100000000)",)}, "more than the app does"),
        ({"methods": ("rise(masks=5, grid=2000)",)}, "more than the app does"),
        ({"methods": ("smoothgrad(samples=1000000)",)}, "more than the app does"),
        ({"layers": tuple("abcdefghi")}, "9 layers at once"),
        ({"targets": tuple(map(str, range(33)))}, "33 targets at once"),
        ({"top": 10**9}, "1000000000 targets at once"),
        ({"text": "a " * 300}, "599 letters"),
        ({"versus": (("a" * 501, "b"),)}, "501 letters"),
        ({"versus": (("dog", "cat"),), "weight": 0.5}, "leave the weight at 1"),
        ({"versus": (("dog", "cat"), ("Dog", "man"))}, "'dog' is held against two words"),
        ({"targets": ("dog, cat",)}, "is not one word or phrase"),
    ],
)
def test_too_much_or_too_little(told: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        Asked(**{"verb": "caption", "source": "photo.jpg", "model": "m", **told}).checked()


def test_large_photos_are_refused_by_their_header(desk: Desk, tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    Image.new("1", (20_000, 10_000)).save(large)
    with pytest.raises(InputError, match=r"'large.png' has more than 64 megapixels"):
        desk.explain(Asked("caption", str(large), MODELS["caption"]))


def test_messages_do_not_tell_where_files_lie(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no photo", encoding="utf-8")
    with pytest.raises(InputError, match=r"^'text.jpg' is not an image"):
        desk.explain(Asked("classify", str(tmp_path / "text.jpg"), MODELS["classify"]))


def test_only_the_models_of_the_shelf(desk: Desk, photo: str) -> None:
    with pytest.raises(ModelError, match="'/etc/passwd' is not among the models of this app"):
        desk.explain(Asked("caption", photo, "/etc/passwd"))
    with pytest.raises(InputError, match="'captions' is no task of this app; closest: 'caption'"):
        desk.shelf.names("captions")
    task = desk.shelf.task("caption", MODELS["caption"])
    assert desk.shelf.task("caption") is task, "loaded once"
    layers = desk.shelf.layers("caption", MODELS["caption"])
    assert task.default_layer() in layers and len(layers) > 5


def test_named_models_come_first(tmp_path: Path) -> None:
    shelf = Shelf(["show-and-tell", "vqa=hierarchical-coattention"], device="cpu")
    assert shelf.names("caption") == ["show-and-tell", "show-attend-tell"]
    assert shelf.names("vqa") == ["hierarchical-coattention", "deeper-lstm-norm-i"]
    with pytest.raises(ModelError, match="unknown model 'show-and-tel'; closest: 'show-and-tell'"):
        Shelf(["show-and-tel"])


@pytest.mark.parametrize("verb", ["explain", "layers"])
def test_what_takes_too_long_is_called_off(verb: str, desk: Desk, photo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock jumps past the limit after the first step of the work itself."""
    steps: list[int] = []
    clock = time.monotonic
    monkeypatch.setattr("mmexplain.app.desk.time.monotonic", lambda: clock() + (1000 if steps else 0))
    methods = ("rise(masks=800)",) if verb == "explain" else ("scorecam",)
    with pytest.raises(Stopped, match="stopped after 300 s, the app's limit"):
        getattr(desk, verb)(
            Asked("classify", photo, MODELS["classify"], methods=methods),
            progress=lambda done, total: steps.append(done),
        )
    assert len(steps) == 1, "in the midst of its work"


def test_a_desk_that_closes_ends_what_it_does(desk: Desk, photo: str) -> None:
    closing = Desk(desk.shelf)
    with pytest.raises(Stopped):
        closing.explain(
            Asked("classify", photo, MODELS["classify"], methods=("rise(masks=8000)",)),
            lambda done, total: closing._closed.set(),
        )


def test_names_that_begin_like_options(desk: Desk, photo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = Path(photo).rename(Path(photo).parent / "-photo.jpg")
    monkeypatch.chdir(odd.parent)
    asked = Asked("vqa", str(odd), MODELS["vqa"], text="-what is the colour of the ball")
    line = shlex.split(asked.command())[1:]
    line[line.index("--") : line.index("--")] = ["--json"]
    done = run(*line)
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("verb", ["classify", "caption", "vqa"])
def test_the_code_of_the_layers_tab_runs(verb: str, photo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from mmexplain.app import layers_tab

    texts = {"classify": "a text that is for captions", "caption": "a dog runs", "vqa": QUESTION}
    targets = {"classify": ("tabby",), "caption": ("dog",), "vqa": ("red",)}
    asked = Asked(verb, photo, MODELS[verb], text=texts[verb], targets=targets[verb])
    monkeypatch.chdir(Path(photo).parent)
    names: dict[str, Any] = {}
    exec(compile(layers_tab._python(asked, False), "python", "exec"), names)
    assert [target.label for target in names["report"].explanation.targets] == list(targets[verb])
    line = shlex.split(layers_tab._command(asked, False))
    done = run(*line[1:-1], "--out", "layers.json", line[-1])
    assert done.exit_code == 0, done.output
