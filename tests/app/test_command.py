"""``mmexplain app``: its address, its end, and what it says where it cannot start."""

from __future__ import annotations

import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from mmexplain.app.results import Results, stem
from mmexplain.app.samples import PHOTOS, installed
from tests.app.conftest import PATIENCE, free_port, started
from tests.command_line import run
from tests.render.conftest import build


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        process, _ = started("--port", str(holder.getsockname()[1]), folder=tmp_path)
        assert process.wait(PATIENCE) == 2
    lines = (tmp_path / "log.txt").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 and lines[0].startswith("mmexplain: cannot listen at 127.0.0.1:")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--model", "show-and-tel"), "unknown model 'show-and-tel'; closest: 'show-and-tell'"),
        (("--model", "vqa=show-and-tell"), "'show-and-tell' is a model for captioning"),
        (("--device", "cuda:99"), "cuda:99"),
        (("--port", "0"), "0 is not in the range"),
    ],
)
def test_what_cannot_be_served(options: tuple[str, ...], problem: str) -> None:
    done = run("app", *options)
    assert done.exit_code == 2
    assert done.stderr.startswith("mmexplain: ") and done.stderr.count("\n") == 1
    assert problem in done.stderr


def test_without_gradio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    done = run("app")
    assert done.exit_code == 2
    assert done.stderr == "mmexplain: the app needs Gradio: pip install 'mmexplain[app]'\n"


def test_results_are_deleted_in_time() -> None:
    results = Results(kept=0.4)
    first = results.folder()
    kept = results.keep(build("a dog"), first, ".safetensors")
    found = results.load(str(kept))
    assert found is not None and found.text == "a dog"
    end = time.monotonic() + 10
    while first.exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert not first.exists(), "without anybody asking for anything"
    assert results.load(str(kept)) is None and results.load(None) is None
    results.close()
    assert not results.root.exists()


def test_ctrl_c_ends_what_is_being_done(tmp_path: Path) -> None:
    gradio_client = pytest.importorskip("gradio_client")
    process, lines = started("--port", str(free_port()), folder=tmp_path)
    address = next(line for line in lines if "mmexplain is at" in line).split()[3]
    client = gradio_client.Client(address, verbose=False)
    photo = gradio_client.handle_file(str(installed(PHOTOS)[0]))
    job = client.submit(photo, methods=["rise(masks=8000)"], api_name="/classify")
    end = time.monotonic() + PATIENCE
    while job.status().code.name not in ("PROCESSING", "ITERATING") and time.monotonic() < end:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 130
    assert [path.name for path in tmp_path.iterdir()] == ["log.txt"], "uploads and results go with it"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("photo.jpg", "photo.mmexplain"),
        ("../../etc/passwd", "passwd.mmexplain"),
        ("a b<c>.png", "a-b-c.mmexplain"),
        ("…", "caption.mmexplain"),
        (None, "caption.mmexplain"),
    ],
)
def test_names_of_files(source: str | None, expected: str) -> None:
    explanation = build("a dog")
    object.__setattr__(explanation.picture, "source", source)
    assert stem(explanation) == expected
