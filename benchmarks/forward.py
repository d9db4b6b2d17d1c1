"""Forward passes against torchvision's network with the same weights: evaluation, batch
8.
"""

import torch
import torchvision
from pairs import compare, report

import zoo

for name, arch in (
    ("vgg16", "vgg16"),
    ("resnet50_v1_5", "resnet50"),
    ("squeezenet1_1", "squeezenet1_1"),
):
    ours, theirs = zoo.create(name).eval(), torchvision.models.get_model(arch).eval()
    theirs.load_state_dict(zoo.export_state_dict(ours, layout="torchvision"))
    x = torch.randn(8, 3, 224, 224)
    with torch.inference_mode():
        assert torch.allclose(ours(x), theirs(x), atol=1e-4), name
        result = compare(
            lambda ours=ours, x=x: ours(x),
            lambda theirs=theirs, x=x: theirs(x),
            rounds=30 if name != "vgg16" else 12,
        )
    report(f"forward {name} / torchvision", result, "<= 1.03")
