"""A planted bias, found by maps and removed:  python demos/study_bias.py [data [photos]]

data holds coco_mini and flickr8k (default: $MMEXPLAIN_DATA); photos is a folder with a folder for each of two groups.
"""

import os
import sys

import mmexplain
from mmexplain.studies.bias import bias, bias_figure, planted

data = sys.argv[1] if len(sys.argv) > 1 else os.environ["MMEXPLAIN_DATA"]

# A linear layer on a frozen network, trained on animals on grass and vehicles on snow, and on a rebalanced set.
study = planted(data, train=80, seeds=1)
for training, biased, unbiased, _ in study.tables[0].rows:
    print(f"trained on {training:<16} biased test set {biased.value:4.0%}, unbiased {unbiased.value:4.0%}")
for control in study.controls:
    print("held  " if control.held else "FAILED", control.what, control.found)

# The same measurement in photos of your own: where do maps lie in one group, and where in the other?
if len(sys.argv) > 2:
    study = bias(mmexplain.load("efficientnet-lite0"), sys.argv[2])
    print(study.markdown())
bias_figure(study).savefig("bias.png")
print("wrote bias.png")
