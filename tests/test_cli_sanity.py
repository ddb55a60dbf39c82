"""``--sanity`` on every verb that explains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mmexplain.evaluate.randomisation import quick
from mmexplain.explanation import Explanation
from mmexplain.tasks.registry import load
from tests.command_line import record, run

pytest_plugins = ["tests.command_line_fixtures"]
pytestmark = pytest.mark.usefixtures("own_folder")


@pytest.fixture(params=["caption", "classify", "vqa", "action"])
def call(request: pytest.FixtureRequest) -> list[Any]:
    """A verb with all that it must be told."""
    models = {"caption": "captioner", "classify": "classifier", "vqa": "answerer", "action": "mover"}
    source = request.getfixturevalue("clip" if request.param == "action" else "photo")
    question = ["a red dog runs"] if request.param == "vqa" else []
    return [request.param, source, *question, "--model", request.getfixturevalue(models[request.param])]


def test_a_line_for_each_method(call: list[Any]) -> None:
    result = run(*call, "--method", "gradcam", "--method", "gradcam++", "--sanity")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()[-2:]
    assert lines[0].startswith("gradcam:") and lines[1].startswith("gradcam++:")
    assert all(": with random weights the map " in line for line in lines)
    assert "with random weights" not in run(*call).stdout


def test_the_record_has_an_entry(call: list[Any], tmp_path: Path) -> None:
    found = record(*call, "--sanity", "--out", tmp_path / "maps.safetensors")
    (entry,) = found["sanity"]
    numbers = {"correlation", "low", "high", "signed", "absolute", "targets", "undefined", "draws"}
    assert set(entry) == {"layer", "method", "verdict", "says"} | numbers
    assert entry["draws"] == 0 or entry["low"] <= entry["correlation"] <= entry["high"]
    assert entry["targets"] + entry["undefined"] == len(found["targets"])
    assert entry["verdict"] in ("little", "partly", "depends", "undefined")
    assert (entry["correlation"] is None) == (entry["verdict"] == "undefined")
    assert Explanation.load(tmp_path / "maps.safetensors").provenance["sanity"] == [entry]
    assert "sanity" not in record(*call)


def test_the_report_shows_the_verdicts(call: list[Any], tmp_path: Path) -> None:
    found = record(*call, "--method", "gradcam", "--method", "gradcam++", "--sanity", "--out", tmp_path / "a.html")
    page = (tmp_path / "a.html").read_text()
    readout = page.index('class="readout"')
    for entry in found["sanity"]:
        verdict, method = entry["verdict"], entry["method"]
        shown = f'<p data-verdict="{verdict}"><b><bdi>{method}</bdi></b>: {entry["says"]}.</p>'
        assert readout < page.index(shown) < page.index("How this was made")
    assert page.count("data-verdict=") == 2 + page.count("[data-verdict=")
    assert "<dt><bdi>sanity</bdi></dt>" not in page, "it is not told twice"
    run(*call, "--out", tmp_path / "b.html")
    assert 'class="sanity"' not in (tmp_path / "b.html").read_text()


def test_the_record_says_what_the_library_says(photo: Path, classifier: str) -> None:
    found = record("classify", photo, "--model", classifier, "--top", 2, "--versus", "square", "cloud", "--sanity")
    task = load(classifier, device="cpu")
    contrast = task.contrast("square", "cloud")
    assert found["sanity"] == [verdict.to_json() for verdict in quick(task, str(photo), targets=[contrast])]
