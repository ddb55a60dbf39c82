"""Whatever is given, the command line works or says in one line why it does not, and exits with 2."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.command_line import (
    one_line,
    record,
    refusal,
    save_captioner,
    save_classifier,
)

pytest_plugins = ["tests.command_line_fixtures"]
pytestmark = pytest.mark.usefixtures("own_folder")

# -- words, classes, layers, methods, models, devices -----------------------------------------------------------------


def test_an_unknown_name_is_quoted(verb: str, model: str, photo: Path) -> None:
    for option, name, expected in [
        ("--method", "gradcan", "'gradcam'"),
        ("--layer", "blocksss", "mmexplain layers"),
        ("--device", "frog", "cpu"),
        ("--device", "cuda:99", "cuda"),
    ]:
        line = refusal(verb, photo, "--model", model, option, name)
        assert name in line and expected in line


def test_an_unknown_model_is_quoted(verb: str, photo: Path) -> None:
    for name in ("efficientnet-lite9", "no/such.safetensors", ""):
        assert repr(name) in refusal(verb, photo, "--model", name)
    for family in ("torchvision", "timm"):
        assert "resnet999" in refusal(verb, photo, "--model", f"{family}:resnet999")


def test_a_model_of_the_other_verb_is_refused(photo: Path, classifier: str, captioner: str) -> None:
    assert "classification" in refusal("caption", photo, "--model", classifier)
    assert "captioning" in refusal("classify", photo, "--model", captioner)


@pytest.mark.parametrize(
    ("arguments", "quoted"),
    [
        (["--caption", ""], "empty"),
        (["--caption", "  \n "], "empty"),
        (["--caption", "!?"], "'!?'"),
        (["--caption", "a dgo runs"], "'dog'"),
        (["--caption", "a dog runs", "--words", "cat"], "'cat'"),
        (["--caption", "a dog runs", "--words", "dog runs a"], "'dog runs a'"),
        (["--caption", "a dog runs", "--words", ","], "','"),
        (["--caption", "a dog runs", "--words", ""], "''"),
        (["--caption", "a dog runs", "--versus", "cat", "dog"], "'cat'"),
        (["--caption", "a dog runs", "--versus", "dog", "zebra"], "'zebra'"),
        (["--caption", "a dog runs", "--versus", "dog", "dog"], "'dog'"),
        (["--caption", "a dog runs", "--versus", "dog", "a cat"], "'a cat'"),
        (["--beam", "0"], "--beam"),
        (["--beam", "many"], "--beam"),
    ],
)
def test_words_that_do_not_fit_are_refused(captioner: str, photo: Path, arguments: list[str], quoted: str) -> None:
    assert quoted in refusal("caption", photo, "--model", captioner, *arguments)


@pytest.mark.parametrize(
    ("arguments", "quoted"),
    [
        (["--target", "squar"], "'square'"),
        (["--target", ""], "''"),
        (["--target", "17"], "17"),
        (["--target", "-1"], "-1"),
        (["--top", "0"], "--top"),
        (["--top", "1", "--target", "square"], "--target"),
        (["--versus", "square", "square"], "'square'"),
        (["--versus", "square", "circle"], "'circle'"),
    ],
)
def test_classes_that_do_not_fit_are_refused(classifier: str, photo: Path, arguments: list[str], quoted: str) -> None:
    assert quoted in refusal("classify", photo, "--model", classifier, *arguments)


def test_a_method_that_the_model_cannot_support_is_refused(classifier: str, photo: Path) -> None:
    assert "attention" in refusal("classify", photo, "--model", classifier, "--method", "attention")


# -- checkpoints ------------------------------------------------------------------------------------------------------


def test_a_model_that_gives_nan_is_refused(verb: str, photo: Path, tmp_path: Path) -> None:
    path = tmp_path / "poisoned.safetensors"
    (save_captioner if verb == "caption" else save_classifier)(path, poison=True)
    given = ["--caption", "a dog runs"] if verb == "caption" else []
    line = refusal(verb, photo, "--model", path, *given)
    assert "nan" in line.lower()


def test_a_captioner_that_gives_nan_cannot_search_either(photo: Path, tmp_path: Path) -> None:
    save_captioner(tmp_path / "poisoned.safetensors", poison=True)
    assert "nan" in refusal("caption", photo, "--model", tmp_path / "poisoned.safetensors").lower()


def test_a_wrong_shaped_checkpoint_is_refused(verb: str, model: str, photo: Path, tmp_path: Path) -> None:
    from safetensors import safe_open
    from safetensors.torch import save_file

    path = tmp_path / "wrong.safetensors"
    with safe_open(model, framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    name = "lstm.weight_ih" if verb == "caption" else "layer1.0.conv1.weight"
    tensors[name] = tensors[name][:1].clone()
    save_file(tensors, path, metadata)
    path.with_suffix(".json").write_bytes(Path(model).with_suffix(".json").read_bytes())
    line = refusal(verb, photo, "--model", path)
    assert name in line and "wrong.safetensors" in line
    assert name in refusal("layers", "--model", path)


def test_damaged_checkpoints_are_refused(verb: str, model: str, photo: Path, tmp_path: Path) -> None:
    contents = {
        "cut.safetensors": Path(model).read_bytes()[:1000],
        "empty.safetensors": b"",
        "text.safetensors": b"these are no weights",
        "text.pth": b"these are no weights",
        "photo.png": photo.read_bytes(),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        assert name in refusal(verb, photo, "--model", tmp_path / name)
        assert name in refusal("layers", "--model", tmp_path / name)
    assert str(tmp_path) in refusal(verb, photo, "--model", tmp_path)


def test_a_captioner_needs_no_card(captioner: str, photo: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes(Path(captioner).read_bytes())
    assert record("caption", photo, "--model", alone)["targets"]


# -- the verbs without a photo ----------------------------------------------------------------------------------------


def test_layers_of_an_unknown_model_or_device_are_refused(classifier: str) -> None:
    assert "'nothing'" in refusal("layers", "--model", "nothing")
    assert "frog" in refusal("layers", "--model", classifier, "--device", "frog")
    assert "--model" in refusal("layers")


@pytest.mark.parametrize("verb_alone", ["methods", "models", "layers", "demo", "caption", "classify"])
def test_bad_usage_takes_one_line(verb_alone: str) -> None:
    line = refusal(verb_alone, "--frobnicate")
    assert "--frobnicate" in line and f"mmexplain {verb_alone} --help" in line


def test_an_unknown_verb_takes_one_line() -> None:
    assert "'captoin'" in refusal("captoin", "photo.jpg")
    assert "--frobnicate" in refusal("--frobnicate")


# -- as programs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["caption", "broken.jpg"],
        ["layers", "--model", "nothing"],
        ["demo", "--out", "broken.jpg"],
    ],
    ids=" ".join,
)
def test_the_program_itself_refuses_in_one_line(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 nothing follows")
    done = subprocess.run(
        [sys.executable, "-m", "mmexplain", *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    one_line(done.stderr)
