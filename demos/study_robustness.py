"""Do maps survive an adversarial attack?  python demos/study_robustness.py [folder of photos [class to be seen]]"""

import sys
import tempfile
from pathlib import Path

from PIL import Image
from skimage import data

import mmexplain
from mmexplain.studies.robustness.attack import TargetedPGD
from mmexplain.studies.robustness.study import robustness

folder = sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()
if len(sys.argv) == 1:
    for name in ("chelsea", "coffee", "rocket"):
        Image.fromarray(getattr(data, name)()).save(Path(folder, f"{name}.png"))
target = sys.argv[2] if len(sys.argv) > 2 else "airliner"
classifier = mmexplain.load("efficientnet-lite0")

# Every pixel may change by 8 of 255 levels, until the model is sure of the class that is not there.
study, figure = robustness(classifier, folder, target=target, attack=TargetedPGD(epsilon=8 / 255, confidence=0.9999))
for table in study.tables:
    print(table.title)
    for row in (table.heads, *table.cells()):
        print("  ".join(f"{cell:<18}" for cell in row).rstrip())
for control in study.controls:
    print("held:" if control.held else "failed:", control.what, control.found)
for path in study.save(Path(), figure):
    print("wrote", path)
