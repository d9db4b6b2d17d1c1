"""How soon there is an answer, as whole processes: the list of names against timm's, a
new network against torchvision's, and each verb on a small network against `import
torch`, in the same run.
"""

import sys
import tempfile
from pathlib import Path

from pairs import compare, process, python, report

import zoo
from zoo.data.digits import export_digits
from zoo.files import write_state

command = str(Path(sys.executable).with_name("zoo"))
report(
    "zoo list / timm.list_models",
    compare(process(command, "list"), python("import timm; timm.list_models()"), rounds=5),
    "<= 0.033",
)
ours = python("import zoo; zoo.create('resnet18')")
theirs = python("import torchvision; torchvision.models.resnet18()")
report("create resnet18 / torchvision", compare(ours, theirs, rounds=7), "<= 0.6")

with tempfile.TemporaryDirectory() as folder:
    network = zoo.create("lenet5_modern")
    about = {
        "architecture": "lenet5_modern",
        "num_classes": 10,
        "classes": list("0123456789"),
        "preprocessing": network.preprocessing.to_dict(),
    }
    weights = Path(folder, "lenet5.safetensors")
    write_state(weights, network.state_dict(), about)
    digits = export_digits(Path(folder, "digits"), 1)
    verbs = {
        "profile lenet5": ["profile", "lenet5"],
        "memory lenet5": ["memory", "lenet5"],
        "verify lenet5": ["verify", "lenet5"],
        "predict": ["predict", str(weights), str(digits[0])],
        "finetune, refused": ["finetune", "lenet5", "--data", "nowhere"],
    }
    for title, words in verbs.items():
        code = 2 if words[0] == "finetune" else 0
        verb = process(command, *words, code=code)
        result = compare(verb, python("import torch"), rounds=5)
        more = result[0] - result[1]
        report(f"zoo {title} / import torch ({more:+.2f} s)", result, "<= 1.5 s more")
