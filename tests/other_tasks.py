"""Networks and tasks of a test's own: no line of the package knows them.

The language model is one in form: text in strips, two LSTM layers, a state that is
carried from batch to batch, a loss per token.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.data.datasets import DataSplit
from zoo.errors import DataError
from zoo.interfaces.network import Network
from zoo.spec import Claims, Family, Paper, TokenInput, Variant
from zoo.tasks.base import Task
from zoo.training.metrics import ChartMetric, Mean

VOCAB, WIDTH, LENGTH = 12, 16, 8  # words of the row, embedding and hidden size, tokens


class Output(NamedTuple):
    logits: Tensor  # (N, T, vocab_size)
    state: tuple[Tensor, Tensor]  # hidden and cell, (2, N, width) each


class TinyLanguageModel(Network):
    """Embedding, two LSTM layers, Linear."""

    def __init__(self, vocab_size: int, width: int = WIDTH) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, width)
        self.lstm = nn.LSTM(width, width, num_layers=2, batch_first=True)
        self.head = nn.Linear(width, vocab_size)
        self.init_weights()

    def init_module(self, name: str, module: nn.Module) -> None:
        for parameter in module.parameters(recurse=False):
            nn.init.uniform_(parameter, -0.3, 0.3)

    def forward(self, tokens: Tensor, state: Any = None) -> Output:
        hidden, state = self.lstm(self.embedding(tokens), state)  # (N, T, width)
        return Output(self.head(hidden), state)


LANGUAGE = Family(
    paper=Paper("A language model of the tests", "Nobody", 2024, "tests", arxiv="2401.00000"),
    build=TinyLanguageModel,
    variants={
        "tiny_language_model": Variant(
            model_args={"vocab_size": VOCAB},
            task="words",
            inputs=(TokenInput(VOCAB, LENGTH),),
            depth=3,
            claims=Claims(
                params=VOCAB * WIDTH + 2 * (8 * WIDTH * WIDTH + 8 * WIDTH) + VOCAB * (WIDTH + 1),
                macs=LENGTH * (2 * 8 * WIDTH * WIDTH + VOCAB * WIDTH),
            ),
        )
    },
)


@dataclass(frozen=True)
class Text:
    """Token numbers of a text, and the words that they number."""

    tokens: Tensor  # (tokens,)
    vocabulary: tuple[str, ...]


class Strips:
    """A text cut into `rows` strips that are read side by side: batches (rows, T + 1)
    in order, the last one shorter; each begins with the last token of the one before.
    Process `rank` of `world` reads its share of the strips.
    """

    def __init__(self, tokens: Tensor, rows: int, rank: int = 0, world: int = 1) -> None:
        strips = tokens[: len(tokens) // rows * rows].view(rows, -1)
        self.strips = strips[rank::world]

    def __len__(self) -> int:
        return math.ceil((self.strips.shape[1] - 1) / LENGTH)

    def __iter__(self):
        for start in range(0, self.strips.shape[1] - 1, LENGTH):
            yield self.strips[:, start : start + LENGTH + 1]

    @property
    def tokens(self) -> int:
        return self.strips[:, 1:].numel()


class LanguageTask(Task):
    """The next word of a text file; batches are tokens (N, T + 1)."""

    name = "words"
    unit = "tokens"
    metric = "loss"
    higher_is_better = False
    chart_metrics = (ChartMetric("loss", "nats per token"),)

    def __init__(self) -> None:
        self.state: tuple[Tensor, Tensor] | None = None

    def open(self, data, *, val_fraction=None, **options):
        words = Path(data).read_text().split()
        if len(words) < 4 * LENGTH:
            raise DataError(f"{data} has only {len(words)} words")
        vocabulary = tuple(sorted(set(words)))
        tokens = torch.tensor([vocabulary.index(word) for word in words])
        fraction = 0.1 if val_fraction is None else val_fraction
        cut = round(len(tokens) * (1 - fraction))
        return DataSplit(
            name=Path(data).stem,
            source=str(data),
            split=f"the last {fraction:.0%} for validation",
            train=Text(tokens[:cut], vocabulary),
            val=Text(tokens[cut:], vocabulary),
        )

    def model_args(self, split, family=None):
        return {"vocab_size": len(split.train.vocabulary)}

    def loaders(self, split, recipe, *, batch_size, seed, rank=0, world=1):
        parts = (split.train.tokens, split.val.tokens)
        train, val = (Strips(part, batch_size, rank, world) for part in parts)
        return train, val

    def count(self, loader):
        return loader.tokens

    def inputs(self, batch):
        return (batch[:, :-1],)

    def forward(self, model, batch):
        outputs = model(*self.inputs(batch), self.state)
        self.state = tuple(part.detach() for part in outputs.state)
        return outputs

    def loss(self, outputs, batch, model):
        targets = batch[:, 1:]
        return Mean(
            F.cross_entropy(outputs.logits.flatten(0, 1), targets.flatten()), targets.numel()
        )

    def metrics(self, outputs, batch):
        right = (outputs.logits.argmax(2) == batch[:, 1:]).float().mean()
        return {"accuracy": Mean(right, batch[:, 1:].numel())}

    def example_batch(self, args, outputs):
        rows, length = outputs.logits.shape[:2]
        device = outputs.logits.device
        return torch.zeros(rows, length + 1, dtype=torch.long, device=device)

    def begin_epoch(self, epoch, training):
        self.state = None

    def state_dict(self):
        return {} if self.state is None else dict(zip("hc", self.state, strict=True))

    def load_state_dict(self, state):
        self.state = (state["h"], state["c"]) if state else None
