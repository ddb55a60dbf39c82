"""``mmexplain run`` as it is typed: what it makes, what it refuses, and that a second try is never in its own way."""

import json
import os
import subprocess
import sys

import pytest
from PIL import Image

from mmexplain.jobs.store import open_store
from tests.command_line import ACTIONS, picture, record, refusal, run, save_answerer, save_captioner, save_mover
from tests.jobs.tiny import CLASSES, photos, save_tiny, tables


@pytest.fixture(scope="module")
def answerer(tmp_path_factory):
    path = tmp_path_factory.mktemp("answerer") / "three.safetensors"
    save_answerer(path)
    return str(path)


@pytest.fixture(scope="module")
def captioner(tmp_path_factory):
    path = tmp_path_factory.mktemp("captioner") / "eight.safetensors"
    save_captioner(path)
    return str(path)


@pytest.fixture
def arguments(tiny, folder):
    return ["run", "classify", folder, "--model", tiny, "--device", "cpu"]


def test_bad_inputs_are_rows(arguments, tmp_path):
    result = run(*arguments, "--out", tmp_path / "store", "--top", 2)
    assert result.exit_code == 0 and result.stderr == ""
    first, _, failed, wrote = result.stdout.splitlines()
    assert first.startswith("18 of 20 inputs explained: 38 rows, ")
    assert failed.startswith("2 failed (InputError), the first is '0003.png': ") and "is not an image" in failed
    assert wrote == f"wrote {tmp_path / 'store'}"


def test_json(arguments, tmp_path):
    told = record(*arguments, "--out", tmp_path / "store", "--limit", 8)
    assert told.pop("seconds") > 0 and told.pop("bytes") == open_store(tmp_path / "store").shards.size()
    failed = told.pop("failed")
    assert told == {"store": str(tmp_path / "store"), "inputs": 8, "explained": 6, "rows": 8, "done": 8}
    assert failed["InputError"]["inputs"] == 2 and failed["InputError"]["first"] == "0003.png"


def test_in_a_process_of_its_own(tmp_path):
    # The whole program, with a model that needs nothing of these tests.
    from tests.command_line import save_classifier

    save_classifier(tmp_path / "three.safetensors")
    inputs = photos(tmp_path / "photos", 3, size=40)
    (inputs / "0001.png").write_bytes(b"no photo")
    command = [
        sys.executable,
        "-m",
        "mmexplain",
        "run",
        "classify",
        str(inputs),
        "--model",
        tmp_path / "three.safetensors",
    ]
    options = ["--out", str(tmp_path / "store"), "--json", "--device", "cpu"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["explained"] == 2
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and "is a store already" in done.stderr


@pytest.mark.parametrize(
    "wrong, message",
    [
        (["--layer", "lsat"], "lsat"),
        (["--method", "gradcan"], "gradcan"),
        (["--method", "attention"], "no attention of its own"),
        (["--target", "zebr"], "zebr"),
        (["--model", "resnet50"], "unknown model 'resnet50'"),
        (["--model", "no-such-file.safetensors"], "no-such-file.safetensors"),
        (["--beam", "3"], "--beam is not for task 'classify'"),
        (["--batch", "0"], "--batch '0'"),
        (["--batch", "many"], "--batch 'many'"),
        (["--text", "gradient"], "--text is not for task 'classify'"),
    ],
)
def test_what_is_wrong_with_the_whole_is_told_at_once(arguments, tmp_path, wrong, message):
    assert message in refusal(*arguments, *wrong, "--out", tmp_path / "store")
    assert not (tmp_path / "store" / "run.json").exists() and not (tmp_path / "store" / "rows").exists()
    # Nothing that is left is in the way of the second try, with --resume or without.
    assert record(*arguments, "--out", tmp_path / "store")["explained"] == 18


@pytest.mark.parametrize("source", ["nothing-here", "empty", "questions.csv"])
def test_what_is_wrong_with_the_source(arguments, tmp_path, source, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "questions.csv").write_text("question\nwhat is it\n")
    refusal(*arguments[:2], source, *arguments[3:], "--out", tmp_path / "store")
    assert record(*arguments, "--out", tmp_path / "store", "--resume")["explained"] == 18


def test_a_store_that_is_there(arguments, tmp_path, tiny):
    store = tmp_path / "store"
    run(*arguments, "--out", store, "--batch", 4, "--shard", 8)
    before = tables(store)
    assert "is a store already: go on with it by --resume" in refusal(*arguments, "--out", store)
    told = record(*arguments, "--out", store, "--resume")
    assert (told["done"], told["explained"]) == (0, 18)
    again = tables(store)
    assert all(again[name].equals(table) for name, table in before.items())


def test_a_folder_of_others(arguments, tmp_path):
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "to-mother.txt").write_text("dear")
    for resume in ([], ["--resume"]):
        assert "is no store and not empty (to-mother.txt)" in refusal(
            *arguments, "--out", tmp_path / "letters", *resume
        )
    assert "is a file: a store is a folder" in refusal(*arguments, "--out", tmp_path / "letters" / "to-mother.txt")
    assert [path.name for path in (tmp_path / "letters").iterdir()] == ["to-mother.txt"]


@pytest.fixture(params=["finished", "unfinished"])
def begun(request, arguments, tmp_path):
    """A store that is there, whole or in part."""
    store = tmp_path / "store"
    run(*arguments, "--out", store, "--batch", 4, "--shard", 8)
    if request.param == "unfinished":
        (store / "rows" / "part-000001.parquet").unlink()
    return store


@pytest.mark.parametrize(
    "other, names",
    [
        (["--method", "gradcam++"], "methods"),
        (["--layer", "first"], "layers"),
        (["--top", 2], "options"),
        (["--target", "bee"], "options"),
        (["--seed", 1], "seed"),
        (["--precision", "bfloat16"], "precision"),
        (["--overlays"], "overlays"),
    ],
)
def test_other_settings_are_refused(arguments, begun, other, names):
    message = refusal(*arguments, *other, "--out", begun, "--resume")
    assert f"was made with other settings ({names})" in message


def test_other_inputs_are_refused(arguments, begun, tmp_path):
    photos(tmp_path / "others", 2)
    others = [*arguments[:2], tmp_path / "others", *arguments[3:]]
    assert "holds the inputs of" in refusal(*others, "--out", begun, "--resume")
    assert "was begun with another limit" in refusal(*arguments, "--limit", 3, "--out", begun, "--resume")


def test_other_weights_are_refused(arguments, tmp_path):
    model, store = save_tiny(tmp_path / "mine.safetensors"), tmp_path / "store"
    mine = [*arguments[:3], "--model", model, *arguments[5:]]
    run(*mine, "--out", store, "--shard", 8)
    (store / "rows" / "part-000001.parquet").unlink()
    save_tiny(tmp_path / "mine.safetensors", seed=1)
    assert "was made with other settings (weights)" in refusal(*mine, "--out", store, "--resume")
    save_tiny(tmp_path / "mine.safetensors")
    assert record(*mine, "--out", store, "--resume")["done"] == 8


def test_another_list_of_inputs_is_refused(arguments, begun, tmp_path):
    run(*arguments, "--out", tmp_path / "other", "--limit", 5)
    (tmp_path / "other" / "inputs.parquet").replace(begun / "inputs.parquet")
    assert "is not the list of inputs that the run began with" in refusal(*arguments, "--out", begun, "--resume")


def test_what_a_run_that_was_killed_early_left_is_no_obstacle(arguments, tmp_path):
    store = tmp_path / "store"
    store.mkdir()
    (store / ".inputs.parquet.0123.partial").write_bytes(b"PAR1")
    (store / ".run.json.0123.partial").write_bytes(b"{")
    (store / "inputs.parquet").write_bytes(b"")
    assert record(*arguments, "--out", store)["explained"] == 18
    assert not list(store.glob("*.partial"))


def test_limit(arguments, tmp_path):
    assert record(*arguments, "--out", tmp_path / "store", "--limit", 3)["inputs"] == 3
    assert record(*arguments, "--out", tmp_path / "all", "--limit", 300)["inputs"] == 20


def test_batch_is_tried_written_down_and_used_again(arguments, tmp_path):
    store = tmp_path / "store"
    run(*arguments, "--out", store, "--shard", 8)
    job = open_store(store).job
    assert job.batch in (1, 2, 4, 8, 16) and job.shard == 8 and job.map_shape == (4, 4)
    before = tables(store)
    (store / "rows" / "part-000001.parquet").unlink()
    told = refusal(*arguments, "--out", store, "--resume", "--batch", 3)
    assert f"begun with batch {job.batch}: leave out --batch 3" in told
    assert record(*arguments, "--out", store, "--resume")["done"] == 8
    assert open_store(store).job.batch == job.batch
    assert tables(store)["part-000001.parquet"].equals(before["part-000001.parquet"])


def test_overlays(arguments, tmp_path):
    store = tmp_path / "store"
    run(*arguments, "--out", store, "--top", 2, "--overlays")
    made = sorted((store / "overlays").rglob("*.jpg"))
    assert len(made) == 18 * 2
    first = open_store(store)[0]
    assert made[0].name == f"000000000_0000.png_00_{first.targets[0].label}.jpg"
    with Image.open(made[0]) as image:
        assert image.size == first.overlay(0).size


def test_classes_that_are_named(arguments, tmp_path):
    run(*arguments, "--out", tmp_path / "store", "--target", "bee", "--target", "eel")
    for one in open_store(tmp_path / "store"):
        assert [target.label for target in one.targets] == ["bee", "eel"]


def test_labels_of_a_table(arguments, tmp_path, folder):
    table = tmp_path / "table.csv"
    table.write_text(f"image,label\n{folder}/0000.png,bee\n{folder}/0001.png,unicorn\n{folder}/0002.png,\n")
    told = record(*arguments[:2], table, *arguments[3:], "--out", tmp_path / "store")
    assert told["explained"] == 2 and told["failed"]["TargetError"]["inputs"] == 1
    store = open_store(tmp_path / "store")
    assert store[0].targets[0].label == "bee" and store[2].targets[0].label in CLASSES


def test_questions_of_a_table(answerer, tmp_path):
    picture().save(tmp_path / "photo.png")
    table = tmp_path / "table.csv"
    table.write_text(
        "id,image,question,answers\n"
        "own,photo.png,a dog runs on grass,\n"
        "asked,photo.png,a cat,ice cream|red\n"
        "silent,photo.png,,red\n"
        "odd,photo.png,a dog,purple\n"
        "gone,gone.png,a dog,\n"
    )
    out = ("--out", tmp_path / "store", "--device", "cpu")
    told = record("run", "vqa", table, "--model", answerer, *out)
    assert told["explained"] == 2
    failed = {name: (entry["inputs"], entry["first"]) for name, entry in told["failed"].items()}
    assert failed == {"InputError": (2, "silent"), "TargetError": (1, "odd")}
    store = open_store(tmp_path / "store")
    assert store["own"].text == "a dog runs on grass" and store["own"].targets[0].kind == "answer"
    # The likelier first, as the verb `vqa` has them.
    asked = store["asked"]
    assert {target.label for target in asked.targets} == {"ice cream", "red"}
    assert asked.probabilities[0] >= asked.probabilities[1]
    errors = {row["id"]: row["error"] for row in store.errors().to_pylist()}
    assert "has no question" in errors["silent"] and "purple" in errors["odd"] and "gone.png" in errors["gone"]


def test_captions_of_a_table_and_of_the_model(captioner, tmp_path):
    picture().save(tmp_path / "photo.png")
    table = tmp_path / "table.jsonl"
    captions = ["a dog runs", "a zebra", None]
    table.write_text(
        "".join(json.dumps({"image": "photo.png", "id": str(n), "caption": c}) + "\n" for n, c in enumerate(captions))
    )
    options = ("--model", captioner, "--device", "cpu")
    told = record("run", "caption", table, *options, "--out", tmp_path / "given")
    assert told["explained"] == 2 and "zebra" in told["failed"]["TargetError"]["error"]
    store = open_store(tmp_path / "given")
    assert store["0"].text == "a dog runs" and store["0"].words == ["a", "dog", "runs"]
    assert record("run", "caption", table, *options, "--generate", "--out", tmp_path / "own")["explained"] == 3
    assert len({one.text for one in open_store(tmp_path / "own")}) == 1


def test_clips(tmp_path):
    save_mover(tmp_path / "mover.safetensors")
    (tmp_path / "clips").mkdir()
    first, *others = (picture().point(lambda value, n=n: min(255, value + 5 * n)) for n in range(20))
    first.save(tmp_path / "clips" / "bright.gif", save_all=True, append_images=others, duration=100)
    (tmp_path / "clips" / "bad.mp4").write_bytes(b"no video")
    options = ("--model", tmp_path / "mover.safetensors", "--device", "cpu", "--overlays")
    told = record("run", "action", tmp_path / "clips", *options, "--out", tmp_path / "store")
    assert (told["inputs"], told["explained"]) == (2, 1)
    one = open_store(tmp_path / "store")["bright.gif"]
    assert one.targets[0].label in ACTIONS and one.geometry.frames is not None
    assert one.importance(0).shape == (20,)
    assert one.picture.pixels.ndim == 4 and one.picture.frames is not None
    assert [path.suffix for path in (tmp_path / "store" / "overlays").rglob("*.*")] == [".png"]


def test_pixel_methods_beside_maps(arguments, tmp_path):
    told = record(*arguments, "--out", tmp_path / "store", "--method", "gradcam", "--method", "guided-backprop")
    store = open_store(tmp_path / "store")
    assert told["rows"] == 18 * 2 + 2 and store.job.map_shape is None
    assert {tuple(shape) for shape in store.table(["map_shape"]).column("map_shape").to_pylist() if shape} == {
        (4, 4),
        (3, 16, 16),
    }
    assert store[0].map(0, method="guided-backprop").shape == (16, 16)


def test_unwritable_and_unknown_places(arguments):
    assert "nowhere" in refusal(*arguments, "--out", "nowhere://store")
    if os.name == "posix":
        assert "cannot write to '/dev/null/store'" in refusal(*arguments, "--out", "/dev/null/store")
