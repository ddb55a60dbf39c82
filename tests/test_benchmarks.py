"""The benchmarks run as the README says, here with tiny sizes."""

import json
import subprocess
import sys
from pathlib import Path

pytest_plugins = ["tests.command_line_fixtures"]

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def script(name: str, *arguments: str) -> str:
    command = [sys.executable, str(BENCHMARKS / name), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=600).stdout


def test_strategies_agree_and_are_compared(tmp_path):
    script(
        *("strategies.py", "--rounds", "1", "--only", "resnet18", "--classes", "2", "--captioners", "resnet18"),
        *("--batches", "1", "2", "--words", "2", "--threads", "1", "--size", "64", "--vocabulary", "50"),
        *("--out", str(tmp_path)),
    )
    found = json.loads((tmp_path / "strategies.json").read_text())["cases"]
    assert len(found) == 2 + 4
    assert all(case["best"] in ("expand", "vjp", "loop") for case in found.values())


def test_further_targets_are_compared_with_the_first(tmp_path, answerer):
    options = ("--vqa", answerer, "--question", "a red dog runs", "--video", "r3d_18", "--frames", "4", "--side", "32")
    script("targets.py", *options, "--rounds", "2", "--threads", "1", "--out", str(tmp_path))
    found = json.loads((tmp_path / "targets.json").read_text())["models"]
    assert {"1 answer", "3 answers"} <= found[Path(answerer).name].keys()
    assert found["r3d_18"]["1 action"]["ratio"]["median"] == 1.0
    assert found["r3d_18"]["16 actions"]["ratio"]["median"] > 0


def test_captions_are_counted_alone_and_with_their_words_explained(tmp_path, captioner, photo):
    options = ("--photos", str(photo.parent), "--models", captioner, "--sizes", "1", "--methods", "gradcam", "layercam")
    printed = script("captions_in_batches.py", *options, "--rounds", "2", "--threads", "1", "--out", str(tmp_path))
    (found,) = json.loads((tmp_path / "captions_in_batches.json").read_text())["models"].values()
    assert found["1"]["words"] >= 1 and found["1"]["alone"] > 0
    assert {"gradcam", "layercam"} == found["1"]["explained"].keys()
    for explained in found["1"]["explained"].values():
        share = explained["share"]
        assert explained["gflop"] > found["1"]["gflop"] > 0
        assert explained["a second"] > 0 and share["low"] <= share["median"] <= share["high"]
    assert printed.count("layercam") == 1 and str(tmp_path) not in printed


def test_six_methods_are_compared_with_a_plain_pass(tmp_path):
    options = ("--architecture", "resnet18", "--size", "64", "--rounds", "2", "--threads", "1")
    script("methods.py", *options, "--out", str(tmp_path))
    found = json.loads((tmp_path / "methods.json").read_text())
    assert len(found["six"]) == 6 and len(found["layers"]) == 4 and found["targets"] == 5
    assert found["runs"]["forward and backward"]["ratio"]["median"] == 1.0
    assert all(run["ratio"]["median"] > 0 for run in found["runs"].values())


def test_what_a_long_video_takes(tmp_path, mover):
    options = ("--minutes", "0.05", "--width", "64", "--height", "48", "--stride", "1", "--targets", "jumping")
    printed = script("long_video.py", "--model", mover, *options, "--out", str(tmp_path))
    found = json.loads((tmp_path / "long_video.json").read_text())
    assert {"report.html", "filmstrip.png", "explanation.safetensors"} < set(found["written"])
    assert 2**27 < found["peak_bytes"] < 2**31
    assert f"{found['peak_bytes'] / 2**30:.2f} GiB" in printed
    assert str(tmp_path) not in json.dumps(found)


def test_a_protocol_is_written_up(tmp_path, data_dir):
    options = ("--data", str(data_dir), "--only", "pointing", "--limit", "2", "--work", str(tmp_path / "work"))
    out = tmp_path / "RESULTS.md"
    script("protocols.py", *options, "--out", str(out))
    text = out.read_text()
    assert "## " in text and "`efficientnet-lite0`" in text and "*Published:* Grad-CAM on COCO" in text
    # Two photos were measured; a run that was not is told to be missing, and has no section.
    row = next(line for line in text.splitlines() if line.startswith("| all ") and "| gradcam " in line)
    cells = [cell.strip() for cell in row.strip("| ").split("|")[2:]]
    assert all(cell[0].isdigit() for cell in cells if cell) and sum(map(bool, cells)) >= 3
    assert text.count("*2 items. Settings: ") == text.partition("## Pointing game")[2].count("### `") >= 1
    assert "- grounding, `show-attend-tell`: not measured yet" in text and "## Word grounding" not in text
    record = json.loads((tmp_path / "work" / "pointing_efficientnet-lite0" / "result.json").read_text())
    assert f"Measured on {record['made']['machine']}" in text and f"{record['made']['date']}." in text
    # What is in the folder is on the page, whatever is measured now.
    script("protocols.py", *options[:3], "localisation", *options[4:], "--out", str(out))
    assert row in out.read_text() and "error" in out.read_text()


def test_maps_of_models_with_permuted_labels(tmp_path, data_dir):
    options = ("--data", str(data_dir / "coco_mini"), "--work", str(tmp_path / "work"), "--threads", "1")
    tiny = ("--groups", "person", "food", "--objects", "6", "--held-out", "2", "--views", "2", "--epochs", "2")
    out = tmp_path / "section.md"
    printed = script("data_randomisation.py", *options, *tiny, "--seeds", "2", "--out", str(out))
    assert out.read_text() in printed and out.read_text().startswith("## Randomisation of the training labels")
    found = json.loads(out.with_suffix(".json").read_text())
    assert len(found["accuracies"]) == 4 and found["items"] >= 2
    lines = {tuple(line["labels"].values()): line["means"] for line in found["lines"]}
    assert ("saliency", "permuted labels") in lines and ("saliency", "true labels, another seed") in lines
    # Two groups of two held-out objects, with two seeds each.
    assert lines["saliency", "permuted labels"]["signed"]["rows"] == 8
    assert str(tmp_path) not in out.read_text()
    # What is in the folder is neither trained nor measured again.
    again = script("data_randomisation.py", *options, *tiny, "--seeds", "2", "--out", str(out))
    assert again.count("|") == printed.count("|")
    assert json.loads(out.with_suffix(".json").read_text())["lines"] == found["lines"]
