"""The app by its API: right answers, for many at once, whatever they send."""

from __future__ import annotations

import io
import json
import struct
import urllib.request
import zipfile
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import mmexplain
from mmexplain.app.samples import CLIPS, PHOTOS, installed
from tests.app.conftest import App

gradio_client = pytest.importorskip("gradio_client")
AppError = gradio_client.exceptions.AppError
handle_file = gradio_client.handle_file

SAMPLES = [str(path) for path in installed(PHOTOS)]
QUESTION = "what is the colour of the dog"


def ask(client: Any, verb: str, path: str, **told: Any) -> Any:
    return client.predict(handle_file(path), api_name=f"/{verb}", **told)


def scores(record: dict[str, Any]) -> list[tuple[str, float]]:
    return [(target["label"], target["score"]) for target in record["targets"]]


def test_every_verb_says_what_the_library_says(app: App, client: Any) -> None:
    photo = SAMPLES[1]
    record, report, maps = ask(
        client, "caption", photo, caption="a dog and a man", words=["dog"], versus=[["dog", "cat"]]
    )
    captioner: Any = mmexplain.load("show-attend-tell", device="cpu")
    expected = captioner.explain(photo, "a dog and a man", words=["dog"], versus={"dog": "cat"}).to_json()
    assert [label for label, _ in scores(record)] == ["dog", "dog rather than cat"]
    assert [score for _, score in scores(record)] == pytest.approx([score for _, score in scores(expected)], rel=1e-4)
    assert record["targets"][0]["peak"] == expected["targets"][0]["peak"]
    assert record["input"] == Path(photo).name, "places on the server are nobody's business"
    assert mmexplain.Explanation.load(maps).text == "a dog and a man"
    assert "dog rather than cat" in Path(report).read_text(encoding="utf-8")

    record, *_ = ask(
        client, "vqa", photo, question=QUESTION, answers=["black"], versus=[["brown", "black"]], weight=0.5
    )
    assert [label for label, _ in scores(record)][-2:] == ["black", "brown rather than 0.5 of black"]
    assert set(record["targets"][0]["words"]) == {"gradient-x-embedding", "integrated-gradients"}

    record, *_ = ask(client, "classify", photo, top=2, methods=["gradcam", "layercam"], sanity=True)
    assert len(record["targets"]) == 4 and len(record["sanity"]) == 2

    record, *_ = ask(client, "action", str(installed(CLIPS)[0]))
    assert [target["label"] in ("running", "sitting", "jumping") for target in record["targets"]] == [True, True]
    assert record["model"] == "tiny" and "frame" in record["targets"][0]

    record, report = ask(client, "layers", photo, task="caption", text="a dog", targets=["dog"])
    assert len(record["layers"]) >= 4 and Path(report).stat().st_size > 1000


REQUESTS: list[tuple[str, str, dict[str, Any]]] = [
    *(("caption", photo, {}) for photo in SAMPLES[:4]),
    ("caption", SAMPLES[1], {"caption": "a brown dog", "methods": ["gradcam", "attention"]}),
    *(("vqa", photo, {"question": QUESTION, "answers": ["black", "white"]}) for photo in SAMPLES[1:3]),
    ("classify", SAMPLES[1], {"top": 5, "methods": ["gradcam", "guided-gradcam"]}),
    ("classify", SAMPLES[3], {"targets": ["tabby", "tiger cat"]}),
    ("action", str(installed(CLIPS)[0]), {}),
]


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from /proc")
def test_ten_at_once(app: App, client: Any) -> None:
    """All right, none mixed up, in hardly more memory than one after the other."""
    assert len(REQUESTS) == 10
    alone = [ask(client, verb, path, **told)[0] for verb, path, told in REQUESTS]
    app.forget()
    for verb, path, told in REQUESTS:
        ask(client, verb, path, **told)
    one_by_one = app.peak()
    app.forget()
    with ThreadPoolExecutor(10) as pool:
        together = list(pool.map(lambda one: ask(client, one[0], one[1], **one[2])[0], REQUESTS))
    for found, expected in zip(together, alone, strict=True):
        found.pop("seconds"), expected.pop("seconds")
        assert found == expected
    assert len({json.dumps(record, sort_keys=True) for record in together}) == 10
    assert app.peak() < one_by_one + 150 * 2**20


def png(width: int, height: int) -> bytes:
    """A header that promises much, and hardly any data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def megapixels_200() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (20_000, 10_000)).save(buffer, "PNG")
    return buffer.getvalue()


def zip_bomb() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("photo.jpg", b"\0" * 50_000_000)
    return buffer.getvalue()


def animated() -> bytes:
    buffer = io.BytesIO()
    frames = [Image.new("L", (8, 8), shade) for shade in range(0, 200, 2)]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


BAD_FILES: dict[str, tuple[Callable[[], bytes], str]] = {
    "200-megapixels.png": (megapixels_200, "more than 64 megapixels"),
    "a-header.png": (lambda: png(60_000, 60_000), "more than 64 megapixels"),
    "small-but-empty.png": (lambda: png(60, 60), "cut off|cannot be|damaged|truncated"),
    "bomb.jpg": (zip_bomb, "is not an image"),
    "words.png": (lambda: b"<html><script>alert(1)</script></html>", "a web page, not the photo"),
    "drawing.svg": (
        lambda: b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
        "an SVG drawing",
    ),
    "many.gif": (animated, "has 100 frames"),
    "empty.jpg": (lambda: b"", "empty"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_refused_in_one_line(name: str, app: App, client: Any, tmp_path: Path) -> None:
    make, problem = BAD_FILES[name]
    (tmp_path / name).write_bytes(make())
    with pytest.raises(AppError, match=problem) as refused:
        ask(client, "caption", str(tmp_path / name))
    assert "\n" not in str(refused.value) and str(app.folder) not in str(refused.value)


def test_an_upload_that_is_too_large(app: App, client: Any, tmp_path: Path) -> None:
    (tmp_path / "large.jpg").write_bytes(np.random.default_rng(0).bytes(51 * 2**20))
    with pytest.raises(Exception, match=r"413|max|large|exceed"):
        ask(client, "caption", str(tmp_path / "large.jpg"))


FILE = {"meta": {"_type": "gradio.FileData"}}


@pytest.mark.parametrize(
    "sent",
    [
        {"path": "/etc/passwd"},
        {"path": "../../../../etc/passwd"},
        {"path": "/proc/self/environ"},
        {"path": ["a"]},
        {},
        "/etc/passwd",
        5,
        None,
        [],
    ],
    ids=str,
)
def test_paths_on_the_server_are_not_read(sent: Any, client: Any) -> None:
    with pytest.raises(AppError, match=r"the file is no longer here"):
        client.predict(sent, api_name="/caption")


@pytest.mark.parametrize("name", ["/etc/passwd", "../../etc/passwd", "..%2f..%2fetc%2fpasswd"])
def test_paths_that_claim_to_be_uploads(name: str, app: App) -> None:
    """Raw requests, past Gradio's client, which would upload such a file from its own machine."""
    body = json.dumps({"data": [{"path": name, **FILE}, "", [], [], "", [], [], False]}).encode()
    request = urllib.request.Request(
        f"{app.address}/gradio_api/call/caption", body, {"Content-Type": "application/json"}
    )
    event = json.load(urllib.request.urlopen(request))["event_id"]
    answer = urllib.request.urlopen(f"{app.address}/gradio_api/call/caption/{event}").read().decode()
    assert "event: error" in answer and "root:" not in answer
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{app.address}/gradio_api/file={name}")
    assert refused.value.code in (400, 403, 404)


@pytest.mark.parametrize(
    "name", ["../../evil.png", "..\\evil.png", "/tmp/evil.png", "a\0b.png", "é😀<b>.png", "x" * 300 + ".png"]
)
def test_names_of_uploads_lead_nowhere(name: str, app: App, client: Any) -> None:
    buffer = io.BytesIO()
    Image.effect_noise((90, 60), 60).convert("RGB").save(buffer, "PNG")
    boundary = "mmexplain-boundary"
    disposition = f'Content-Disposition: form-data; name="files"; filename="{name}"'
    head = f"--{boundary}\r\n{disposition}\r\nContent-Type: image/png\r\n\r\n"
    body = head.encode("utf-8") + buffer.getvalue() + f"\r\n--{boundary}--\r\n".encode()
    kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    try:
        (path,) = json.load(
            urllib.request.urlopen(urllib.request.Request(f"{app.address}/gradio_api/upload", body, kind))
        )
    except urllib.error.HTTPError as refused:
        assert refused.code in (400, 422, 500)
    else:
        assert Path(path).resolve().is_relative_to(app.folder), path
    assert not any(
        path.name.endswith("evil.png") for path in (app.folder, *app.folder.parents) for path in path.glob("*evil*")
    )
    assert ask(client, "classify", SAMPLES[1])[0]["targets"], "the server stays up"


@pytest.mark.parametrize(
    ("verb", "told", "problem"),
    [
        ("caption", {"model": "/etc/passwd"}, "not among the models of this app"),
        ("caption", {"methods": ["nope"]}, "unknown method 'nope'"),
        ("caption", {"layers": ["nope"]}, "no layer 'nope'"),
        ("caption", {"caption": "a zebra"}, "'zebra' is not among the model's"),
        ("caption", {"versus": [["dog"]]}, "pairs of names"),
        ("caption", {"methods": ["rise(masks=100000000)"]}, "more than the app does"),
        ("caption", {"methods": 5}, "methods is a list of names, not 5"),
        ("caption", {"sanity": "no"}, "sanity is true or false, not 'no'"),
        ("caption", {"caption": 5}, "text is a text, not 5"),
        ("caption", {"caption": "a dog", "versus": [["dog", "cat"], ["dog", "man"]]}, "held against two words"),
        ("classify", {"top": "many"}, "top is a whole number"),
        ("vqa", {"question": " "}, "there is no question"),
        ("vqa", {"question": QUESTION, "answers": ["<script>alert(1)</script>"]}, "not among the model's 437 answers"),
        (
            "vqa",
            {"question": QUESTION, "versus": [["black", "white"]], "weight": "many"},
            "weight is a number, not 'many'",
        ),
        ("vqa", {"question": QUESTION, "versus": [["black", "white"]], "weight": -1}, "0 or more"),
        ("classify", {"top": 10**9}, "targets at once"),
        ("classify", {"targets": ["zzzz"]}, "'zzzz'"),
        ("layers", {"task": "x"}, "'x' is no task of this app"),
        ("layers", {"task": "vqa"}, "there is no question"),
        ("action", {}, "is a photo, not a video"),
    ],
)
def test_bad_requests_say_how_to_mend_them(verb: str, told: dict[str, Any], problem: str, client: Any) -> None:
    with pytest.raises(AppError, match=problem) as refused:
        ask(client, verb, SAMPLES[1], **told)
    assert "\n" not in str(refused.value)
