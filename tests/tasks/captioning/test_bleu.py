from __future__ import annotations

import math

import pytest

from mmexplain.tasks.captioning.bleu import bleu_scores, shuffled_bleu


def test_bleu_by_hand() -> None:
    # 5 of 6 words, 3 of 5 pairs, 2 of 4 triples, 1 of 3 quadruples; as long as the reference
    scores = bleu_scores([["A dog runs on green grass ."]], ["a dog runs on the grass"])
    assert scores["bleu-1"] == pytest.approx(5 / 6, abs=1e-4)
    assert scores["bleu-2"] == pytest.approx(math.sqrt(5 / 6 * 3 / 5), abs=1e-4)
    assert scores["bleu-4"] == pytest.approx((5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25, abs=1e-4)


def test_shuffled_captions_all_stand_under_a_wrong_photo() -> None:
    texts = [f"one{i} two{i} three{i} four{i} five{i}" for i in range(20)]
    references = [[text] for text in texts]
    assert bleu_scores(references, texts)["bleu-4"] == 1.0
    assert shuffled_bleu(references, texts)["bleu-1"] == 0.0
    assert shuffled_bleu(references, texts) == shuffled_bleu(references, texts)
