"""Training steps of resnet110_sd_cifar10 against the same network with every block
kept: forward, backward and update.

The paper saves about 25 % of the time (section 3); the expected multiply-adds are 74.6
% of the full network's.
"""

import torch
from pairs import compare, report
from torch.nn.functional import cross_entropy

import zoo
from zoo.models.stochastic_depth import stochastic

images, labels = torch.randn(64, 3, 32, 32), torch.randint(10, (64,))


def training(dropping: bool, steps: int = 3):
    model = zoo.create("resnet110_sd_cifar10").train()
    if not dropping:
        for block in stochastic(model):
            block.disable_drop_path()
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4
    )

    def run() -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            cross_entropy(model(images), labels).backward()
            optimizer.step()

    return run


torch.manual_seed(0)
report(
    "training resnet110_sd_cifar10 / all blocks kept",
    compare(training(True), training(False), rounds=12),
    "0.75 to 0.8",
)
