"""BLEU of generated captions (Papineni et al. 2002), as nltk computes it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from nltk.translate.bleu_score import corpus_bleu
from torch import Tensor

from .search import Searchable, beam_search
from .vocabulary import tokenize


def bleu_scores(references: Sequence[Sequence[str]], captions: Sequence[str]) -> dict[str, float]:
    """Corpus BLEU-1 .. BLEU-4, without smoothing.

    Args:
        references: the human captions of each photo.
        captions: one generated caption of each photo.
    """
    refs = [[tokenize(text) for text in texts] for texts in references]
    hyps = [tokenize(text) for text in captions]
    weights = [tuple([1 / n] * n) for n in range(1, 5)]
    scores = corpus_bleu(refs, hyps, weights=weights)
    return {f"bleu-{n}": round(float(score), 4) for n, score in enumerate(scores, start=1)}


def shuffled_bleu(references: Sequence[Sequence[str]], captions: Sequence[str], seed: int = 0) -> dict[str, float]:
    """BLEU when each photo gets another photo's caption: what a captioner scores by knowing only the language.

    The photos are put in a random order and each gets the caption of its neighbour there, so none keeps its own.
    """
    order = torch.randperm(len(captions), generator=torch.Generator().manual_seed(seed)).tolist()
    swapped = list(captions)
    for here, there in zip(order, order[1:] + order[:1], strict=True):
        swapped[here] = captions[there]
    return bleu_scores(references, swapped)


def generate(captioner: Searchable, grids: Sequence[Tensor] | Tensor, beam: int, batch: int = 100) -> list[str]:
    """Captions of photos from their grids ``[N, C, h, w]``."""
    captions: list[str] = []
    for begin in range(0, len(grids), batch):
        grid = torch.as_tensor(grids[begin : begin + batch]).float()
        found = beam_search(captioner, grid, beam)
        captions.extend(captioner.vocabulary.decode(caption.tokens) for caption in found)
    return captions
