"""Students that learn where their teacher looks, in seconds:  python demos/study_distil.py [folder [limit]]

The folder holds CIFAR-10's binary version or Flickr8k with boxes; without one it is that of MMEXPLAIN_DATA.
"""

import os
import sys
from pathlib import Path

from mmexplain.studies.distil.data import read
from mmexplain.studies.distil.study import Setup, distil
from mmexplain.studies.distil.training import Recipe

folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(os.environ["MMEXPLAIN_DATA"], "flickr8k")
data = read(folder, limit=int(sys.argv[2]) if len(sys.argv) > 2 else 100)

# Grad-CAM++, section 5, in small: cross entropy (CE), softened probabilities (KD), maps, and two controls.
setup = Setup("10-1", "10-1", Recipe(epochs=4, batch=25, rate=0.05), seeds=1)
study, figure = distil(data, setup)
for name, error, *_ in study.tables[0].cells():
    print(f"{name:<36} {error:>20} % wrong")
for control in study.controls:
    print("held:" if control.held else "failed:", control.what, control.found)
figure.savefig("distil.png")
print("wrote distil.png")
