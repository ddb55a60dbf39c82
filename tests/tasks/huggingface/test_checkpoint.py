"""Opening checkpoints of transformers: what is found, and one clear line for what is not."""

import json
import shutil

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file
from transformers.utils import logging

import mmexplain
from mmexplain.errors import CheckpointError, InputError, ModelError
from mmexplain.tasks.huggingface.checkpoint import open_checkpoint, quiet
from mmexplain.tasks.registry import models
from tests.command_line import refusal, run
from tests.tasks.huggingface import tiny


@pytest.fixture
def folder(checkpoint, tmp_path):
    """A copy of a ViT that may be damaged."""
    return shutil.copytree(checkpoint("vit"), tmp_path / "vit")


def test_what_a_checkpoint_holds(checkpoint):
    found = open_checkpoint(checkpoint("clip"))
    assert (found.architecture, type(found.model)) == ("CLIPModel", hf.CLIPModel)
    assert isinstance(found.processor, hf.CLIPProcessor) and found.tokenizer is found.processor.tokenizer
    assert found.image_processor is found.processor.image_processor and not found.model.training
    found = open_checkpoint(checkpoint("vit"))
    assert isinstance(found.image_processor, hf.ViTImageProcessor)
    assert found.processor is None and found.tokenizer is None


def test_every_kind_of_name(checkpoint):
    folder = checkpoint("vit")
    for name in (folder, f"hf:{folder}"):
        assert mmexplain.load(name, task="classify", device="cpu").model_id == folder
    model = hf.ViTForImageClassification.from_pretrained(folder)
    assert mmexplain.load(model).model is model  # its processor is where it came from
    bare = hf.ViTForImageClassification(hf.ViTConfig.from_dict(model.config.to_dict() | {"_name_or_path": ""}))
    with pytest.raises(CheckpointError, match="no processor"):
        mmexplain.load(bare)
    assert mmexplain.load(bare, processor=hf.AutoImageProcessor.from_pretrained(folder)).model is bare


def test_a_module_is_taken_as_it_is(checkpoint):
    model = hf.ViTForImageClassification.from_pretrained(checkpoint("vit"), dtype=torch.bfloat16)
    model.train()
    task = mmexplain.load(model)
    assert next(model.parameters()).dtype == torch.bfloat16 and model.training
    explanation = task.explain(tiny.photo(), "dog")
    assert explanation.provenance["dtype"] == "bfloat16" and model.training


def test_the_class_is_the_checkpoints_own_and_else_that_of_the_tables(folder):
    config = json.loads((folder / "config.json").read_text())
    del config["architectures"]
    (folder / "config.json").write_text(json.dumps(config))
    assert open_checkpoint(str(folder)).architecture == "ViTForImageClassification"


def test_nothing_is_printed_or_changed(checkpoint, capfd):
    folder = checkpoint("siglip")
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    capfd.readouterr()
    open_checkpoint(folder)
    assert capfd.readouterr() == ("", "")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
    with pytest.raises(KeyError), quiet():
        raise KeyError
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


def test_weights_that_do_not_fit(folder):
    state = load_file(folder / "model.safetensors")
    state.pop("classifier.weight")
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"missing 'classifier\.weight'"):
        mmexplain.load(str(folder))


def test_weights_of_another_size(folder):
    state = load_file(folder / "model.safetensors")
    state["classifier.weight"] = state["classifier.weight"][:, :-1].contiguous()
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"'classifier\.weight' is \[3, 31\], not \[3, 32\]; .* another class"):
        mmexplain.load(str(folder))


def test_damaged_weights(folder):
    (folder / "model.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(CheckpointError, match=r"weights of .* cannot be read") as caught:
        mmexplain.load(str(folder))
    assert "\n" not in str(caught.value)


def test_pickled_weights_are_not_read(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="pickled"):
        mmexplain.load(str(folder))


def test_a_broken_configuration(folder):
    (folder / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="not a configuration in JSON"):
        mmexplain.load(str(folder))


def test_no_processor(folder):
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(CheckpointError, match="no processor"):
        mmexplain.load(str(folder))


def test_code_is_not_run_unasked(folder):
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig"}, "architectures": ["Own"]}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text("raise SystemExit('ran')")
    with pytest.raises(ModelError, match="trust_remote_code=True"):
        mmexplain.load(str(folder))


def test_no_such_place(tmp_path, monkeypatch):
    for name in (str(tmp_path / "missing"), "./missing", "a/b/c"):
        with pytest.raises(CheckpointError, match="does not exist"):
            mmexplain.load(f"hf:{name}")
    with pytest.raises(CheckpointError, match=r"holds no config\.json"):
        mmexplain.load(f"hf:{tmp_path}")
    with pytest.raises(ModelError, match="identifier on the hub"):
        mmexplain.load("hf:not an identifier!")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="not on this machine"):
        mmexplain.load("hf:nobody/nothing")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ModelError, match="could not be downloaded"):
        mmexplain.load("hf:nobody/nothing")


def test_another_task_is_said_before_anything_is_loaded(folder):
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match="serves classify, not caption"):
        mmexplain.load(str(folder), task="caption")


def test_an_unknown_class(tmp_path):
    config = hf.ViTConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
    hf.ViTForMaskedImageModeling(config).save_pretrained(tmp_path)
    hf.ViTImageProcessor().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"closest: 'ViTForImageClassification'.*prepare .* encode .* score"):
        mmexplain.load(str(tmp_path))


def test_what_is_no_model_of_transformers():
    with pytest.raises(ModelError, match="no model of transformers"):
        mmexplain.load(torch.nn.Linear(2, 2))
    with pytest.raises(InputError, match="no processor"):
        mmexplain.load(hf.ViTForImageClassification(hf.ViTConfig(num_hidden_layers=1)), processor=3)


def test_the_command_line(checkpoint, tmp_path):
    tiny.photo().save(tmp_path / "photo.png")
    arguments = ["classify", tmp_path / "photo.png", "--model", f"hf:{checkpoint('vit')}", "--top", "1", "--json"]
    assert run(*arguments).exit_code == 0
    listed = run("layers", "--model", f"hf:{checkpoint('vit')}")
    assert "vit.layers.1.layernorm_before" in listed.output and "default" in listed.output
    assert "hf:ID" in run("models").output and "hf:ID" in [info.id for info in models()]
    assert "serves classify, not caption" in refusal("caption", tmp_path / "photo.png", *arguments[2:4])
