"""One step of the optimizer: a batch, perhaps in parts and in several processes, to
gradients and to new weights.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from zoo.errors import UsageError
from zoo.training.metrics import Mean

if TYPE_CHECKING:
    from accelerate import Accelerator

    from zoo.training.step import Step

Values = Mapping[str, Tensor | Mean]  # of a batch: the loss and the metrics


class Updater:
    """Steps of one run. `model` is as accelerate prepared it, `module` is inside it.

    `limit`: how many examples are computed at once (0: a whole batch); it halves where
    the memory does not suffice, and the gradients of the parts are added up, each with
    its weight. `clip`: the largest norm of all gradients together, `clip_value`: the
    largest size of each number in them.
    """

    def __init__(
        self,
        model: nn.Module,
        module: nn.Module,
        optimizer: Any,
        step: Step,
        accelerator: Accelerator,
        *,
        limit: int = 0,
        clip: float | None = None,
        clip_value: float | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        self.model = model
        self.module = module
        self.optimizer = optimizer
        self.step = step
        self.accelerator = accelerator
        self.limit = limit
        self.clip = clip
        self.clip_value = clip_value
        self.say = say
        self.several = isinstance(getattr(optimizer, "optimizer", optimizer), torch.optim.LBFGS)

    def __call__(self, batch: Any) -> list[tuple[Any, Values]]:
        """Train on a batch. Returns its parts with their loss and metrics.

        Raises UsageError where not even one example fits into the memory.
        """
        while True:
            try:
                return self._update(batch)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                self._halve(batch, error)
            self.optimizer.zero_grad()
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def _update(self, batch: Any) -> list[tuple[Any, Values]]:
        if self.several:  # L-BFGS asks for the loss more than once
            first: list[tuple[Any, Values]] = []

            def closure() -> Tensor:
                self.optimizer.zero_grad()
                found = self._gradients(batch)
                first.extend(found if not first else ())
                return _total_loss(found)

            self.optimizer.step(closure)
            self.optimizer.zero_grad()
            return first
        found = self._gradients(batch)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return found

    def _gradients(self, given: Any) -> list[tuple[Any, Values]]:
        """Of the mean loss over the whole batch, of all processes."""
        from accelerate.utils import send_to_device

        parts = [*split(given, self.limit)]
        alone = len(parts) == 1 and self.accelerator.num_processes == 1
        found: list[tuple[Any, Values]] = []
        sizes: list[int | Tensor] = []
        for number, part in enumerate(parts, 1):
            last = number == len(parts)
            with nullcontext() if last else self.accelerator.no_sync(self.model):
                batch = send_to_device(part, self.accelerator.device)
                batch = self.step.on_device(batch, True)
                outputs = self.step.forward(self.model, batch)
                loss = self.step.loss(outputs, batch, self.module)
                value, size = as_mean(loss, batch)
                self.accelerator.backward(value if alone else value * size)
            sizes.append(size)
            found.append((batch, {"loss": loss, **self.step.metrics(outputs, batch)}))
        if not alone:
            count = torch.tensor(float(sum(sizes)), device=self.accelerator.device)
            self._divide_by(self.accelerator.reduce(count) / self.accelerator.num_processes)
        if self.clip_value is not None:
            self.accelerator.clip_grad_value_(self.module.parameters(), self.clip_value)
        if self.clip is not None:
            self.accelerator.clip_grad_norm_(self.module.parameters(), self.clip)
        return found

    def _divide_by(self, count: Tensor) -> None:
        """Sums become means; between processes the gradients were averaged."""
        for parameter in self.module.parameters():
            if parameter.grad is not None:
                parameter.grad.div_(count)

    def _halve(self, batch: Any, error: Exception) -> None:
        from accelerate.utils import find_batch_size

        size = find_batch_size(batch) or 1
        now = min(self.limit or size, size)
        device = self.accelerator.device
        if self.accelerator.num_processes > 1:
            raise UsageError(
                f"the memory of {device} does not suffice for {now} examples: with several "
                "processes give a smaller batch_size, and accumulation to make up for it"
            ) from error
        if now < 2 or not self.step.divisible:
            what = "one example" if now < 2 else "a batch, which cannot be divided here"
            raise UsageError(
                f"the memory of {device} does not suffice for {what}: take a smaller network or "
                "input, or a smaller batch_size"
            ) from error
        self.limit = (now + 1) // 2
        self.say(
            f"out of memory with {now} examples at once: from here on {self.limit} at once, and "
            "their gradients are added up"
        )


def split(batch: Any, limit: int) -> Iterator[Any]:
    """The parts of a batch, as equal as possible, of at most `limit` examples each."""
    from accelerate.utils import find_batch_size, slice_tensors

    size = find_batch_size(batch) if limit else None
    if not size or size <= limit:
        yield batch
        return
    count = -(-size // limit)
    for number in range(count):
        begin, end = number * size // count, (number + 1) * size // count
        yield slice_tensors(batch, slice(begin, end))


def as_mean(loss: Tensor | Mean, batch: Any) -> tuple[Tensor, int | Tensor]:
    """The loss and how many things it is the mean of; a bare one is over the batch."""
    from accelerate.utils import find_batch_size

    return loss if isinstance(loss, tuple) else (loss, find_batch_size(batch) or 1)


def _total_loss(parts: list[tuple[Any, Values]]) -> Tensor:
    means = [as_mean(values["loss"], batch) for batch, values in parts]
    losses = torch.stack([value.detach() * size for value, size in means])
    return losses.sum() / sum(size for _, size in means)


def is_out_of_memory(error: Exception) -> bool:
    """Of a device, or of the machine: torch's allocator for the CPU has no type of its
    own.
    """
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
