"""Bias of a data set, by where a model looks: measured in two groups of photos, and a case where it was planted."""

from mmexplain.studies.bias.figure import bias_figure
from mmexplain.studies.bias.measure import bias
from mmexplain.studies.bias.planting import planted

__all__ = ["bias", "bias_figure", "planted"]
