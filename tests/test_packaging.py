"""The installed package is whole: every module and data file is in the wheel, which works without the tree."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

import pytest

import mmexplain

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
TOPS = {"mmexplain": ROOT / "mmexplain", "mmexplain.tasks": ROOT / "tasks"}


def package_files() -> dict[str, Path]:
    """Every file of the two source folders, by the path it must have in the wheel."""
    return {
        (Path(*top.split(".")) / path.relative_to(folder)).as_posix(): path
        for top, folder in TOPS.items()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith((".", "__pycache__")) for part in path.relative_to(folder).parts)
    }


def module_names(files: Iterable[str]) -> list[str]:
    """The dotted names of the modules among ``files``, less ``__main__``: importing it runs the command line."""
    paths = [Path(name) for name in sorted(files) if name.endswith(".py")]
    names = [".".join((path.parent if path.stem == "__init__" else path.with_suffix("")).parts) for path in paths]
    return [name for name in names if not name.endswith("__main__")]


def test_every_folder_with_python_files_is_a_listed_package() -> None:
    folders = {name.rpartition("/")[0].replace("/", ".") for name in package_files() if name.endswith(".py")}
    forgotten = sorted(folders - set(PROJECT["tool"]["setuptools"]["packages"]))
    assert not forgotten, f"add {forgotten} to [tool.setuptools] packages in pyproject.toml"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built, without network, from a copy of the tree: a stale ``build/`` cannot leak into it."""
    work = tmp_path_factory.mktemp("wheel")
    unneeded = shutil.ignore_patterns("__pycache__", ".*")
    for folder in TOPS.values():
        shutil.copytree(folder, work / "tree" / folder.name, ignore=unneeded)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, work / "tree" / name)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run(
        [*command, "--wheel-dir", work, work / "tree"], cwd=work, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    shutil.rmtree(work / "tree")
    (built,) = work.glob("*.whl")
    return built


def test_wheel_holds_every_file_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if not name.endswith("/")}
    info = {name for name in held if ".dist-info/" in name}
    wanted = set(package_files())
    assert not wanted - held, (
        f"not in the wheel: {sorted(wanted - held)}; a module's folder goes into [tool.setuptools] packages, "
        "a data file's suffix into [tool.setuptools.package-data] in pyproject.toml"
    )
    assert held - info == wanted
    assert {"mmexplain/py.typed", "mmexplain/tasks/py.typed"} <= held
    assert any(name.endswith("licenses/LICENSE") for name in info)


@pytest.fixture(scope="module")
def unpacked(wheel: Path) -> Path:
    """The wheel's files in a folder, as an installation lays them out."""
    folder = wheel.parent / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def run_from_wheel(unpacked: Path, code: str) -> str:
    """Run ``code`` where ``mmexplain`` can only come from the wheel: no ``.pth`` files, no working tree."""
    places = [str(unpacked), *dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])]
    start = f"import sys; sys.path[:] = {places[:1]!r} + sys.path + {places[1:]!r}\n"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", start + code],
        cwd=unpacked.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_module_imports_from_the_wheel_alone(unpacked: Path) -> None:
    names = module_names(path.relative_to(unpacked).as_posix() for path in (unpacked / "mmexplain").rglob("*.py"))
    code = (
        f"import importlib\nfor name in {names!r}:\n    importlib.import_module(name)\n"
        "import mmexplain\nfor name in mmexplain.__all__:\n    getattr(mmexplain, name)\n"
        "print(*{m.__file__ for n, m in sys.modules.items() if n.split('.')[0] == 'mmexplain'}, sep='\\n')"
    )
    origins = run_from_wheel(unpacked, code).splitlines()
    assert len(origins) == len(names)
    assert all(Path(origin).is_relative_to(unpacked) for origin in origins), origins


def test_command_of_the_wheel_starts(unpacked: Path) -> None:
    code = (
        "from importlib.metadata import distribution\n"
        "(entry,) = distribution('mmexplain').entry_points.select(group='console_scripts', name='mmexplain')\n"
        "sys.argv = ['mmexplain', '--help']\nentry.load()()"
    )
    assert "Usage: mmexplain" in run_from_wheel(unpacked, code)


def test_importing_the_package_leaves_torch_alone() -> None:
    code = "import sys, mmexplain; dir(mmexplain); print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize("name", sorted(mmexplain.__all__))
def test_every_public_name_resolves_and_is_listed(name: str) -> None:
    value = getattr(mmexplain, name)
    assert name in dir(mmexplain)
    assert value is getattr(mmexplain, name)


def test_explain_is_a_function_whatever_was_imported_before() -> None:
    code = (
        "import importlib, mmexplain, pkgutil\n"
        f"for name in {[name for name in module_names(package_files()) if name.count('.') == 1]!r}:\n"
        "    importlib.import_module(name)\n"
        "assert callable(mmexplain.explain) and callable(mmexplain.load)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_version_is_the_projects_own() -> None:
    assert mmexplain.__version__ == version("mmexplain") == PROJECT["project"]["version"]


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonesuch'"):
        mmexplain.nonesuch  # noqa: B018
