"""Captioners with random weights, for measuring: a CNN and an LSTM that sees the photo as its first input."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torchvision
from torch import Tensor, nn

from mmexplain.tasks.captioning.captioner import CaptionerAdapter, DecoderOutput, WordList

Architecture = Literal["resnet50", "vgg16", "resnet18"]
ARCHITECTURES: tuple[Architecture, ...] = get_args(Architecture)

TAP = {"resnet50": "layer4", "vgg16": "features.29", "resnet18": "layer4"}
"""Last layer of the encoder with a grid: 7 x 7 (ResNet), 14 x 14 (VGG, conv5_3 after its ReLU)."""

LAST_PARAMETER = {"resnet50": "layer4.2.bn3.weight", "vgg16": "features.28.bias", "resnet18": "layer4.1.bn2.weight"}
"""The last parameter before the tap."""


def encoder(architecture: Architecture) -> tuple[nn.Module, int]:
    """Photo ``[B, 3, H, W]`` → feature ``[B, F]``, and F: pooled ``layer4`` (ResNet) or fc7 (VGG)."""
    model = getattr(torchvision.models, architecture)(weights=None)
    if architecture == "vgg16":
        model.classifier = model.classifier[:6]
        return model, 4096
    features: int = model.fc.in_features
    model.fc = nn.Identity()
    return model, features


class Captioner(nn.Module):
    """A captioner as a user would have it: photo and words in, the words' logits out."""

    def __init__(self, architecture: Architecture, vocabulary: int = 10_000, hidden: int = 512) -> None:
        super().__init__()
        self.encoder, features = encoder(architecture)
        self.see = nn.Linear(features, hidden)
        self.embed = nn.Embedding(vocabulary, hidden)
        self.lstm = nn.LSTM(hidden, hidden, batch_first=True)
        self.speak = nn.Linear(hidden, vocabulary)

    def states(self, feature: Tensor, tokens: Tensor) -> Tensor:
        """What each of the words ``[R, T]`` is predicted from: ``[R, T, D]``."""
        steps = torch.cat([self.see(feature)[:, None], self.embed(tokens[:, :-1])], 1)
        hidden: Tensor = self.lstm(steps)[0]
        return hidden

    def forward(self, image: Tensor, tokens: Tensor, steps: Tensor | None = None) -> Tensor:
        """Logits of all words said ``[R, T]``, or of row r's word at ``steps[r]`` only: ``[R]``.

        Words after the last step wanted are neither read nor projected onto the vocabulary.
        """
        feature = self.encoder(image)
        if steps is None:
            logits = self.speak(self.states(feature, tokens))
            return logits.gather(-1, tokens[..., None])[..., 0]
        tokens = tokens[:, : int(steps.max()) + 1]
        rows = torch.arange(len(tokens), device=tokens.device)
        logits = self.speak(self.states(feature, tokens)[rows, steps])
        return logits.gather(-1, tokens[rows, steps][:, None])[:, 0]


class Adapter(CaptionerAdapter):
    """What a user of mmexplain writes for it."""

    def __init__(self, captioner: Captioner) -> None:
        super().__init__()
        self.captioner = captioner
        self.vocabulary = WordList([f"word{number}" for number in range(captioner.speak.out_features)], end=0)

    def encode(self, images: Tensor) -> Tensor:
        """Photos → features ``[B, F]``."""
        feature: Tensor = self.captioner.encoder(images)
        return feature

    def decode(self, features: Tensor, tokens: Tensor) -> DecoderOutput:
        """Features and words → the LSTM's states."""
        return DecoderOutput(self.captioner.states(features, tokens))

    def project(self, hidden: Tensor) -> Tensor:
        """States → logits."""
        logits: Tensor = self.captioner.speak(hidden)
        return logits


def freeze(captioner: Captioner, architecture: Architecture) -> None:
    """Freeze all parameters but the last one before the tap, so that the graph begins as late as it can."""
    for name, parameter in captioner.named_parameters():
        parameter.requires_grad_(name == f"encoder.{LAST_PARAMETER[architecture]}")
