"""The verb: what it prints, and the one line that it refuses with."""

from __future__ import annotations

import pytest

from tests.command_line import record, refusal, run
from tests.gallery.stores import Told, photo, spot, write


@pytest.fixture
def store(tmp_path):
    inputs = [
        Told(f"p{n}", "a dog", spot((1, 1), (2, 2)), [0.5, 0.25], source=photo(tmp_path / f"{n}.jpg")) for n in range(3)
    ]
    return write(tmp_path / "store", inputs)


def test_as_json(store, tmp_path) -> None:
    found = record("gallery", store.root, "--out", tmp_path / "out", "--where", "word = 'dog'", "--limit", 2)
    seconds = found.pop("seconds")
    assert seconds > 0
    assert found == {
        "gallery": str(tmp_path / "out" / "index.html"),
        "cards": 2, "total": 3, "pages": 1, "inputs": 2, "lost": 0, "errors": 0, "labels": 1, "pairs": None,
    }  # fmt: skip
    again = record("gallery", store.root, "--out", tmp_path / "out", "--against", store.root, "--per-page", 4)
    assert (again["cards"], again["pages"], again["pairs"]) == (6, 2, 6)


def test_for_people(store, tmp_path) -> None:
    (tmp_path / "0.jpg").unlink()
    result = run("gallery", store.root, "--out", tmp_path / "out", "--limit", 5, "--per-page", 5)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "5 of 6 maps, of 3 inputs, on 1 page"
    assert lines[1] == "1 picture cannot be read any more"
    assert lines[-1].startswith(f"wrote {tmp_path / 'out' / 'index.html'}")


@pytest.mark.parametrize(
    "options, reason",
    [
        (("--where", "wrod = 'dog'"), "\"wrod = 'dog'\" cannot be asked: Binder Error"),
        (("--where", "true; drop table rows"), "'true; drop table rows' is not one SQL expression"),
        (("--where", "word = 'cow'"), "is meant by \"word = 'cow'\": it has 6"),
        (("--sort", "nonsense"), "'nonsense' cannot be asked"),
        (("--sort", "probability limit 3"), "cannot sort by 'probability limit 3'"),
        (("--limit", "0"), "--limit"),
        (("--against", "/nowhere"), "'/nowhere' is no store"),
    ],
)
def test_refusals(store, tmp_path, options, reason) -> None:
    assert reason in refusal("gallery", store.root, "--out", tmp_path / "out", *options)
    assert not (tmp_path / "out").exists()


def test_what_is_no_store_or_no_place_for_a_gallery(store, tmp_path) -> None:
    assert "is no store of `mmexplain run`" in refusal("gallery", tmp_path / "none", "--out", tmp_path / "out")
    assert "choose a new folder" in refusal("gallery", store.root, "--out", tmp_path)
    (tmp_path / "file").write_text("x")
    assert "it is a file" in refusal("gallery", store.root, "--out", tmp_path / "file")
    assert "cannot write" in refusal("gallery", store.root, "--out", tmp_path / "file" / "below")
