"""Weakly supervised word detection: which words will people use for this photo, and where do they show?

The encoder learns to name things before a decoder learns to talk about them. No box is ever seen in training: a photo
only has the words of its five captions, and pooled per-position scores must explain them (multiple-instance learning,
Fang et al. 2015, "From captions to visual concepts and back"; CAM, Zhou et al. 2016).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .flickr8k import Photo
from .vocabulary import Vocabulary, tokenize
from .words import is_content_word


def detectable_words(photos: Sequence[Photo], vocabulary: Vocabulary, min_photos: int = 10) -> list[int]:
    """Tokens of the content words that the captions of at least ``min_photos`` photos use, in vocabulary order."""
    used: Counter[str] = Counter()
    for photo in photos:
        used.update({word for caption in photo.captions for word in tokenize(caption)})
    return [index for index, word in enumerate(vocabulary.tokens) if used[word] >= min_photos and is_content_word(word)]


def word_presence(photos: Sequence[Photo], vocabulary: Vocabulary, tokens: Sequence[int]) -> Tensor:
    """Presence, bool ``[len(photos), len(tokens)]``: whether any caption of the photo uses the word."""
    column = {vocabulary.tokens[token]: at for at, token in enumerate(tokens)}
    presence = torch.zeros(len(photos), len(tokens), dtype=torch.bool)
    for row, photo in enumerate(photos):
        for caption in photo.captions:
            for word in tokenize(caption):
                if word in column:
                    presence[row, column[word]] = True
    return presence


def pool_scores(scores: Tensor, sharpness: float = 4.0) -> Tensor:
    """Half average, half soft maximum of a map of scores: ``[B, W, h, w]`` → ``[B, W]``.

    The average (as CAM) makes the whole thing count, the maximum lets a small thing suffice; the soft maximum is
    ``log(mean(exp(r s))) / r`` with ``r = sharpness`` (Pinheiro & Collobert 2015).
    """
    flat = scores.flatten(2)
    n = torch.tensor(float(flat.shape[2]))
    soft = (torch.logsumexp(flat * sharpness, dim=2) - n.log()) / sharpness
    return 0.5 * (flat.mean(2) + soft)


def detection_loss(logits: Tensor, presence: Tensor, weight: Tensor) -> Tensor:
    """Binary cross-entropy summed over words, averaged over photos.

    Args:
        logits: ``[B, W]``.
        presence: bool ``[B, W]``.
        weight: ``[W]``, of the positive terms.
    """
    loss = F.binary_cross_entropy_with_logits(logits, presence.to(logits.dtype), pos_weight=weight, reduction="sum")
    return loss / len(logits)


class WordDetector(nn.Module):
    """A linear score for each word at each position of the grid.

    Args:
        channels: C of the grid.
        frequency: share of training photos with each word, ``[W]``; the bias starts there.
    """

    def __init__(self, channels: int, frequency: Tensor) -> None:
        super().__init__()
        self.dropout = nn.Dropout2d(0.1)
        self.score = nn.Conv2d(channels, len(frequency), 1)
        nn.init.zeros_(self.score.weight)
        prior = frequency.clamp(1e-4, 1 - 1e-4)
        with torch.no_grad():
            assert self.score.bias is not None
            self.score.bias.copy_(torch.log(prior / (1 - prior)))

    def forward(self, grid: Tensor) -> Tensor:
        """``[B, C, h, w]`` → maps of scores ``[B, W, h, w]``."""
        maps: Tensor = self.score(self.dropout(grid))
        return maps
