"""One of two processes that train networks which leave parts out at random, each with
draws of its own. Started by test_train.py.
"""

import os
import socket
import subprocess
import sys

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader, TensorDataset

import zoo
from zoo.optimizers import make_optimizer
from zoo.tasks.classify import Classify
from zoo.training.loop import Loop
from zoo.training.progress import Progress
from zoo.training.recipe import Recipe
from zoo.training.schedule import make_schedule

NETWORKS = {
    "resnet110_sd_cifar10": {"blocks": (2, 1, 1), "survival": 0.1},
    "fractalnet_c2": {"channels": (8,) * 5, "drop_path": 0.6},
}


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def launched(*arguments):
    """Output, errors and exit code of two Python processes that train together."""
    given = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    given["MASTER_PORT"] = free_port()
    given |= {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            env={**given, "RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    try:
        return [(*process.communicate(timeout=300), process.returncode) for process in processes]
    finally:
        for process in processes:
            process.kill()


if __name__ == "__main__":
    accelerator = Accelerator(cpu=True)
    assert accelerator.num_processes == 2
    pairs = TensorDataset(torch.randn(16, 3, 32, 32), torch.arange(16) % 2)
    for name, model_args in NETWORKS.items():
        model = zoo.create(name, num_classes=2, **model_args)
        loader = DataLoader(pairs, batch_size=2)
        optimizer = make_optimizer("sgd", list(model.parameters()), lr=0.1)
        torch.manual_seed(accelerator.process_index)
        with Progress(1, len(pairs), metrics=Classify.chart_metrics, show=False) as bar:
            Loop(
                model,
                loader,
                loader,
                optimizer,
                make_schedule(Recipe(), optimizer, len(loader), len(loader)),
                step=Classify().step(None),
                epochs=1,
                accelerator=accelerator,
                progress=bar,
            ).run()
        weights = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
        first, second = accelerator.gather(weights[None])
        assert torch.equal(first, second), f"{name}: the processes do not agree"
    accelerator.end_training()
