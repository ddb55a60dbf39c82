"""The API reference names everything that is public: this looks at what ``make docs`` builds it from."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType

import click
import pytest

import mmexplain
import mmexplain.evaluate.data
import mmexplain.evaluate.metrics
from mmexplain.cli import cli
from mmexplain.evaluate.registry import PROTOCOLS
from mmexplain.methods import METHODS, TEXT_METHODS
from mmexplain.tasks import action, captioning, classification, vqa

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted(path.name for path in DOCS.glob("*.md"))
ENTRY = re.compile(r"^\.\. auto(?:class|function|data|exception|module):: (\S+)", re.MULTILINE)


def _pages() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_pages", DOCS / "pages.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages() -> ModuleType:
    return _pages()


@pytest.fixture(scope="module")
def reference(pages: ModuleType) -> dict[str, str]:
    """Name of a page → what Sphinx reads of it."""
    return {name: pages.filled((DOCS / name).read_text("utf-8"))[0] for name in PAGES}


@pytest.fixture(scope="module")
def documented(reference: dict[str, str]) -> set[str]:
    return {name for text in reference.values() for name in ENTRY.findall(text)}


@pytest.mark.parametrize("name", sorted(set(mmexplain.__all__) - {"__version__", "evaluate", "methods"}))
def test_every_public_name_has_an_entry(name: str, documented: set[str]) -> None:
    assert f"mmexplain.{name}" in documented


@pytest.mark.parametrize(
    "package", [mmexplain.methods, action, captioning, classification, vqa], ids=lambda p: p.__name__
)
def test_every_name_of_a_package_has_an_entry(package: ModuleType, documented: set[str]) -> None:
    missing = [name for name in package.__all__ if not {entry for entry in documented if entry.endswith(f".{name}")}]
    assert not missing


def test_every_name_of_the_evaluation_has_an_entry(documented: set[str]) -> None:
    missing = [name for name in mmexplain.evaluate.__all__ if not any(e.endswith(f".{name}") for e in documented)]
    assert not missing


@pytest.mark.parametrize("package", [mmexplain.evaluate.metrics, mmexplain.evaluate.data], ids=lambda p: p.__name__)
def test_every_module_of_a_package_has_an_entry(package: ModuleType, documented: set[str]) -> None:
    modules = [f"{package.__name__}.{found.name}" for found in iter_modules(package.__path__)]
    assert not set(modules) - documented


def test_entries_exist(documented: set[str]) -> None:
    for entry in documented:
        module, _, name = entry.rpartition(".")
        assert hasattr(importlib.import_module(module), name) or importlib.util.find_spec(entry), entry


def test_every_method_is_told_of(reference: dict[str, str]) -> None:
    text = reference["methods.md"]
    missing = [name for name in (*METHODS, *TEXT_METHODS) if f"`{name} <" not in text and f"`{name}`" not in text]
    assert not missing
    for method in METHODS.values():
        assert method.paper in text
        assert all(f"{name}={value!r}" in text for name, value in method.parameters.items())


def test_every_protocol_is_told_of(reference: dict[str, str], documented: set[str]) -> None:
    for name, known in PROTOCOLS.items():
        assert f"### `{name}`\n" in reference["evaluate.md"]
        assert known.where.replace(":", ".") in documented


def test_every_verb_is_told_of(reference: dict[str, str]) -> None:
    text = reference["command-line.md"]

    def verbs(group: click.Group, path: str) -> list[str]:
        found = []
        for name, command in group.commands.items():
            found.append(f"{path} {name}")
            found += verbs(command, f"{path} {name}") if isinstance(command, click.Group) else []
        return found

    for verb in verbs(cli, "mmexplain"):
        assert f"## {verb}\n" in text
        assert f"Usage: {verb} [OPTIONS]" in text


def test_every_page_is_in_the_index(reference: dict[str, str]) -> None:
    trees = re.findall(r"```{toctree}\n(.*?)```", reference["index.md"], re.DOTALL)
    listed = [line for tree in trees for line in tree.splitlines() if line and not line.startswith(":")]
    assert sorted(f"{name}.md" for name in [*listed, "index"]) == PAGES


def test_files_that_the_readme_links_to_are_found(reference: dict[str, str]) -> None:
    targets = re.findall(r"!\[[^\]]*\]\((\.\./[^)]+)\)|{download}`[^<`]+ <([^>]+)>`", "\n".join(reference.values()))
    assert targets
    assert not [path for found in targets for path in found if path and not (DOCS / path).exists()]


def test_an_unknown_section_is_told(pages: ModuleType) -> None:
    with pytest.raises(KeyError, match="no section 'Nowhere'"):
        pages.filled("<!-- README: Nowhere -->")
