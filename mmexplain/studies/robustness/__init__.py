"""Maps of the true classes before and after a targeted attack."""

from mmexplain.studies.robustness.attack import TargetedPGD
from mmexplain.studies.robustness.study import robustness

__all__ = ["TargetedPGD", "robustness"]
