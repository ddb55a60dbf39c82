"""Random weights: what is drawn, in which order, that the user's model stays as it is; verdicts and the protocol."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from mmexplain.errors import InputError, ModelError
from mmexplain.evaluate import run, together
from mmexplain.evaluate.data_randomisation import DataRandomisation
from mmexplain.evaluate.layer_randomisation import LayerRandomisation
from mmexplain.evaluate.metrics.structure import hog_similarity, ssim
from mmexplain.evaluate.randomisation import Verdict, compare, quick, similarities
from mmexplain.evaluate.weights import RandomWeights
from mmexplain.io import load_image
from mmexplain.preprocess import Preprocess
from mmexplain.tasks.classification import Classifier
from mmexplain.tasks.registry import load
from tests.command_line import picture
from tests.models import GapLinear, PlainCNN, TokenNet

pytest_plugins = ["tests.command_line_fixtures"]

QUESTION = "a red dog runs"


def task_of(model: nn.Module, size: int = 32) -> Classifier:
    return Classifier(model, Preprocess(resize=(size, size)))


class Backwards(nn.Module):
    """Layers registered in another order than they run in, with a parameter of its own and a shared one."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)
        self.scale = nn.Parameter(torch.linspace(0.5, 1.5, 4))
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).mean((2, 3)) * self.scale)


class Fixed(nn.Module):
    """The map of its only target is the photo's brightness, whatever its weights are."""

    def __init__(self) -> None:
        super().__init__()
        self.grid = nn.AvgPool2d(4)
        self.bias = nn.Linear(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        total = self.grid(x.sigmoid()).mean((1, 2, 3))
        return torch.stack([total, total], 1) + self.bias.bias


def trained(model: nn.Module) -> nn.Module:
    """With weights unlike any initialisation's, batch statistics too."""
    torch.manual_seed(5)
    with torch.no_grad():
        for tensor in (*model.parameters(), *(b for b in model.buffers() if b.is_floating_point())):
            tensor.copy_(3 + torch.rand_like(tensor))
    return model.eval()


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


# -- weights ----------------------------------------------------------------------------------------------------------


def test_every_layer_is_drawn_from_its_own_initialisation() -> None:
    weights = RandomWeights(task_of(trained(PlainCNN())), seed=3)
    assert weights.layers == ["conv1", "conv2", "norm", "fc1", "fc2"]
    weights.randomise(weights.layers)
    model = weights.task.model
    for layer in (model.conv1, model.conv2, model.fc1, model.fc2):
        bound = 1 / math.sqrt(layer.weight[0].numel())
        assert layer.weight.abs().max() <= bound and layer.bias.abs().max() <= bound
        assert layer.weight.std() > bound / 4, "uniform in ± bound has 0.58 of it"
    assert (model.norm.weight == 1).all() and (model.norm.bias == 0).all()
    assert (model.norm.running_mean == 0).all() and (model.norm.running_var == 1).all()


def test_a_parameter_without_initialisation_keeps_its_mean_and_deviation() -> None:
    model = TokenNet(prefix=5, width=64)
    with torch.no_grad():
        model.prefix.copy_(2 + 0.1 * torch.randn_like(model.prefix))
    weights = RandomWeights(task_of(model))
    assert weights.layers[0] == ""
    weights.randomise([""])
    drawn = weights.task.model.prefix.detach()
    assert not torch.equal(drawn, model.prefix)
    # Cut off at two deviations, a normal distribution has 0.88 of its own.
    assert drawn.mean() == pytest.approx(2, abs=0.02) and drawn.std() == pytest.approx(0.088, abs=0.01)
    assert (drawn - 2).abs().max() < 0.22


def test_the_users_model_and_the_generators_stay_as_they_are() -> None:
    model = trained(PlainCNN()).train()
    task = task_of(model)
    before, generator = state(model), torch.get_rng_state()
    weights = RandomWeights(task)
    weights.randomise(weights.layers)
    quick(task, picture(40, 40), layers=["conv2"])
    assert torch.equal(torch.get_rng_state(), generator)
    assert model.training and not any(module._forward_pre_hooks for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_trained_weights_come_back_and_draws_are_the_same() -> None:
    model = trained(PlainCNN())
    one, other = RandomWeights(task_of(model), 1), RandomWeights(task_of(model), 1)
    torch.manual_seed(99)
    for weights in (one, other):
        weights.randomise(["fc2", "norm"])
    changed = {
        name for name, value in one.task.model.state_dict().items() if not torch.equal(value, state(model)[name])
    }
    assert changed == {"fc2.weight", "fc2.bias", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"}
    for name, value in one.task.model.state_dict().items():
        assert torch.equal(value, other.task.model.state_dict()[name])
    one.randomise([])
    assert all(torch.equal(value, state(model)[name]) for name, value in one.task.model.state_dict().items())
    assert not torch.equal(RandomWeights(task_of(model), 2)._random["fc1"]["weight"], one._random["fc1"]["weight"])


def test_shared_weights_stay_shared() -> None:
    model = PlainCNN()
    model.again = nn.Linear(8, 5)  # type: ignore[assignment]
    model.again.weight = model.fc2.weight  # type: ignore[union-attr]
    weights = RandomWeights(task_of(model))
    weights.randomise(["fc2"])
    found: Any = weights.task.model
    assert found.again.weight is found.fc2.weight and not torch.equal(found.fc2.weight, model.fc2.weight)


def test_layers_are_in_the_order_in_which_they_run() -> None:
    weights = RandomWeights(task_of(Backwards()))
    assert weights.layers == ["", "head", "body.0", "body.1"]
    weights.traced(lambda task: task.explain(picture(40, 40)))
    assert weights.layers == ["", "body.0", "body.1", "head"]
    assert not any(module._forward_pre_hooks for module in weights.task.model.modules())
    assert [name for name, _ in weights.stages(3)] == ["the model itself", "body", "head"]
    assert [name for name, _ in weights.stages(4)] == ["the model itself", "body.0", "body.1", "head"]
    assert dict(weights.stages(3))["body"] == ["body.0", "body.1"]


def test_a_recurrent_model_in_half_precision() -> None:
    lstm = nn.LSTM(3, 4).to(torch.bfloat16)
    weights = RandomWeights(task_of(nn.Sequential(lstm)))
    weights.randomise(weights.layers)
    assert all(p.dtype == torch.bfloat16 for p in weights.task.model.parameters())
    assert not torch.equal(weights.task.model[0].weight_ih_l0, lstm.weight_ih_l0)


def test_a_reset_that_does_not_work_is_done_without() -> None:
    class Odd(nn.Linear):
        def reset_parameters(self, scale: float | None = None) -> None:
            if getattr(self, "made", False):
                raise TypeError("scale is missing")
            super().reset_parameters()
            self.made = True

    model = Odd(30, 40)
    weights = RandomWeights(task_of(nn.Sequential(model)))
    weights.randomise(weights.layers)
    drawn = weights.task.model[0].weight.detach()
    assert not torch.equal(drawn, model.weight) and drawn.std() == pytest.approx(float(model.weight.std()), rel=0.2)


def test_models_that_cannot_be_randomised_are_refused() -> None:
    with pytest.raises(ModelError, match="has no parameter that could be randomised"):
        RandomWeights(task_of(nn.Sequential(nn.ReLU())))
    model = PlainCNN()
    model.left = model.fc1.weight * 2  # type: ignore[assignment]
    with pytest.raises(ModelError, match="cannot be copied"):
        RandomWeights(task_of(model))


# -- verdicts ---------------------------------------------------------------------------------------------------------


def test_a_map_that_no_weight_changes_is_found() -> None:
    task = task_of(Fixed())
    (verdict,) = quick(task, picture(40, 40), methods=["input-x-gradient"])
    assert verdict.correlation == pytest.approx(1) and verdict.word == "little" and verdict.undefined == 0
    assert verdict.line() == (
        "input-x-gradient: with random weights the map would correlate 1.00 with this one (rank correlation over "
        "1 target; between 1.00 and 1.00 over 3 draws): it tells little of the model"
    )


def test_numbers_are_the_rank_correlations_of_the_two_maps() -> None:
    torch.manual_seed(0)
    task = task_of(PlainCNN().eval())
    photo = picture(40, 40)
    methods = ["gradcam", "input-x-gradient"]
    found = {v.method: v for v in quick(task, photo, top=3, methods=methods, layers=["conv1"], weights_seed=4, draws=1)}
    weights = RandomWeights(task, 4)
    weights.randomise(weights.layers)
    one = task.explain(photo, top=3, methods=methods, layers=["conv1"])
    other = weights.task.explain(photo, one.targets, methods=methods, layers=["conv1"])
    for method in methods:
        pairs = [(one.map(k, method=method).flatten(), other.map(k, method=method).flatten()) for k in range(3)]
        kept = [(a, b) for a, b in pairs if a.std() > 0 and b.std() > 0]
        assert found[method].targets == len(kept) and found[method].undefined == 3 - len(kept)
        signed = sum(stats.spearmanr(a, b).statistic for a, b in kept) / len(kept)
        assert found[method].signed == pytest.approx(signed, abs=1e-5)
        absolute = sum(stats.spearmanr(a.abs(), b.abs()).statistic for a, b in kept) / len(kept)
        assert found[method].absolute == pytest.approx(absolute, abs=1e-5)


def test_a_verdict_is_over_several_draws() -> None:
    torch.manual_seed(0)
    task, photo = task_of(PlainCNN().eval()), picture(40, 40)
    options: dict[str, Any] = {"methods": ["input-x-gradient"], "top": 2}
    (verdict,) = quick(task, photo, weights_seed=5, **options)
    alone = [quick(task, photo, weights_seed=seed, draws=1, **options)[0] for seed in (5, 6, 7)]
    signed = [one.signed for one in alone]
    assert len(set(signed)) == 3 and verdict.drawn == tuple((one.signed, one.absolute) for one in alone)
    assert verdict.signed == pytest.approx(sum(signed) / 3) and verdict.targets == 2
    own = signed if verdict.signed >= verdict.absolute else [one.absolute for one in alone]
    assert verdict.spread == (min(own), max(own), 3)
    assert f"between {min(own):.2f} and {max(own):.2f} over 3 draws" in verdict.line()
    assert "draws" not in alone[0].line()
    with pytest.raises(InputError, match="draws=0: compare with 1 random model or more"):
        quick(task, photo, draws=0)


def test_draws_whose_maps_are_flat_do_not_count() -> None:
    verdict = Verdict("l", "gradcam", "gradcam", 0.1, 0.3, 2, 0, ((0.0, 0.2), (math.nan, math.nan), (0.2, 0.4)))
    assert verdict.spread == (0.2, 0.4, 2)
    assert "of magnitudes over 2 targets; between 0.20 and 0.40 over 2 draws" in verdict.line()


@pytest.mark.parametrize(
    ("signed", "absolute", "word", "text"),
    [
        (0.93, 0.93, "little", "0.93 with this one (rank correlation over 2 targets, 1 flat): it tells little"),
        (0.1, 0.70, "little", "0.70 with this one (rank correlation of magnitudes over 2 targets, 1 flat): it tells"),
        (0.40, 0.2, "partly", "part of it does not come from what the model learned"),
        (-0.9, 0.39, "depends", "it depends on what the model learned"),
    ],
)
def test_thresholds_in_words(signed: float, absolute: float, word: str, text: str) -> None:
    verdict = Verdict("l", "gradcam", "gradcam", signed, absolute, 2, 1)
    assert verdict.word == word and text in verdict.line()


def test_maps_that_cannot_be_compared() -> None:
    verdict = Verdict("l", "gradcam", "gradcam", math.nan, math.nan, 0, 3)
    assert verdict.line() == "gradcam: with random weights the map is flat, or this one is: nothing to compare"
    assert verdict.to_json() == {
        "layer": "l",
        "method": "gradcam",
        "correlation": None,
        "signed": None,
        "absolute": None,
        "low": None,
        "high": None,
        "draws": 0,
        "targets": 0,
        "undefined": 3,
        "verdict": "undefined",
        "says": "with random weights the map is flat, or this one is: nothing to compare",
    }
    explanation = task_of(PlainCNN()).explain(picture(40, 40), layers=["conv1"])
    assert all(math.isnan(found.signed) for found in similarities(explanation, None))


def test_questions_captions_and_clips(photo: Path, answerer: str, captioner: str, clip: Path, mover: str) -> None:
    """Whatever the random model would say itself, it is the trained model's targets that are explained."""
    asked = load(answerer, device="cpu")
    options: dict[str, Any] = {
        "question": QUESTION,
        "answers": ["yellow"],
        "versus": [("red", "yellow")],
        "text": "all",
    }
    (verdict,) = quick(asked, photo, **options)
    explanation = asked.explain(photo, **options)
    assert verdict.targets + verdict.undefined == len(explanation.targets) >= 2
    said = load(captioner, device="cpu")
    spoken = said.explain(photo, whole=True, methods=["gradcam", "attention"])
    verdicts = quick(said, photo, spoken, whole=True, methods=["gradcam", "attention"])
    assert [v.method for v in verdicts] == ["gradcam", "attention"]
    assert all(v.targets + v.undefined == len(spoken.targets) for v in verdicts)
    moved = load(mover, device="cpu")
    (seen,) = quick(moved, clip, top=2)
    assert seen.targets + seen.undefined == 2


def test_layers_are_told_apart() -> None:
    lines = [v.line() for v in quick(task_of(PlainCNN().eval()), picture(40, 40), layers=["conv1", "conv2"])]
    assert lines[0].startswith("gradcam at conv1: ") and lines[1].startswith("gradcam at conv2: ")


def test_two_trained_models_are_compared() -> None:
    torch.manual_seed(0)
    task, other = task_of(PlainCNN().eval()), task_of(PlainCNN().eval())
    same = compare(task, task, picture(40, 40), top=2, layers=["conv1"])
    assert [found.target for found in same] == [0, 1] and all(found.signed == pytest.approx(1) for found in same)
    assert all(found.signed < 0.999 for found in compare(task, other, picture(40, 40), top=2, layers=["conv1"]))


# -- the protocol -----------------------------------------------------------------------------------------------------


def test_cascading_and_independent(tmp_path: Path) -> None:
    for number in range(2):
        picture(40 + number, 44).save(tmp_path / f"{number}.png")
    torch.manual_seed(0)
    task = task_of(Backwards().eval())
    result = run(LayerRandomisation(task, tmp_path, ["input-x-gradient"], stages=3))
    named = [(line.labels["mode"], line.labels["random layers"]) for line in result.lines]
    groups = ["head", "body", "the model itself"]
    assert named == [("cascading", f"down to {g}") for g in groups] + [("independent", g) for g in groups]
    assert result.items == 2
    photo = tmp_path / "0.png"
    rows = LayerRandomisation(task, tmp_path, ["input-x-gradient"], stages=3)
    (first, _) = rows.measure(rows.items())
    weights = RandomWeights(task)
    one = task.explain(photo, methods=["input-x-gradient"])
    for row, layers in ((first[1], ["head", "body.0", "body.1"]), (first[4], ["body.0", "body.1"])):
        weights.randomise(layers)
        other = weights.task.explain(photo, one.targets, methods=["input-x-gradient"])
        expected = stats.spearmanr(one.map(0).flatten(), other.map(0).flatten()).statistic
        assert row["signed"] == pytest.approx(expected, abs=1e-5)
        assert row["ssim"] == pytest.approx(ssim(one.map(0), other.map(0), (32, 32)), abs=1e-5)
        assert row["hog"] is None, "a photo of 32 pixels holds no block of HOG"
    assert all(
        torch.equal(a, b)
        for a, b in zip(state(task.model).values(), state(rows._weights.task.model).values(), strict=True)
    )


def test_questions_of_a_folder(tmp_path: Path, answerer: str) -> None:
    (tmp_path / "images").mkdir()
    picture().save(tmp_path / "images" / "a.jpg")
    lines = [{"image": "a.jpg", "question": QUESTION, "split": split} for split in ("test", "train", "test")]
    (tmp_path / "qa.jsonl").write_text("\n".join(map(json.dumps, lines)))
    protocol = LayerRandomisation(load(answerer, device="cpu"), tmp_path, ["gradcam"], modes=["independent"])
    assert [item.key for item in protocol.items()] == ["0:a.jpg", "2:a.jpg"]
    result = run(protocol, limit=1)
    assert {line.labels["mode"] for line in result.lines} == {"independent"} and len(result.lines) > 3


def test_captions_and_clips(tmp_path: Path, captioner: str, clip: Path, mover: str) -> None:
    picture().save(tmp_path / "a.png")
    result = run(
        LayerRandomisation(load(captioner, device="cpu"), tmp_path, ["gradcam"], modes=["cascading"], stages=4)
    )
    assert len(result.lines) >= 1
    result = run(LayerRandomisation(load(mover, device="cpu"), clip.parent, ["gradcam"], modes=["cascading"], stages=4))
    assert result.items == 1


def test_maps_of_two_models(tmp_path: Path) -> None:
    picture(70, 60).save(tmp_path / "a.png")
    torch.manual_seed(0)
    task, other = task_of(GapLinear().eval(), 64), task_of(GapLinear().eval(), 64)
    methods = ["guided-backprop", "gradcam-no-relu"]
    protocol = DataRandomisation(task, tmp_path, methods, layer="features.2", against=other)
    ((first, second),) = protocol.measure(protocol.items())
    assert (first["method"], second["method"]) == tuple(methods)
    one = task.explain(tmp_path / "a.png", methods=methods, layers=["features.2"])
    compared = other.explain(tmp_path / "a.png", one.targets, methods=methods, layers=["features.2"])
    for row in (first, second):
        pair = [explanation.map(0, method=row["method"]) for explanation in (one, compared)]
        flat = [values.flatten() for values in pair]
        assert row["signed"] == pytest.approx(stats.spearmanr(*flat).statistic, abs=1e-5)
        assert row["absolute"] == pytest.approx(stats.spearmanr(*(v.abs() for v in flat)).statistic, abs=1e-5)
        assert row["ssim"] == pytest.approx(ssim(*pair, (64, 64)), abs=1e-5)
        assert row["hog"] == pytest.approx(hog_similarity(*pair, (64, 64)), abs=1e-5)
    (line, _) = run(DataRandomisation(task, tmp_path, methods, layer="features.2", against=task)).lines
    assert all(found.value == pytest.approx(1) for found in line.means.values()) and len(line.means) == 4


def one_by_one(protocol: Any) -> list[list[dict[str, Any]]]:
    """The rows of each item measured without the others."""
    return [rows for item in protocol.items() for rows in protocol.measure([item])]


def assert_same_rows(protocol: Any) -> None:
    batched = protocol.measure(protocol.items())
    for rows, others in zip(batched, one_by_one(protocol), strict=True):
        for row, other in zip(rows, others, strict=True):
            assert row.keys() == other.keys()
            for name, value in row.items():
                assert value == (pytest.approx(other[name], abs=1e-4) if isinstance(value, float) else other[name])


@pytest.mark.parametrize("sizes", [((40, 44), (44, 40), (41, 40)), ((40, 44), (40, 80), (60, 44))])
def test_photos_in_a_batch_have_the_rows_of_each_alone(tmp_path: Path, sizes: Any, monkeypatch: Any) -> None:
    for number, size in enumerate(sizes):
        picture(*size).save(tmp_path / f"{number}.png")
    torch.manual_seed(3)
    task, other = task_of(Backwards().eval()), task_of(Backwards().eval())
    methods = ["input-x-gradient", "gradcam", "smoothgrad(samples=4)", "rise(masks=8)"]
    loaded: list[Any] = []
    monkeypatch.setattr(together, "load_image", lambda path: loaded.append(path) or load_image(path))
    layers = LayerRandomisation(task, tmp_path, methods, layer="body.2", stages=3)
    layers.measure(layers.items())
    assert len(loaded) == 3, "each photo is decoded once"
    assert_same_rows(layers)
    assert_same_rows(DataRandomisation(task, tmp_path, methods, layer="body.2", against=other))


def test_captions_and_questions_in_a_batch(tmp_path: Path, captioner: str, answerer: str) -> None:
    (tmp_path / "images").mkdir()
    for number in range(3):
        picture(60 + 9 * number, 70).rotate(40 * number).save(tmp_path / "images" / f"{number}.png")
    asked = [("0.png", QUESTION), ("1.png", "red"), ("2.png", "a dog runs")]
    lines = [{"image": image, "question": question, "split": "test"} for image, question in asked]
    (tmp_path / "qa.jsonl").write_text("\n".join(map(json.dumps, lines)))
    for model in (captioner, answerer):
        assert_same_rows(LayerRandomisation(load(model, device="cpu"), tmp_path, ["gradcam"], stages=4))


def test_inputs_of_different_sizes_and_unusable_outputs(tmp_path: Path) -> None:
    """What cannot be done together is done one by one."""
    for number, width in enumerate((40, 64)):
        picture(width, 40).save(tmp_path / f"{number}.png")
    torch.manual_seed(3)
    task = Classifier(Backwards().eval(), Preprocess(resize=32))
    assert_same_rows(LayerRandomisation(task, tmp_path, ["input-x-gradient"], modes=["cascading"], stages=3))

    class Breaks(Backwards):
        """Puts out no numbers for wide bright photos once its head is random."""

        def forward(self, x: Tensor) -> Tensor:
            broken = x.mean((1, 2, 3)) == x.mean((1, 2, 3)).max()
            random = not torch.equal(self.head.weight, self.kept)
            return super().forward(x) + torch.where(broken & random & torch.tensor(len(x) > 1), math.nan, 0.0)[:, None]

    model = Breaks().eval()
    model.register_buffer("kept", model.head.weight.detach().clone())
    assert_same_rows(LayerRandomisation(task_of(model), tmp_path, ["input-x-gradient"], modes=["cascading"], stages=3))


def test_models_that_cannot_be_compared(tmp_path: Path, answerer: str) -> None:
    task = task_of(PlainCNN())
    for other in (task_of(PlainCNN(classes=4)), load(answerer, device="cpu")):
        with pytest.raises(InputError, match="differ in more than their weights"):
            DataRandomisation(task, tmp_path, ["gradcam"], against=other)
    with pytest.raises(InputError, match="compares two models: name the other"):
        DataRandomisation(task, tmp_path, ["gradcam"])


def test_what_does_not_fit_is_refused(tmp_path: Path, answerer: str) -> None:
    task = task_of(PlainCNN())
    with pytest.raises(InputError, match="unknown mode 'all'; there are: cascading, independent"):
        LayerRandomisation(task, tmp_path, ["gradcam"], modes=["all"])
    with pytest.raises(InputError, match="stages=0"):
        LayerRandomisation(task, tmp_path, ["gradcam"], stages=0)
    with pytest.raises(InputError, match="no such folder"):
        LayerRandomisation(task, tmp_path / "none", ["gradcam"])
    with pytest.raises(InputError, match=r"holds no qa\.jsonl"):
        LayerRandomisation(load(answerer, device="cpu"), tmp_path, ["gradcam"]).items()
    (tmp_path / "qa.jsonl").write_text("[1]\n")
    with pytest.raises(InputError, match="is no file of questions"):
        LayerRandomisation(load(answerer, device="cpu"), tmp_path, ["gradcam"]).items()
