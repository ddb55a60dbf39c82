"""The README's table of families is what the families do."""

from __future__ import annotations

from pathlib import Path

from tests.tasks.huggingface.families import table

README = Path(__file__).parents[3] / "README.md"


def test_the_readme_has_the_table() -> None:
    assert table() in README.read_text(encoding="utf-8")
