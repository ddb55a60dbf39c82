"""The notebooks and scripts of demos/ run as they stand, and the notebooks say what is stored in them."""

from __future__ import annotations

import os
import re
import runpy
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

from mmexplain.tasks.registry import models
from tests.notebooks import (
    DEMOS,
    METADATA,
    TOLERANCE,
    TRAINED,
    clean,
    differences,
    execute,
    pictures,
    printed,
    same,
)

NOTEBOOKS = sorted(path.stem for path in DEMOS.glob("*.ipynb"))
SCRIPTS = sorted(path.stem for path in DEMOS.glob("*.py"))
LARGEST, ALL = 400_000, 3_000_000
STUDIES = [name for name in NOTEBOOKS if name.startswith("study_")]
MACHINE = re.compile(r"/(home|root|tmp|work|usr|opt|mnt|Users|private|var)/|[A-Z]:\\|site-packages")


def stored(name: str) -> Any:
    return nbformat.read(DEMOS / f"{name}.ipynb", as_version=4)


def skip_if_lacking(name: str) -> None:
    """Skip what needs weights or data that neither the package nor `make test` brings to this machine."""
    hints = {info.id: info.hint for info in models()}
    if name == "video" and hints["i3d-kinetics400"]:
        pytest.skip(f"needs weights: {hints['i3d-kinetics400']}")
    if name in STUDIES and not (os.environ.get("MMEXPLAIN_DATA") and os.environ.get("NLTK_DATA")):
        pytest.skip("MMEXPLAIN_DATA and NLTK_DATA do not name the data of the studies")


def test_a_notebook_and_a_script_of_every_name() -> None:
    assert NOTEBOOKS == SCRIPTS
    assert len(NOTEBOOKS) == 16
    index = (DEMOS / "README.md").read_text(encoding="utf-8")
    for name in NOTEBOOKS:
        assert f"({name}.ipynb)" in index and f"({name}.py)" in index


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_what_is_stored_is_whole_and_small(name: str) -> None:
    path = DEMOS / f"{name}.ipynb"
    assert path.stat().st_size < LARGEST
    notebook = stored(name)
    nbformat.validate(notebook)
    assert notebook.metadata == METADATA
    assert notebook == clean(stored(name)), "written by `make notebooks`"
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert sum(map(pictures, cells)) >= 3
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    for cell in notebook.cells:
        assert not MACHINE.search(cell.source)
    for output in outputs:
        shown = [output.get("text", ""), *(text for kind, text in output.get("data", {}).items() if "text" in kind)]
        assert not MACHINE.search(re.sub("base64,[^\"']*", "", "\n".join(shown)))


def test_all_of_them_together_are_small() -> None:
    assert sum(path.stat().st_size for path in DEMOS.glob("*.ipynb")) < ALL


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_links_lead_to_files(name: str) -> None:
    text = "\n".join(cell.source for cell in stored(name).cells if cell.cell_type == "markdown")
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith("https://")]
    assert links
    for link in links:
        assert (DEMOS / link).is_file()


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_still_says_what_is_stored(name: str, tmp_path: Path) -> None:
    skip_if_lacking(name)
    if name == "resnet_layers" and not os.environ.get("MMEXPLAIN_WEIGHTS"):
        pytest.skip("MMEXPLAIN_WEIGHTS does not name a folder with the weights of the stored run")
    if name in STUDIES and os.environ.get("MMEXPLAIN_NOTEBOOKS") != "all":
        pytest.skip("studies take minutes: MMEXPLAIN_NOTEBOOKS=all runs them again")
    fresh = clean(execute(DEMOS / f"{name}.ipynb", tmp_path))
    assert not list(differences(stored(name), fresh, TRAINED.get(name, TOLERANCE)))


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    script = DEMOS / f"{name}.py"
    assert len(script.read_text(encoding="utf-8").splitlines()) < 40
    skip_if_lacking(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(DEMOS))
    monkeypatch.setattr(sys, "argv", [script.name])
    runpy.run_path(str(script), run_name="__main__")
    told = capsys.readouterr().out
    wrote = re.findall(r"[\w.]+\.(?:html|png|gif)", told)
    assert "wrote" in told and wrote
    for file in wrote:
        assert (tmp_path / file).stat().st_size > 1000


# -- the comparison ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "tells"),
    [
        ("p = 0.395", "p = 0.396"),
        ("p = 0.395", "p = 0.401"),
        ("boxer  9.9\ncat   10.1", "boxer 10.0\ncat   10.1"),
        ("-0.00 0.00", "0.00 -0.00"),
        ("peak at (150, 186)", "peak at (151, 187)"),
        ("1.2e-05", "1.3e-05"),
        ("64 %", "65 %"),
    ],
)
def test_last_digits_may_differ(told: str, tells: str) -> None:
    assert same(told, tells)


@pytest.mark.parametrize(
    ("told", "tells"),
    [
        ("tiger cat 0.39", "tabby 0.39"),
        ("p = 0.395", "p = 0.435"),
        ("-0.74", "0.74"),
        ("a 1 b 2", "a 1 b"),
        ("peak at (150, 186)", "peak at None"),
        ("gradcam depends", "gradcam partly"),
        ("layer4", "layer3"),
        ("1.2e-05", "1.2e-04"),
        ("100%", "90%"),
    ],
)
def test_all_else_may_not(told: str, tells: str) -> None:
    assert not same(told, tells)


def cell(*outputs: Any) -> Any:
    return nbformat.v4.new_code_cell("code", outputs=list(outputs))


def notebook(*cells: Any) -> Any:
    return nbformat.v4.new_notebook(cells=list(cells))


def test_what_goes_missing_is_told() -> None:
    text = nbformat.v4.new_output("stream", name="stdout", text="dog 0.5\n")
    strip = nbformat.v4.new_output(
        "display_data", {"text/html": "<img src='a'><img src='b'>", "text/plain": "<at 0x1>"}
    )
    before = notebook(cell(text, strip), cell())
    assert printed(before.cells[0]) == "dog 0.5\n" and pictures(before.cells[0]) == 2
    assert not list(differences(before, notebook(cell(text, strip), cell())))
    assert "pictures" in next(differences(before, notebook(cell(text), cell())))
    assert "said" in next(differences(before, notebook(cell(strip), cell())))
    assert "cells" in next(differences(before, notebook(cell(text, strip))))


def test_cleaning_keeps_one_picture_and_no_machine() -> None:
    both = nbformat.v4.new_output("execute_result", {"image/png": "a", "image/jpeg": "b"}, execution_count=9)
    both.metadata["image/png"] = {"width": 3}
    parts = [nbformat.v4.new_output("stream", name="stdout", text=text) for text in ("one\n", "two\n")]
    dirty = notebook(cell(*parts, both))
    dirty.cells[0].metadata["execution"] = {"iopub.execute_input": "2026-01-01"}
    dirty.metadata["widgets"] = {}
    tidy = clean(dirty)
    assert tidy.metadata == METADATA and not tidy.cells[0].metadata
    stream, shown = tidy.cells[0].outputs
    assert stream.text == "one\ntwo\n"
    assert shown.data == {"image/jpeg": "b"} and not shown.metadata and shown.execution_count == 1
