"""Language models: the next character of a text, cross-entropy in nats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch.nn.functional as F
from torch import Tensor, nn

from zoo.data.datasets import DataSplit
from zoo.data.text import TEXTS, Strips, Text, find_text, open_text, read_text
from zoo.errors import DataError, InputError, UsageError
from zoo.interfaces.language_model import TextOutput
from zoo.spec import Family, Preprocessing
from zoo.tasks.base import EvaluationOptions, Prepared, Task, Tested
from zoo.tasks.text_scores import TextEvaluation
from zoo.training.loop import evaluate
from zoo.training.metrics import ChartMetric, Mean

if TYPE_CHECKING:
    from zoo.training.recipe import Recipe

EVALUATED = 1000  # characters of a window without gradients
STRIP = 100_000  # characters, of a long text that is evaluated in several strips
Parts = tuple[Tensor | None, ...]  # of a state


class Language(Task):
    """The next character. A batch is tokens (N, T + 1) of N strips that are read side
    by side, window after window: the state is carried on, gradients are not (truncated
    back-propagation through time).
    """

    name = "language"
    unit = "characters"
    chart_metrics = (ChartMetric("loss", "nats per character"),)
    divisible = False  # the state belongs to whole batches
    keeps_classes = True
    use = "zoo sample {run} --prompt TEXT"

    def __init__(self) -> None:
        self.state: Parts | None = None  # of the strips, behind the last window

    # ------------------------------------------------------------------------- the data

    def open(
        self,
        data: Any,
        *,
        val: Any = None,
        classes: Sequence[str] | None = None,
        val_fraction: float | None = None,
        test_fraction: float | None = None,
        seed: int = 0,
        progress: bool = True,
    ) -> DataSplit:
        """A UTF-8 file or a text by name, divided in order; `classes` are the
        characters that a network knows already.
        """
        if val is not None:
            raise UsageError("val=…: the validation part of a text is cut from it: val_fraction=…")
        return open_text(
            data, val_fraction=val_fraction, test_fraction=test_fraction, vocabulary=classes
        )

    def model_args(self, split: DataSplit, family: Family | None = None) -> dict[str, Any]:
        return {"vocab_size": len(split.classes)}

    def prepare(self, model: nn.Module, split: DataSplit, recipe: Recipe) -> Prepared:
        if recipe.accumulation > 1:
            raise InputError(
                f"accumulation={recipe.accumulation}: a text's batches follow each other, so that "
                "none is divided: a larger batch_size"
            )
        check_vocabulary(model, split.classes, split.source)
        return super().prepare(model, split, recipe)

    def loaders(
        self,
        split: DataSplit,
        recipe: Recipe,
        *,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
    ) -> tuple[Strips, Strips]:
        train = Strips(
            split.train, batch_size * world, recipe.length, rank=rank, world=world,
            name=f"the training part of {split.source}",
        )  # fmt: skip
        return train, evaluated(split.val, rank=rank, world=world)

    def count(self, loader: Any) -> int:
        tokens: int = loader.tokens
        return tokens

    # ------------------------------------------------------------------------ one batch

    def inputs(self, batch: Tensor) -> tuple[Any, ...]:
        return (batch[:, :-1],)

    def forward(self, model: nn.Module, batch: Tensor) -> TextOutput:
        outputs: TextOutput = model(*self.inputs(batch), on_device(self.state, batch))
        self.state = tuple(None if each is None else each.detach() for each in outputs.state)
        return outputs

    def loss(self, outputs: TextOutput, batch: Tensor, model: nn.Module) -> Mean:
        targets = batch[:, 1:]
        value = F.cross_entropy(outputs.logits.flatten(0, 1), targets.flatten())
        return Mean(value, targets.numel())

    def example_batch(self, args: tuple[Any, ...], outputs: TextOutput) -> Tensor:
        rows, length = outputs.logits.shape[:2]
        return args[0].new_zeros(rows, length + 1)

    # -------------------------------------------------------------------- the whole run

    def begin_epoch(self, epoch: int, training: bool) -> None:
        self.state = None

    def state_dict(self) -> dict[str, Any]:
        return {} if self.state is None else {"state": list(on_device(self.state, "cpu") or ())}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.state = tuple(state["state"]) if state else None

    def test(
        self, networks: Sequence[Tested], data: Any, options: EvaluationOptions
    ) -> TextEvaluation:
        """Nats per character of a whole file, of the test part of a text by name, or of
        the part that a run reports on.
        """
        if len(networks) > 1:
            raise UsageError("language models are not averaged: evaluate one at a time")
        of_images = options.crops > 1, options.scales, options.resize, options.input_size
        if any(of_images) or options.among:
            raise UsageError("crops, scales, resize, input_size and among are for images")
        (network,) = networks
        if network.classes is None:
            raise UsageError(
                f"{network.name}: the characters that its outputs mean are not known: classes=…"
            )
        vocabulary = network.classes.names
        check_vocabulary(network.model, vocabulary, network.name)
        part = "the whole text"
        if not isinstance(data, DataSplit) and data in TEXTS:
            data = open_text(data)
        if isinstance(data, DataSplit):
            name, given = data.reported
            part, where, text = f"the {name} part", data.source, given.text
        else:
            path = find_text(data)
            where, text = str(path), read_text(path)
        return self._tested(network.name, network.model, Text(text, vocabulary, where), part, where)

    def _tested(
        self, name: str, model: nn.Module, text: Text, part: str, where: str
    ) -> TextEvaluation:
        strips = evaluated(text, name=where)
        training = model.training
        found = evaluate(model, strips, self.step(None))  # type: ignore[arg-type]
        model.train(training)
        self.state = None
        return TextEvaluation(
            network=name,
            data=where,
            part=part,
            characters=strips.tokens,
            nats_per_character=found["loss"],
            strips=len(strips.strips),
        )

    def report(
        self,
        model: nn.Module,
        split: DataSplit,
        folder: Path,
        options: EvaluationOptions,
        *,
        classes: Sequence[str] = (),
        preprocessing: Preprocessing | None = None,
        selected: str = "",
    ) -> TextEvaluation:
        """Nats per character of the test part, which chose nothing."""
        part, text = split.reported
        found = self._tested(folder.name, model, text, f"the {part} part", split.source)
        found.save(folder)
        return found


def on_device(state: Parts | None, where: Tensor | str) -> Parts | None:
    """A state where a batch lies, or on a device by name."""
    device = where if isinstance(where, str) else where.device
    return state and tuple(None if each is None else each.to(device) for each in state)


def evaluated(text: Text, *, rank: int = 0, world: int = 1, name: str = "") -> Strips:
    """A text in one strip, a long one in several, with windows for evaluation."""
    rows = max(1, len(text) // STRIP)
    rows = -(-rows // world) * world  # as many for each process
    length = min(EVALUATED, max(1, (len(text) - 1) // rows))
    return Strips(text, rows, length, rank=rank, world=world, name=name)


def check_vocabulary(model: nn.Module, vocabulary: Sequence[str], where: str) -> None:
    """Raises DataError for more or fewer characters than the network has numbers."""
    known = getattr(model, "vocab_size", len(vocabulary))
    if known != len(vocabulary):
        raise DataError(
            f"{where}: a vocabulary of {len(vocabulary)} characters, and the network has {known}: "
            f"vocab_size={len(vocabulary)} makes one that fits"
        )
