"""What every test may need: quiet threads, the data folder, and skips for what a machine lacks."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

if "PYTEST_XDIST_WORKER" in os.environ:
    # the workers share the cores: torch reads these when it is first imported
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("MKL_NUM_THREADS", "1")

settings.register_profile("mmexplain", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("mmexplain")

PEERS = ("captum", "pytorch_grad_cam", "torchcam")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real photos and texts that ``MMEXPLAIN_DATA`` names; the test is skipped where it is unset."""
    name = os.environ.get("MMEXPLAIN_DATA")
    if not name:
        pytest.skip("MMEXPLAIN_DATA is not set")
    folder = Path(name)
    assert folder.is_dir(), f"MMEXPLAIN_DATA names {name!r}, which is not a folder"
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, where it is at hand; ``MMEXPLAIN_BROWSER=required`` says that it must be."""
    lack = _no_browser()
    if lack:
        assert os.environ.get("MMEXPLAIN_BROWSER") != "required", lack
        pytest.skip(lack)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        running = playwright.chromium.launch(executable_path=_chromium(), args=arguments)
        yield running
        running.close()


def _chromium() -> str | None:
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def _no_browser() -> str:
    if find_spec("playwright") is None:
        return "playwright is not installed (extra `test`)"
    return "" if _chromium() else "no Chromium on this machine"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a CUDA device or the peers, where there are none."""
    on_cuda = [item for item in items if item.get_closest_marker("cuda")]
    if on_cuda:
        import torch

        if not torch.cuda.is_available():
            for item in on_cuda:
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))
    absent = [name for name in PEERS if find_spec(name) is None]
    for item in items:
        if absent and item.get_closest_marker("peers"):
            item.add_marker(pytest.mark.skip(reason=f"not installed: {', '.join(absent)} (extra `peers`)"))
