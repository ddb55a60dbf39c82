"""Logits are found in whatever a classifier returns."""

from collections import namedtuple
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch

from mmexplain.errors import ModelError
from mmexplain.tasks.classification.outputs import find_logits

LOGITS = torch.arange(6.0).view(2, 3)
FEATURES = torch.ones(2, 5)


@dataclass
class Output:
    loss: torch.Tensor
    logits: torch.Tensor


GoogLeNetOutputs = namedtuple("GoogLeNetOutputs", "logits aux_logits2 aux_logits1")


@pytest.mark.parametrize(
    "output",
    [
        LOGITS,
        LOGITS[:, :, None, None],
        {"features": FEATURES, "logits": LOGITS},
        {"loss": torch.tensor(1.0), "scores": LOGITS},
        SimpleNamespace(logits=LOGITS),
        Output(torch.tensor(1.0), LOGITS),
        GoogLeNetOutputs(LOGITS, None, None),
        (torch.tensor(1.0), LOGITS),
        [LOGITS, FEATURES],
    ],
)
def test_logits_are_found(output):
    assert torch.equal(find_logits(output), LOGITS)


def test_of_several_tables_the_one_with_as_many_columns_as_classes_is_taken():
    assert find_logits((FEATURES, LOGITS), 3) is LOGITS
    assert find_logits((LOGITS, FEATURES), 5) is FEATURES


def test_one_number_per_photo_is_one_column():
    assert find_logits(torch.ones(4)).shape == (4, 1)
    assert find_logits(torch.ones(1, 1)).shape == (1, 1)


@pytest.mark.parametrize(
    ("output", "described"),
    [
        (torch.ones(2, 21, 8, 8), r"a float32 tensor \[2, 21, 8, 8\]"),
        (torch.ones(2, 3, dtype=torch.long), r"a int64 tensor \[2, 3\]"),
        (torch.tensor(1.0), r"a float32 tensor \[\]"),
        ({"mask": torch.ones(2, 2, 2)}, r"dict with mask: \[2, 2, 2\]"),
        ((None, torch.ones(2, 2, 2)), r"tuple of NoneType, \[2, 2, 2\]"),
        ("text", "str"),
        (None, "NoneType"),
    ],
)
def test_other_outputs_are_described(output, described):
    with pytest.raises(ModelError, match=rf"no class scores \[B, N\] in the model's output, which is {described}$"):
        find_logits(output)
