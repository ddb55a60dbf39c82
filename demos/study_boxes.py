"""Boxes for a labelling tool, from a mere classifier:  python demos/study_boxes.py [folder of photos]"""

import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw
from skimage import data

import mmexplain
from mmexplain.studies.annotation.box_files import copy_photos, file_names, write_coco, write_yolo
from mmexplain.studies.annotation.boxes import study_boxes

folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
if len(sys.argv) == 1:
    for name in ("chelsea", "coffee", "rocket"):
        Image.fromarray(getattr(data, name)()).save(folder / f"{name}.png")
classifier = mmexplain.load("efficientnet-lite0")

# The largest segment above 15 % of the map's maximum, for the classes of the data or else for the likeliest one.
study, photos = study_boxes(classifier, folder, threshold=0.15, limit=100)
for table in study.tables:
    print(table.title)
    for row in (table.heads, *table.cells()):
        print("  ".join(f"{cell:<18}" for cell in row).rstrip())
for control in study.controls:
    print("held:" if control.held else "failed:", control.what, control.found)

out, names = Path(), file_names(photos, copied=True)
about = "boxes drawn by mmexplain, not checked by people"
for path in [copy_photos(out, photos), write_coco(out, photos, names, about), *write_yolo(out, photos, names, False)]:
    print("wrote", path)
picture = Image.open(out / "images" / names[0])
for box in photos[0].boxes:
    ImageDraw.Draw(picture).rectangle(box.box, outline="orangered", width=4)
picture.save("boxes.png")
print("wrote boxes.png")
