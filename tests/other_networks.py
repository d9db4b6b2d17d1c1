"""Networks of other tasks, registered by the tests alone: one of two inputs that
decodes, and one with another network inside, each with its task.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from zoo.data.datasets import DataSplit
from zoo.interfaces.network import Network
from zoo.layers import init
from zoo.spec import Backbone, Claims, Family, ImageInput, Paper, TokenInput, Variant
from zoo.tasks.base import Task
from zoo.tasks.classify import Classify
from zoo.training.metrics import Mean

PAPER = Paper("A network of a test", "N. N.", 2026, "nowhere")


class State(NamedTuple):
    hidden: Tensor  # (N, width)
    cell: Tensor


class Writer(Network):
    """Images (N, 3, H, W) and the words before (N, T) to logits of the next
    (N, T, V).
    """

    def __init__(self, width: int, vocab_size: int = 11, in_chans: int = 3) -> None:
        super().__init__()
        self.encoder = nn.Conv2d(in_chans, width, 4, stride=4)  # (N, width, H / 4, W / 4)
        self.embedding = nn.Embedding(vocab_size, width)
        self.cell = nn.LSTMCell(width, width)
        self.head = nn.Linear(width, vocab_size)
        self.init_weights()

    def init_module(self, name: str, module: nn.Module) -> None:
        for key, parameter in module.named_parameters(recurse=False):
            if key.startswith("bias"):
                init.constant_(parameter, 0)
            else:
                init.normal_(parameter, 0.1)

    def encode(self, images: Tensor) -> Tensor:
        return self.encoder(images).mean((2, 3))  # (N, width)

    def start(self, memory: Tensor) -> tuple[None, State]:
        return None, State(memory, torch.zeros_like(memory))

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        state = State(*self.cell(self.embedding(tokens), tuple(state)))
        return self.head(state.hidden), state  # (N, V)

    def select(self, state: State, rows: Tensor) -> State:
        return State(*(part[rows] for part in state))

    def decode(self, memory: Tensor, tokens: Tensor) -> Tensor:
        _, state = self.start(memory)
        outputs = []
        for step in tokens.unbind(1):
            logits, state = self.step(step, state)
            outputs.append(logits)
        return torch.stack(outputs, 1)  # (N, T, V)

    def forward(self, images: Tensor, tokens: Tensor) -> Tensor:
        return self.decode(self.encode(images), tokens)


def greedy(model: Writer, images: Tensor, first: int, steps: int) -> Tensor:
    """The likeliest next word, again and again: (N, steps)."""
    _, state = model.start(model.encode(images))
    tokens = torch.full((len(images),), first)
    words = []
    for _ in range(steps):
        logits, state = model.step(tokens, state)
        tokens = logits.argmax(1)
        words.append(tokens)
    return torch.stack(words, 1)


class Judge(Network):
    """An encoder, another network up to one of its modules, and a layer that gives two
    numbers per image: (N, 2).
    """

    def __init__(self, encoder: nn.Module, outputs: int = 2) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.num_features, outputs)
        self.init_weights()

    def init_module(self, name: str, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            init.glorot_uniform_(module.weight)
            init.constant_(module.bias, 0)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.encoder(images)  # (N, C, H', W')
        return self.head(maps.flatten(2).mean(2))


# 3 x 16 positions of 4x4x3 windows; per word two products of the cell and the head's
WRITER = Family(
    PAPER,
    Writer,
    {
        "writer": Variant(
            model_args={"width": 8},
            claims=Claims(
                params=(3 * 16 * 8 + 8) + 11 * 8 + (8 + 8 + 2) * 32 + (8 * 11 + 11),
                macs=16 * 3 * 16 * 8 + 5 * (16 * 32 + 8 * 11),
            ),
            depth=7,
            inputs=(ImageInput((3, 16, 16), min_size=4), TokenInput(11, 5)),
            task="writing",
            note="two inputs",
        )
    },
)
JUDGE = Family(
    PAPER,
    Judge,
    {
        "judge": Variant(
            model_args={},
            claims=Claims(params=156 + 2_416 + 34, macs=117_600 + 240_000 + 32),
            depth=3,
            inputs=(ImageInput((1, 28, 28), min_size=28, fixed=True),),
            task="judging",
            backbones={"encoder": Backbone("lenet5_modern", output="features.s4")},
            note="a network with another one inside",
        )
    },
)


class Writing(Task):
    """Words for images; a batch is (images, words (N, T + 1))."""

    name = "writing"
    unit = "words"

    def open(self, data, **options):
        cut = len(data[0]) * 3 // 4
        parts = [
            TensorDataset(*(each[part] for each in data)) for part in (slice(cut), slice(cut, None))
        ]
        return DataSplit(name="words", source="a test", split="3 : 1", train=parts[0], val=parts[1])

    def loaders(self, split, recipe, *, batch_size, seed, rank=0, world=1):
        train, val = (DataLoader(part, batch_size) for part in (split.train, split.val))
        return train, val

    def inputs(self, batch):
        return batch[0], batch[1][:, :-1]

    def loss(self, outputs, batch, model):
        words = batch[1][:, 1:]
        return Mean(F.cross_entropy(outputs.flatten(0, 1), words.flatten()), words.numel())

    def example_batch(self, args, outputs):
        rows, length = outputs.shape[:2]
        words = torch.zeros(rows, length + 1, dtype=torch.long, device=outputs.device)
        return args[0], words


class Judging(Classify):
    """Two classes or more, by a network that is told how many when it is built."""

    name = "judging"

    def model_args(self, split, family=None):
        return {"outputs": len(split.classes)}
