"""The table of families in the documentation is what the families do."""

from __future__ import annotations

from pathlib import Path

from tests.tasks.huggingface.families import table

PAGE = Path(__file__).parents[3] / "docs" / "transformers.md"


def test_the_page_has_the_table() -> None:
    assert table() in PAGE.read_text(encoding="utf-8")
