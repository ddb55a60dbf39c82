"""Words' parts as captum works them out, where the baseline is the padding word, whose embedding is zero."""

from __future__ import annotations

import pytest
import torch

from mmexplain.explainer import explain
from tests.models import classes
from tests.readers import PAD, BagOfWords, LSTMReader, Reader, asking, photos

pytestmark = pytest.mark.peers

QUESTION = [3, 1, 4, 1, 5, 8, 2]


@pytest.mark.parametrize("kind", [BagOfWords, LSTMReader])
def test_integrated_gradients_as_captum(kind: type[Reader]) -> None:
    from captum.attr import LayerIntegratedGradients

    task, targets = asking(kind), classes(0, 2)
    (found,) = explain(task, task.prepare(photos()), task.choice([QUESTION], [targets]), text="integrated-gradients")
    with torch.no_grad():
        features = task.model.encode(photos())
    question = torch.tensor([QUESTION])
    method = LayerIntegratedGradients(lambda tokens: task.model.decode(features, tokens), task.model.embed)
    for k, target in enumerate(targets):
        # Many more steps than are taken here, so that the two share no error.
        parts = method.attribute(
            question, torch.full_like(question, PAD), target=target.ids[0], n_steps=256, method="gausslegendre"
        )
        ours = found.text_maps["integrated-gradients"][k]
        torch.testing.assert_close(ours, parts[0].sum(1).float(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", [BagOfWords, LSTMReader])
def test_gradient_x_embedding_as_captum(kind: type[Reader]) -> None:
    from captum.attr import LayerGradientXActivation

    task, targets = asking(kind), classes(0, 2)
    (found,) = explain(task, task.prepare(photos()), task.choice([QUESTION], [targets]), text="gradient-x-embedding")
    with torch.no_grad():
        features = task.model.encode(photos())
    method = LayerGradientXActivation(lambda tokens: task.model.decode(features, tokens), task.model.embed)
    for k, target in enumerate(targets):
        parts = method.attribute(torch.tensor([QUESTION]), target=target.ids[0])
        torch.testing.assert_close(found.text_maps["gradient-x-embedding"][k], parts[0].sum(1).float().detach())
