"""Masks to train segmentation with, from words for photos:  python demos/study_seeds.py [folder of class folders]"""

import sys
import tempfile
from pathlib import Path

from PIL import Image
from skimage import data

import mmexplain
from mmexplain.studies.annotation.seed_recipe import Recipe
from mmexplain.studies.annotation.seeds import study_seeds
from mmexplain.studies.annotation.seeds_told import seeds_figure

folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
if len(sys.argv) == 1:
    for label, name in {"espresso": "coffee", "tiger cat": "chelsea", "missile": "rocket"}.items():
        (folder / label).mkdir()
        Image.fromarray(getattr(data, name)()).save(folder / label / f"{name}.png")
classifier = mmexplain.load("efficientnet-lite0")

# Seeds from a fifth of each map's maximum on, refined by GrabCut, in PASCAL VOC's layout.
out = Path("seeds")
study, files = study_seeds(classifier, folder, Recipe(threshold=0.2, grabcut=True), out=out, photos=True, limit=100)
for table in study.tables:
    print(table.title)
    for row in (table.heads, *table.cells()):
        print("  ".join(f"{cell:<18}" for cell in row).rstrip())
# Where people drew masks (COCO, VOC) these tell whether the seeds are more than the middle of the photo.
for control in study.controls:
    print("held:" if control.held else "failed:", control.what, control.found)
for path in [*files, *study.save(out, seeds_figure(study))]:
    print("wrote", path)
name = (out / "ImageSets/Segmentation/train.txt").read_text().split()[0]
photo, mask = (Image.open(out / file) for file in (f"JPEGImages/{name}.jpg", f"SegmentationClassAug/{name}.png"))
Image.blend(photo, mask.convert("RGB"), 0.6).save("mask.png")
print("wrote mask.png")
