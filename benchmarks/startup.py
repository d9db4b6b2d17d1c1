"""How soon there is an answer, as whole processes: the list of names against timm's, a
new network against torchvision's.
"""

import sys
from pathlib import Path

from pairs import compare, process, python, report

zoo = str(Path(sys.executable).with_name("zoo"))
report(
    "zoo list / timm.list_models",
    compare(process(zoo, "list"), python("import timm; timm.list_models()"), rounds=5),
    "<= 0.033",
)
ours = python("import zoo; zoo.create('resnet18')")
theirs = python("import torchvision; torchvision.models.resnet18()")
report("create resnet18 / torchvision", compare(ours, theirs, rounds=7), "<= 0.6")
