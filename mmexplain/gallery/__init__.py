"""Looking at a run: a gallery of its maps, where labels lie on average, and two runs against each other."""

from mmexplain.gallery.aggregate import Aggregate, aggregate
from mmexplain.gallery.compare import compare, summary, unpaired
from mmexplain.gallery.label_statistics import label_statistics
from mmexplain.gallery.write import write_gallery

__all__ = ["Aggregate", "aggregate", "compare", "label_statistics", "summary", "unpaired", "write_gallery"]
