"""Labels for training from maps: seeds and masks for segmentation, boxes for labelling tools."""

from mmexplain.studies.annotation.boxes import study_boxes
from mmexplain.studies.annotation.seeds import study_seeds

__all__ = ["study_boxes", "study_seeds"]
