"""Executing the notebooks of demos/ and telling whether they still say what is stored in them.

python -m tests.notebooks               # executes all of them again and stores what comes out
python -m tests.notebooks quickstart    # one of them
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

DEMOS = Path(__file__).parent.parent / "demos"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
TOLERANCE = 0.02
"""Share by which a printed number may differ; another CPU or another release of torch sums in another order."""

TRAINED = {"own_model": 0.15, "study_bias": 0.15, "study_distil": 0.15}
"""The same for notebooks that train: on another CPU training takes another way to about as good a model."""

QUIET = "ignore:IProgress not found"
"""What tqdm, which others import, says in every notebook on a machine without ipywidgets."""

NUMBER = re.compile(r"(?<![\w.])[-−+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")


def execute(path: Path, folder: Path) -> Any:
    """The notebook executed in a folder of its own, beside the modules that it imports.

    Raises:
        CellExecutionError: a cell fails.
    """
    notebook = nbformat.read(path, as_version=4)
    shutil.copytree(DEMOS / "models", folder / "models", ignore=shutil.ignore_patterns("__pycache__"))
    client = NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}, record_timing=False
    )
    return client.execute(env={**os.environ, "PYTHONWARNINGS": QUIET, "PYTHONHASHSEED": "0"})


def clean(notebook: Any) -> Any:
    """The notebook without what differs from run to run and from machine to machine, and no picture in it twice."""
    notebook.metadata = nbformat.from_dict(METADATA)
    count = 0
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({})
        if cell.cell_type != "code":
            continue
        count += 1
        cell.execution_count = count
        cell.outputs = _joined(cell.outputs)
        for output in cell.outputs:
            if "metadata" in output:
                output.metadata = nbformat.from_dict({})
            if output.output_type == "execute_result":
                output.execution_count = count
            if "image/jpeg" in output.get("data", {}):
                output.data.pop("image/png", None)
    return notebook


def _joined(outputs: list[Any]) -> list[Any]:
    """What was printed in one go or another as one text; how it was cut is chance."""
    joined: list[Any] = []
    for output in outputs:
        if joined and output.output_type == "stream" == joined[-1].output_type and output.name == joined[-1].name:
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def differences(stored: Any, fresh: Any, tolerance: float = TOLERANCE) -> Iterator[str]:
    """What a notebook says now and did not say when it was stored: texts, and pictures that come or go."""
    cells = [cell for cell in stored.cells if cell.cell_type == "code"]
    again = [cell for cell in fresh.cells if cell.cell_type == "code"]
    for number, (before, after) in enumerate(zip_longest(cells, again), start=1):
        if before is None or after is None:
            yield f"{len(cells)} cells are stored, {len(again)} were run"
            return
        told, tells = printed(before), printed(after)
        if not same(told, tells, tolerance):
            yield f"cell {number} said\n{told}\nand says\n{tells}"
        shown, shows = pictures(before), pictures(after)
        if shown != shows:
            yield f"cell {number} had {shown} pictures and has {shows}"


def same(told: str, tells: str, tolerance: float = TOLERANCE) -> bool:
    """Whether two texts agree, numbers to a share of them or to one in their last digit, all else to the letter."""
    if [part.strip() for part in NUMBER.split(told)] != [part.strip() for part in NUMBER.split(tells)]:
        return False
    pairs = zip(NUMBER.findall(told), NUMBER.findall(tells), strict=True)
    return all(_close(one, other, tolerance) for one, other in pairs)


def _close(one: str, other: str, tolerance: float) -> bool:
    if one == other:
        return True
    last = max(_unit(one), _unit(other))
    first, second = (float(text.replace("−", "-")) for text in (one, other))
    return abs(first - second) <= max(1.001 * last, tolerance * abs(first))


def _unit(number: str) -> float:
    """Of the last digit of a number as it is written."""
    digits, _, exponent = number.partition("e")
    return 10.0 ** (int(exponent or 0) - len(digits.partition(".")[2]))


def printed(cell: Any) -> str:
    """What a cell printed, and its value where that is no picture."""
    streams = [output.text for output in cell.outputs if output.output_type == "stream"]
    values = [
        output.data["text/plain"]
        for output in cell.outputs
        if output.output_type in ("execute_result", "display_data") and not _pictured(output)
    ]
    return "".join([*streams, *values])


def pictures(cell: Any) -> int:
    """How many pictures a cell shows, those in its HTML among them."""
    return sum(_pictured(output) for output in cell.outputs)


def _pictured(output: Any) -> int:
    data = output.get("data", {})
    return data.get("text/html", "").count("<img ") + any(kind in data for kind in ("image/jpeg", "image/png"))


def main(names: list[str]) -> None:
    """Execute and store the notebooks of these names, or all."""
    paths = [DEMOS / f"{name}.ipynb" for name in names] or sorted(DEMOS.glob("*.ipynb"))
    for path in paths:
        with tempfile.TemporaryDirectory() as folder:
            notebook = clean(execute(path, Path(folder)))
        nbformat.write(notebook, path)
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1:])
