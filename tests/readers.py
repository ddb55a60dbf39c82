"""Tiny models that read a question about a photo, and the task that makes them explainable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmexplain.problem import Choice
from mmexplain.targets import Target
from mmexplain.tasks.base import Batch, Task
from tests.models import class_score, noise, seeded

PAD = 0


class Reader(nn.Module):
    """Photo features and embedded words (padding stands behind them) to A answers."""

    def __init__(self, size: int = 6, answers: int = 4, words: int = 9) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3, stride=2)
        self.embed = nn.Embedding(words, size, padding_idx=PAD)
        self.see = nn.Linear(5, answers)

    def encode(self, image: Tensor) -> Tensor:
        return self.conv(image).relu()

    def decode(self, features: Tensor, question: Tensor) -> Tensor:
        return self.answer(features, self.embed(question), question != PAD)

    def answer(self, features: Tensor, words: Tensor, told: Tensor) -> Tensor:
        raise NotImplementedError


class BagOfWords(Reader):
    """Linear in the sum of the embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(6, 4)

    def answer(self, features: Tensor, words: Tensor, told: Tensor) -> Tensor:
        return self.see(features.mean((2, 3))) + self.out((words * told[..., None]).sum(1))


class LSTMReader(Reader):
    """The state of an LSTM after the last word, times the photo, through a hidden layer."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(6, 7, batch_first=True)
        self.photo = nn.Linear(5, 7)
        self.out = nn.Sequential(nn.Linear(7, 8), nn.Tanh(), nn.Linear(8, 4))
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.6)
        with torch.no_grad():
            self.embed.weight[PAD] = 0

    def answer(self, features: Tensor, words: Tensor, told: Tensor) -> Tensor:
        states, _ = self.lstm(words)
        last = states[torch.arange(len(words)), told.sum(1) - 1]
        return self.out(last * torch.tanh(self.photo(features.mean((2, 3)))))


class Asking(Task):
    """A photo and a question (word numbers) for each input; class numbers as targets."""

    name = "test"

    def __init__(self, model: nn.Module, layer: str | None = "embed") -> None:
        self.model, self.model_id, self.layer = model, type(model).__name__, layer

    def prepare(self, image: Tensor) -> Batch:
        return Batch({"image": image}, {}, [None] * len(image), [None] * len(image))  # type: ignore[list-item]

    def encode(self, inputs: dict[str, Tensor]) -> Tensor:
        return self.model.encode(inputs["image"])

    def decode(self, features: Tensor, context: dict[str, Tensor]) -> Tensor:
        return self.model.decode(features, context["question"])

    def score(self, output: Any, targets: Sequence[Sequence[Target]]) -> Tensor:
        own = class_score(output, targets)
        other = class_score(output, [[target.versus or target for target in row] for row in targets])
        contrasts = torch.tensor([[target.versus is not None for target in row] for row in targets])
        return torch.where(contrasts, own - other, own)

    def default_layer(self) -> str:
        return "conv"

    def text_layer(self) -> str | None:
        return self.layer

    @staticmethod
    def choice(questions: Sequence[Sequence[int]], targets: Sequence[Sequence[Target]], padding: int = 0) -> Choice:
        """Questions, padded to the longest and ``padding`` more, and what is asked of each."""
        longest = max(map(len, questions)) + padding
        tokens = torch.tensor([[*question, *[PAD] * (longest - len(question))] for question in questions])
        return Choice(targets, {"question": tokens}, words=[[f"w{token}" for token in row] for row in questions])


def asking(kind: type[Reader], seed: int = 0) -> Asking:
    return Asking(seeded(kind, seed=seed))


def photos(count: int = 1) -> Tensor:
    return noise(count, 3, 8, 8, seed=3)
