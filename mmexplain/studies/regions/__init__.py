"""Captions of regions, explained by captioners of whole photos."""

from mmexplain.studies.regions.study import read_regions, regions

__all__ = ["read_regions", "regions"]
