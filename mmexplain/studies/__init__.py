"""What the papers do with explanations: studies of a model on labelled data, each with a control that can fail."""

from mmexplain.studies.study import Control, Study, Table

__all__ = ["Control", "Study", "Table"]
