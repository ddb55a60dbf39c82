"""``mmexplain evaluate``: what it prints and writes, how it goes on, what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import pytest

from mmexplain.commands import progress
from mmexplain.commands.protocol_options import OWN_FLAGS, _written, chosen
from mmexplain.errors import InputError
from mmexplain.evaluate import PROTOCOLS, Item, Protocol, Row, get
from mmexplain.evaluate.pointing import Pointing
from mmexplain.evaluate.registry import LAYOUTS
from tests.command_line import one_line, picture, record, refusal, run
from tests.evaluate.objects import lines

pytest_plugins = ["tests.command_line_fixtures"]
pytestmark = pytest.mark.usefixtures("own_folder")

PHOTOS = [f"{number:02}.png" for number in range(10)]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "images").mkdir(parents=True)
    for name in PHOTOS:
        picture().save(folder / "images" / name)
    return lines(folder, *((name, [("square", (10, 60, 43, 50))]) for name in PHOTOS), size=(160, 120))


def test_the_table_and_nothing_written(data: Path, classifier: str) -> None:
    before = set(Path().iterdir())
    result = run("evaluate", "pointing", "--data", data, "--model", classifier, "--limit", 3, "--method", "gradcam")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    printed = result.stdout.splitlines()
    heads = next(line for line in printed if line.startswith("subset"))
    assert "accuracy ↑" in heads and heads.split()[-1] == "n"
    assert any(line.split()[:2] == ["all", "gradcam"] and line.split()[-1] == "3" for line in printed)
    assert any(line.startswith("3 items; mean [95% bootstrap interval") for line in printed)
    assert set(Path().iterdir()) == before


def test_the_record_and_the_folder(data: Path, classifier: str) -> None:
    arguments = ("evaluate", "localisation", "--data", data, "--model", classifier, "--limit", 2, "--out", "out")
    found = record(*arguments, "--method", "gradcam", "--method", "gradcam++", "--layer", "layer3")
    assert found["protocol"] == "localisation" and found["items"] == 2
    assert [line["labels"]["method"] for line in found["lines"]] == ["gradcam", "gradcam++"]
    assert found["settings"]["layer"] == "layer3"
    assert found["files"] == ["out/result.json", "out/result.md", "out/result.png"]
    assert {path.name for path in Path("out").iterdir()} == {"result.json", "result.md", "result.png", "rows.jsonl"}
    assert json.loads(Path("out/result.json").read_text())["lines"] == found["lines"]
    assert "other settings (layer, methods): choose another --out" in refusal(*arguments)


def test_an_interrupted_run_says_whether_it_goes_on(
    data: Path, classifier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("evaluate", "pointing", "--data", data, "--model", classifier)
    measure, measured = Pointing.measure, []

    def stopping(self: Pointing, items: Sequence[Item]) -> Sequence[Sequence[Row]]:
        if measured:
            raise KeyboardInterrupt
        measured.extend(item.key for item in items)
        return measure(self, items)

    monkeypatch.setattr(Pointing, "measure", stopping)
    stopped = run(*arguments, "--out", "out")
    assert stopped.exit_code == 130 and stopped.stdout == ""
    assert one_line(stopped.stderr) == "interrupted; the same command goes on where it stopped"
    assert measured == PHOTOS[:8]
    without = run(*arguments)
    assert without.exit_code == 130 and "with --out the same command would go on" in one_line(without.stderr)

    again: list[str] = []

    def counted(self: Pointing, items: Sequence[Item]) -> Sequence[Sequence[Row]]:
        again.extend(item.key for item in items)
        return measure(self, items)

    monkeypatch.setattr(Pointing, "measure", counted)
    assert record(*arguments, "--out", "out")["items"] == 10
    assert again == PHOTOS[8:]


def test_refusals(data: Path, classifier: str, captioner: str, photo: Path) -> None:
    base = ("evaluate", "pointing", "--data", data, "--model")
    assert "closest: 'pointing'" in refusal("evaluate", "pointin", "--data", data, "--model", classifier)
    assert "no such file or folder: 'nowhere'" in refusal(
        "evaluate", "pointing", "--data", "nowhere", "--model", classifier
    )
    assert "unknown method 'gradcan'; closest: 'gradcam'" in refusal(*base, classifier, "--method", "gradcan")
    assert "closest: 'layer4'" in refusal(*base, classifier, "--layer", "layer9")
    assert "is for classifiers with class names" in refusal(*base, captioner)
    assert "is no folder" in refusal(*base, classifier, "--out", photo)
    assert "--limit" in refusal(*base, classifier, "--limit", 0)
    assert "--data" in refusal("evaluate", "pointing", "--model", classifier)
    assert "is no data with boxes" in refusal("evaluate", "pointing", "--data", photo, "--model", classifier)


def test_what_is_wrong_is_told_before_anything_is_loaded(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("--data", data, "--model", "no such model", "--out")
    (tmp_path / "file").write_text("")
    assert "unknown protocol 'pointin'" in refusal("evaluate", "pointin", *arguments, tmp_path / "file" / "out")
    assert not (tmp_path / "out").exists()
    assert "cannot write to --out" in refusal("evaluate", "pointing", *arguments, tmp_path / "file" / "out")

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mmexplain.commands.folder.TemporaryFile", full)
    assert "no space left" in refusal("evaluate", "pointing", *arguments, tmp_path / "out")


def test_data_of_another_layout_is_told_which_one_is_wanted(
    data: Path, photo: Path, classifier: str, answerer: str
) -> None:
    base = ("evaluate", "human-attention", "--data")
    told = refusal(*base, photo.parent, "--model", classifier)
    assert "annotations.jsonl with 'file' and 'maps' on each line, beside images/ and maps/" in told
    assert "'maps' {kind: file in maps/}" in refusal(*base, data, "--model", classifier), "boxes are no maps"
    assert "no questions (*questions*.json) as VQA-HAT's layout has" in refusal(*base, data, "--model", answerer)


def test_an_unknown_protocol_is_told_without_torch(data: Path) -> None:
    code = (
        "import sys\n"
        "from mmexplain.cli import cli\n"
        f"try: cli(['evaluate', 'pointin', '--data', {str(data)!r}, '--model', 'm'])\n"
        "except SystemExit as end: assert end.code == 2\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_options_of_a_protocol(data: Path, classifier: str) -> None:
    arguments = ("evaluate", "pointing", "--data", data, "--model", classifier, "--limit", 1)
    found = record(*arguments, "--seed", 7, "--set", "tolerance=3", "--set", "reject=0, 0.5")
    settings = found["settings"]
    assert (settings["seed"], settings["tolerance"], settings["reject"]) == (7, 3.0, [0.0, 0.5])
    assert record(*arguments)["settings"]["seed"] == 0
    told = refusal(*arguments, "--set", "tolerances=3")
    assert told == (
        "--set 'tolerances': no such option; closest: 'tolerance' (there are: tolerance=15, reject=0.0,0.25,0.5,0.75)"
    )
    assert "--set 'tolerance': write NAME=VALUE" in refusal(*arguments, "--set", "tolerance")
    assert "--set tolerance=far: a number is wanted" in refusal(*arguments, "--set", "tolerance=far")
    assert "tolerance=-1.0: a number of pixels cannot be negative" in refusal(*arguments, "--set", "tolerance=-1")
    assert "no such option" in refusal(*arguments, "--set", "seed=1"), "it has a flag"
    assert "there are: none" in refusal(
        "evaluate", "human-attention", "--data", data, "--model", classifier, "--set", "a=1"
    )


@pytest.mark.parametrize(
    ("protocol", "texts", "wanted"),
    [
        ("faithfulness", ["metrics=drop,road", "steps=16"], {"metrics": ["drop", "road"], "steps": 16}),
        ("faithfulness", ["steps=none", "samples=50"], {"steps": None, "samples": 50}),
        ("grounding", ["captions=1", "split=dev"], {"captions": 1, "split": "dev"}),
        ("randomisation", ["modes=cascading", "stages = 4"], {"modes": ["cascading"], "stages": 4}),
        ("localisation", ["share=.2"], {"share": 0.2}),
    ],
)
def test_values_have_the_types_of_the_constructor(protocol: str, texts: list[str], wanted: dict[str, Any]) -> None:
    assert chosen(get(protocol), texts) == wanted


@pytest.mark.parametrize("text", ["steps=1.5", "steps=", "samples=none", "metrics"])
def test_values_of_other_types_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"is wanted|NAME=VALUE"):
        chosen(get("faithfulness"), [text])


def test_every_option_of_every_protocol_has_a_type_that_can_be_set() -> None:
    """The default, written out and read back, is itself."""
    for name in PROTOCOLS:
        kind = get(name)
        for option, parameter in signature(kind).parameters.items():
            if parameter.kind is parameter.KEYWORD_ONLY and option not in OWN_FLAGS:
                (value,) = chosen(kind, [f"{option}={_written(parameter.default)}"]).values()
                listed = isinstance(parameter.default, tuple)
                assert value == (list(parameter.default) if listed else parameter.default), (name, option)


def test_the_help_lists_the_protocols_with_their_data() -> None:
    printed = run("evaluate", "--help").stdout.splitlines()
    for name, held in PROTOCOLS.items():
        (line,) = [line for line in printed if line.split()[:1] == [name]]
        assert line.endswith(f" {held.data}") and held.what in line and len(line) <= 80
        assert any(line.split()[:1] == [held.data] for line in printed)
    assert {held.data for held in PROTOCOLS.values()} == set(LAYOUTS)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_is_found_by_its_name(name: str) -> None:
    kind = get(name)
    assert issubclass(kind, Protocol) and kind.name == name and kind.title and kind.metrics


def test_the_package_is_an_attribute_that_loads_when_used() -> None:
    code = (
        "import sys, mmexplain; assert 'torch' not in sys.modules;"
        "assert callable(mmexplain.evaluate.run) and callable(mmexplain.evaluate.get);"
        "import mmexplain.evaluate as e; from mmexplain import evaluate; assert e is evaluate is mmexplain.evaluate;"
        "assert 'evaluate' in dir(mmexplain) and callable(mmexplain.explain)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_log_gets_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clock = iter([0.0, 10.0, 70.0, 70.0, 100.0])
    monkeypatch.setattr(progress, "monotonic", lambda: next(clock))
    with progress.counting("pointing") as tell:
        for done in (8, 16, 24):
            tell(done, 100)
    assert capsys.readouterr().err == "pointing: 16 of 100\n"


def test_a_terminal_gets_a_bar_with_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.progress import Progress, TimeRemainingColumn

    seen: list[Any] = []
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    start = Progress.start
    monkeypatch.setattr(Progress, "start", lambda self: (seen.append(self), start(self))[1])
    with progress.counting("pointing") as tell:
        tell(8, 100)
        assert (seen[0].tasks[0].completed, seen[0].tasks[0].total) == (8, 100)
    assert any(isinstance(column, TimeRemainingColumn) for column in seen[0].columns)


def test_two_models(data: Path, classifier: str) -> None:
    arguments = ("evaluate", "data-randomisation", "--data", data, "--model", classifier)
    found = record(*arguments, "--against", classifier, "--limit", 1)
    assert found["settings"]["against"] == found["settings"]["model"] == classifier
    assert (
        found["settings"]["weights against"] == found["settings"]["weights"] and len(found["settings"]["weights"]) == 8
    )
    (line,) = found["lines"]
    assert all(line["means"][name]["value"] == pytest.approx(1) for name in ("signed", "absolute", "ssim", "hog"))
    assert "compares two models: name the other with --against" in refusal(*arguments)
    other = ("evaluate", "pointing", "--data", data, "--model", classifier, "--against", classifier)
    assert "measures one model: --against is for those that compare two" in refusal(*other)
