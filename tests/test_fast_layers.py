"""Layers that are run by other means: the same values and gradients, and a model that is as it was."""

import copy
import threading

import pytest
import torch
from torch import nn

from mmexplain import fast_layers as module
from mmexplain.fast_layers import fast_layers
from mmexplain.gradients import at_once


class Reads(nn.Module):
    """A recurrent layer between two linear ones, of which the second is large."""

    def __init__(self, recurrent, batch_first=True):
        super().__init__()
        self.see = nn.Linear(6, 8)
        self.read = recurrent
        self.speak = nn.Linear(recurrent.hidden_size * (2 if recurrent.bidirectional else 1), 300)
        self.batch_first = batch_first

    def forward(self, steps, states=None):
        seen = self.see(steps)
        found, _ = self.read(seen if self.batch_first else seen.transpose(0, 1), states)
        return self.speak(found if self.batch_first else found.transpose(0, 1))


RECURRENT = {
    "lstm": lambda: Reads(nn.LSTM(8, 256, batch_first=True)),
    "lstm, steps first": lambda: Reads(nn.LSTM(8, 256), batch_first=False),
    "lstm without biases": lambda: Reads(nn.LSTM(8, 256, bias=False, batch_first=True)),
    "lstm of two layers": lambda: Reads(nn.LSTM(8, 256, 2, batch_first=True)),
    "lstm of two directions": lambda: Reads(nn.LSTM(8, 256, bidirectional=True, batch_first=True)),
    "lstm with a projection": lambda: Reads(nn.LSTM(8, 512, proj_size=256, batch_first=True)),
    "gru": lambda: Reads(nn.GRU(8, 256, batch_first=True)),
    "rnn": lambda: Reads(nn.RNN(8, 256, batch_first=True)),
}


@pytest.fixture(params=RECURRENT)
def model(request):
    torch.manual_seed(0)
    if request.param == "lstm with a projection":
        made = RECURRENT[request.param]()
        made.speak = nn.Linear(256, 300)
        return made.eval()
    return RECURRENT[request.param]().eval()


def in_float64(model, steps, vectors):
    exact = copy.deepcopy(model).double()
    leaf = steps.double().requires_grad_()
    found = exact(leaf)
    return found, torch.stack([torch.autograd.grad(found, leaf, v.double(), retain_graph=True)[0] for v in vectors])


def test_values_and_gradients(model):
    steps, vectors = torch.randn(2, 5, 6), torch.randn(3, 2, 5, 300)
    expected, gradients = in_float64(model, steps, vectors)
    with fast_layers(model):
        with torch.no_grad():
            assert torch.allclose(model(steps).double(), expected, atol=1e-5)
        leaf = steps.clone().requires_grad_()
        found = model(leaf)
        (many,) = at_once([found], [vectors], [leaf])
    assert torch.allclose(found.double(), expected, atol=1e-5)
    assert torch.allclose(many.double(), gradients, atol=1e-4)


def kinds(value):
    """Names of all functions in a graph."""
    names, waiting = set(), [value.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in names:
            names.add(node)
            waiting += [following for following, _ in node.next_functions]
    return {type(node).__name__ for node in names}


def test_both_are_exchanged_and_nothing_stays():
    model = RECURRENT["lstm"]()
    steps = torch.randn(1, 3, 6, requires_grad=True)
    with fast_layers(model):
        assert {"LSTMBackward", "LinearBackward"} <= kinds(model(steps))
    assert not {"LSTMBackward", "LinearBackward"} & kinds(model(steps))
    assert not any(child._forward_hooks or child._forward_pre_hooks for child in model.modules())


def test_an_exception_inside_leaves_nothing():
    model = RECURRENT["lstm"]()
    with fast_layers(model):
        with pytest.raises(RuntimeError):
            model.speak(torch.zeros(1, 7))
        assert "LinearBackward" not in kinds(
            nn.functional.linear(torch.zeros(1, 256, requires_grad=True), model.speak.weight)
        )
    assert torch.overrides._get_current_function_mode_stack() == []


def test_another_thread_is_not_concerned():
    model = RECURRENT["lstm"]()
    found = []
    with fast_layers(model):
        thread = threading.Thread(target=lambda: found.append(kinds(model(torch.randn(1, 3, 6, requires_grad=True)))))
        thread.start()
        thread.join()
    assert not {"LSTMBackward", "LinearBackward"} & found[0]


def test_packed_sequences():
    layer = nn.LSTM(8, 16, batch_first=True)
    steps = torch.randn(2, 4, 8, requires_grad=True)

    def run():
        packed = nn.utils.rnn.pack_padded_sequence(steps, [4, 2], batch_first=True)
        return nn.utils.rnn.pad_packed_sequence(layer(packed)[0], batch_first=True)[0]

    expected = run()
    with fast_layers(layer):
        assert torch.allclose(run(), expected, atol=1e-6)


def test_weights_that_are_made_of_what_is_explained():
    """Gradients go through such weights too."""

    class Made(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(300, 300)

        def forward(self, value):
            weight = self.inner.weight * value.sum()
            return nn.functional.linear(value, weight)

    model = Made()
    hooked = nn.Sequential(model)
    value = torch.randn(2, 300, requires_grad=True)
    (expected,) = torch.autograd.grad(model(value).sum(), value)
    with fast_layers(hooked), module._Exchange():
        (found,) = torch.autograd.grad(model(value).sum(), value)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-2)


def test_within_torch_func_and_autocast_the_layers_are_themselves():
    model = RECURRENT["lstm"]()
    batch = torch.randn(3, 1, 2, 256)
    expected = model.speak(batch)
    with fast_layers(model):
        assert torch.allclose(torch.vmap(model.speak)(batch), expected, atol=1e-5)
        with torch.autocast("cpu", torch.bfloat16):
            assert model.speak(batch).dtype == torch.bfloat16


def test_hidden_states_that_are_given_have_gradients():
    model = RECURRENT["lstm"]()
    steps = torch.randn(1, 3, 6)
    states = (torch.randn(1, 1, 256, requires_grad=True), torch.randn(1, 1, 256, requires_grad=True))
    expected = torch.autograd.grad(model(steps, states).square().sum(), states)
    with fast_layers(model):
        found = torch.autograd.grad(model(steps, states).square().sum(), states)
    for own, reference in zip(found, expected, strict=True):
        assert torch.allclose(own, reference, rtol=1e-3, atol=1e-4)


def test_other_modes_see_what_layers_call():
    seen = []

    class Follows(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            seen.append(function)
            return function(*args, **(kwargs or {}))

    model = RECURRENT["lstm"]()
    with fast_layers(model), Follows():
        found = model(torch.randn(1, 3, 6, requires_grad=True))
    assert {torch.lstm, torch._C._nn.linear} <= set(seen)
    assert "LSTMBackward" not in kinds(found)


def test_an_interruption_inside_leaves_nothing():
    class Stops(nn.LSTM):
        def forward(self, *args):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), fast_layers(model := Stops(3, 4)):
        model(torch.zeros(1, 3))
    assert torch.overrides._get_current_function_mode_stack() == []
