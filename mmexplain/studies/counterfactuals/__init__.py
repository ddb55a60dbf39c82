"""What maps mark as speaking against something, taken away."""

from mmexplain.studies.counterfactuals.study import Counterfactuals

__all__ = ["Counterfactuals"]
