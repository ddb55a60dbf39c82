"""A network layer by layer:  python demos/resnet_layers.py [photo.jpg [model]]    (model: torchvision:resnet50, ...)"""

import sys

from skimage import data

import mmexplain

photo = sys.argv[1] if len(sys.argv) > 1 else data.chelsea()
classifier = mmexplain.load(sys.argv[2] if len(sys.argv) > 2 else "efficientnet-lite0")

# The two likeliest classes at every block of the network; all maps come out of one gradient pass.
report = mmexplain.layers_report(classifier, photo, layers="blocks")
for layer in report.layers:
    grid = "×".join(map(str, layer.grid))
    print(f"{layer.name:>12}  {grid:>8}  correlation with the layer before {layer.neighbour[0]:5.2f}")
for line in report.summary():
    print(line)
print("wrote", report.save("layers.html"), "and", report.save("layers.png"))
