"""Class names of ImageNet and of its larger kin."""

from __future__ import annotations

from functools import lru_cache

from mmexplain.tasks.labels import Labels

__all__ = ["Labels", "imagenet", "imagenet_subset"]


@lru_cache(maxsize=1)
def imagenet() -> Labels:
    """The 1,000 ImageNet classes in the order of torchvision's and timm's models.

    Shown by torchvision's unique short names; found, too, by WordNet's synonyms and synset numbers ("n02123159") where
    timm, which carries them, is installed.
    """
    from torchvision.models._meta import _IMAGENET_CATEGORIES

    return Labels(_IMAGENET_CATEGORIES, lambda: _lemmas("imagenet-1k") or [[]] * len(_IMAGENET_CATEGORIES))


@lru_cache(maxsize=4)
def imagenet_subset(name: str) -> Labels | None:
    """Names of one of timm's larger ImageNet class sets ("imagenet-12k"), by WordNet's lemmas; None if unknown."""
    lemmas = _lemmas(name)
    return Labels((words[1] for words in lemmas), lambda: lemmas) if lemmas else None


def _lemmas(subset: str) -> list[list[str]]:
    """For each class, its synset ("n02123045") and WordNet's words for it; empty without timm."""
    try:
        from timm.data import ImageNetInfo

        info = ImageNetInfo(subset)
    except (ImportError, AssertionError):
        return []
    synsets: list[str] = info.label_names()
    return [[synset, *info.label_name_to_description(synset).split(", ")] for synset in synsets]
