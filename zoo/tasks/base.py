"""What a task gives to training, to prediction and to the memory of a step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from zoo.data.classes import Classes
from zoo.data.datasets import DataSplit
from zoo.errors import InputError, UsageError
from zoo.spec import Family, Preprocessing
from zoo.training.metrics import ChartMetric, Mean
from zoo.training.step import Loss, Step

if TYPE_CHECKING:
    from zoo.formatting import Printable
    from zoo.training.recipe import Recipe


@dataclass(frozen=True)
class Prepared:
    """Data as a network takes them; of images also the preprocessing that makes them
    such.
    """

    split: DataSplit
    preprocessing: Preprocessing | None = None


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """How a network is tested, as `zoo.evaluate` describes it."""

    crops: int = 1
    scales: Sequence[int] = ()
    resize: str = ""
    input_size: Any = None
    among: bool = False
    batch_size: int = 32
    workers: int | None = None
    progress: bool = True


@dataclass(frozen=True, kw_only=True)
class Tested:
    """A network that is evaluated. `classes` are those of its outputs, None where they
    are not known; `preprocessing` is asked for where the data are images.
    """

    name: str
    model: nn.Module
    classes: Classes | None = None
    preprocessing: Callable[[], Preprocessing]


class Task:
    """Base of all tasks. One instance serves one run, so that it may hold state that is
    carried from batch to batch.

    A task defines at least `name`, `open`, `loaders`, `loss` and `example_batch`.
    """

    name: ClassVar[str]
    unit: ClassVar[str] = "examples"  # what is counted: <unit>/s, train_<unit>
    metric: ClassVar[str] = "loss"  # that selects the best epoch, on the validation data
    higher_is_better: ClassVar[bool] = False
    chart_metrics: ClassVar[tuple[ChartMetric, ...]] = (ChartMetric("loss"),)
    divisible: ClassVar[bool] = True  # a batch may be computed in parts, their gradients added up
    keeps_classes: ClassVar[bool] = False  # those of trained weights: `open` is given them
    use: ClassVar[str] = ""  # the command that uses a run: "zoo sample {run} --prompt TEXT"
    predicts: ClassVar[str] = ""  # what `predict` takes, e.g. "image files"; "": it makes none
    cache: Path | None = None  # the folder for what a frozen part of a network gives

    # ------------------------------------------------------------------------- the data

    def open(
        self,
        data: Any,
        *,
        val: Any = None,
        classes: Any = None,
        val_fraction: float | None = None,
        test_fraction: float | None = None,
        seed: int = 0,
        progress: bool = True,
    ) -> DataSplit:
        """Open what names or holds the data, split for training, validation and, where
        there is such a part or `test_fraction` asks for it, a test. Raises UsageError
        and DataError.
        """
        raise UsageError(f"the task {self.name} opens no data")

    def model_args(self, split: DataSplit, family: Family | None = None) -> dict[str, Any]:
        """The constructor's arguments that these data ask for (`vocab_size`), known
        before a network of the family is built by name. Raises UsageError when the data
        do not say.
        """
        return {}

    def check(self, split: DataSplit) -> None:
        """Raises DataError for examples that the task's loss, or a family's, cannot
        take. Not called where the user's own loss says what they are.
        """

    def prepare(self, model: nn.Module, split: DataSplit, recipe: Recipe) -> Prepared:
        """The data as `model` takes them. Raises InputError for what the recipe asks of
        images and their classes.
        """
        if recipe.label_smoothing or recipe.mixup or recipe.cutmix:
            raise InputError(f"label_smoothing, mixup and cutmix: the task {self.name} has none")
        return Prepared(split)

    def loaders(
        self,
        split: DataSplit,
        recipe: Recipe,
        *,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
    ) -> tuple[Any, Any]:
        """What gives the batches for training and for validation, with a length each.

        One with `set_position(epoch, start)`, as in zoo.data.order, gives the batches
        of process `rank` of `world`; a DataLoader without it is divided among the
        processes by accelerate.
        """
        raise NotImplementedError

    def head_inputs(self, loader: Any) -> Tensor | None:
        """Inputs of a batch of `loader`, to try the network on when its last layer is
        fitted to the data's classes; None: the last layer stays.
        """
        return None

    def count(self, loader: Any) -> int:
        """How many things (`unit`) a loader goes through in an epoch."""
        dataset: Any = getattr(loader, "dataset", None)
        if hasattr(dataset, "__len__"):
            return len(dataset)
        return len(loader) * (getattr(loader, "batch_size", None) or 1)

    # ------------------------------------------------------------------------ one batch

    def on_device(self, batch: Any, training: bool) -> Any:
        """A batch as it is computed with, when it has come to the device: augmented
        there, mixed with itself.
        """
        return batch

    def inputs(self, batch: Any) -> tuple[Any, ...]:
        """The positional arguments of the network's `forward`."""
        return (batch[0],)

    def forward(self, model: nn.Module, batch: Any) -> Any:
        """The outputs for a batch; a task that carries state overrides this."""
        return model(*self.inputs(batch))

    def loss(self, outputs: Any, batch: Any, model: nn.Module) -> Tensor | Mean:
        """A scalar to minimise, the mean over the batch, or a Mean with its own count.

        A family's loss, and a user's, take its place. `model` is the module itself,
        never a wrapper.
        """
        raise NotImplementedError

    def metrics(self, outputs: Any, batch: Any) -> Mapping[str, Mean]:
        """What is measured beside the loss, by name."""
        return {}

    def example_batch(self, args: tuple[Any, ...], outputs: Any) -> Any:
        """A batch of inputs `args` with targets that fit `outputs`, on their device,
        meta too: so the memory of a step is predicted with the task's loss.
        """
        raise NotImplementedError

    # -------------------------------------------------------------------- the whole run

    def begin_epoch(self, epoch: int, training: bool) -> None:
        """A pass over the data begins: carried state ends here."""

    def state_dict(self) -> dict[str, Any]:
        """What a run that goes on later needs of the task."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass

    def evaluate(self, model: nn.Module, split: DataSplit) -> Mapping[str, float]:
        """Scores of the whole validation set that are no means over batches (BLEU)."""
        return {}

    def predict(
        self,
        model: nn.Module,
        given: Any,
        *,
        classes: Sequence[str] = (),
        transform: Callable[[Any], Tensor] | None = None,
        top: int = 5,
    ) -> Any:
        """A list of predictions for what `predicts` names: of `classes` the `top`
        likeliest, of images by `transform`; a task takes of these what it needs.
        """
        raise UsageError(f"the task {self.name} makes no predictions")

    def test(self, networks: Sequence[Tested], data: Any, options: EvaluationOptions) -> Any:
        """The scores of a network on `data` that took no part in its training, or of
        several and of their average: a Printable with `to_dict`. Of a DataSplit it is
        the part that a run reports on.
        """
        raise UsageError(f"the task {self.name} is not evaluated yet")

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
    ) -> Printable | None:
        """What a trained network is worth on the part of the data that its run reports
        on, for the run's card; its pictures and tables go into the run's folder. None:
        the task reports nothing.

        `split` is as it was opened, `classes` those of the outputs, `preprocessing`
        that of the run, `selected` what the validation images chose.
        """
        return None

    # --------------------------------------------------------------------- put together

    def step(self, split: DataSplit, loss: Loss | None = None) -> Step:
        """What the training loop does with a batch; `loss` takes the place of the
        task's.
        """
        return Step(
            forward=self.forward,
            loss=loss or self.loss,
            metrics=self.metrics,
            scores=lambda model: self.evaluate(model, split),
            begin_epoch=self.begin_epoch,
            on_device=self.on_device,
            divisible=self.divisible,
            state_dict=self.state_dict,
            load_state_dict=self.load_state_dict,
        )

    def example_loss(
        self, args: tuple[Any, ...], model: nn.Module, loss: Loss | None = None
    ) -> Callable[[Any], Tensor]:
        """From the outputs of `model(*args)` to the scalar that training minimises."""

        def minimised(outputs: Any) -> Tensor:
            found = (loss or self.loss)(outputs, self.example_batch(args, outputs), model)
            return found[0] if isinstance(found, tuple) else found

        return minimised
