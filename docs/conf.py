"""How the API reference is built: ``make docs``. Nothing is fetched from the network."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import re
import sys
from importlib.metadata import version as installed_version
from pathlib import Path
from pkgutil import walk_packages
from typing import Any

from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent))

import pages

import mmexplain.tasks

project = "mmexplain"
version = release = installed_version("mmexplain")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["build"]

autodoc_member_order = "bysource"
# Types stand in signatures, a parameter a line where there are many; descriptions do not repeat them.
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_attr_annotations = True
toc_object_entries_show_parents = "hide"

nitpicky = True
# Documented elsewhere, and no inventory of theirs is fetched.
nitpick_ignore_regex = [
    # What the studies pass between their own modules has no entry: their page is for those who run them.
    (r"py:.*", r"mmexplain\.studies\..*"),
    (r"py:(func|data|attr)", r"known_regions|UNIFORM|CENTRE|OWN|STRANGER|MOVED|LAYER"),
    (r"py:.*", r"(torch|PIL|numpy|np|matplotlib|collections|pathlib|os|typing|nn|Image|Path|PathLike)(\..*)?"),
    (r"py:.*", r"(Tensor|NDArray|Any|Callable|Sequence|Mapping|Iterable|Iterator|Generator|Figure|Protocol|ABC)"),
    (r"py:.*", r"(str|int|float|bool|bytes|tuple|list|dict|set|frozenset|type|object|None|Exception|NamedTuple)"),
    (r"py:class", r"mmexplain\.(geometry\.Number|evaluate\.weights\.Found)"),  # type variables
    (r"py:class", r"(pyarrow|duckdb|fsspec)\..*"),
    (r"py:exc", r"(ValueError|KeyError|TypeError)"),
]

html_theme = "furo"
html_title = f"mmexplain {release}"
html_show_copyright = False
html_show_sphinx = False
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3


def complete_namespaces(app: Sphinx, config: Any) -> None:
    """Import for real what modules import for type checkers only: signatures name it."""
    found = [
        *walk_packages(mmexplain.__path__, "mmexplain."),
        *walk_packages(mmexplain.tasks.__path__, "mmexplain.tasks."),
    ]
    names = {module.name for module in found if not module.name.endswith("__main__")}
    for module in [importlib.import_module(name) for name in sorted(names)]:
        for node in ast.parse(inspect.getsource(module)).body:
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                exec(compile(ast.Module(node.body, []), module.__name__, "exec"), vars(module))


def write_generated(app: Sphinx, page: str, source: list[str]) -> None:
    """Put the README's sections and what the registries hold where pages ask for them."""
    source[0], files = pages.filled(source[0])
    for file in files:
        app.env.note_dependency(str(file), docname=page)


def find_generated(app: Sphinx, *_: Any) -> list[str]:
    """Pages to read again though their own files did not change: the code behind a registry may have."""
    return [name for name in app.env.all_docs if "<!-- generated:" in Path(app.env.doc2path(name)).read_text("utf-8")]


def skip_tuple_fields(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """The fields of a named tuple are described by its docstring, not once more as "alias for field number 0"."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def shorten_dataclass(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, arguments: str | None, returns: str | None
) -> tuple[str, str | None] | None:
    """No signature for a dataclass whose fields are listed below it, in order and with their types and defaults."""
    if inspect.isclass(obj) and dataclasses.is_dataclass(obj) and "Attributes:" in (obj.__doc__ or ""):
        return "", None
    return None


def inline_types(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """``size: int = 0`` in a line, where napoleon puts the type of an attribute below its description."""
    fields = dataclasses.fields(obj) if inspect.isclass(obj) and dataclasses.is_dataclass(obj) else ()
    defaults = {field.name: field.default for field in fields if field.default is not dataclasses.MISSING}
    defaults |= {field.name: field.default_factory() for field in fields if field.default_factory in (list, dict)}
    place, written = 0, ""
    for number, line in enumerate(list(lines)):
        if line.startswith(".. attribute:: "):
            place, written = number, line.removeprefix(".. attribute:: ")
        elif place and line.startswith("   :type: "):
            value = [f"   :value: {defaults[written]!r}"] if written in defaults else []
            lines[number] = ""
            # Names as in signatures, without the modules that they come from.
            kind = re.sub(r"(?<![\w.])(?:\w+\.)+\w+", r"~\g<0>", line)
            lines[place] = "\n".join([lines[place], kind, *value])
    lines[:] = "\n".join(lines).split("\n")


def resolve_bare_name(app: Sphinx, env: Any, node: pending_xref, contents: Any) -> Any:
    """``InputError`` in "Raises:", or ``Target`` in a type, is the one thing of that name in the reference."""
    if node.get("refdomain") != "py" or "." in node["reftarget"]:
        return None
    domain = env.domains.python_domain
    found = domain.find_obj(env, None, None, node["reftarget"], None, 1)
    canonical = {entry.node_id: name for name, entry in found}
    if len(canonical) != 1:
        return None
    (name,) = canonical.values()
    return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", name, node, contents)


def setup(app: Sphinx) -> None:
    """Connect the above."""
    app.connect("config-inited", complete_namespaces)
    app.connect("source-read", write_generated)
    app.connect("env-get-outdated", find_generated)
    app.connect("autodoc-skip-member", skip_tuple_fields)
    app.connect("autodoc-process-signature", shorten_dataclass)
    app.connect("autodoc-process-docstring", inline_types, priority=900)  # after napoleon
    app.connect("missing-reference", resolve_bare_name)
