"""What a captioner says about photos."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from zoo.api.source import resolve
from zoo.api.trained import trained
from zoo.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from zoo.tasks.captions import Captions
    from zoo.training.run import Run


def caption(
    what: str | os.PathLike[str] | Run | nn.Module,
    files: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    beam: int = 3,
    max_length: int = 30,
    length_power: float = 0.0,
    temperature: float | None = None,
    top_k: int = 0,
    seed: int = 0,
    model: nn.Module | None = None,
    transform: Callable[[Any], Tensor] | None = None,
) -> Captions:
    """A sentence about each image file (a folder stands for the images in it and in its
    folders) with its log-probability, in the order of the files: a list of CaptionOf,
    shown as a table; `.plot("sheet.png")` draws the photos with their captions, and
    `[0].plot_attention("maps.png")` where each word of one looked.

    `what` is a name, which gets its published weights and their vocabulary, a run or a
    weights file of ours. `beam` is the width of the beam search, 1 the likeliest word
    at each step; `max_length` counts the end; a score is divided by the number of words
    to the power `length_power` before the best is chosen. With a `temperature` the
    words are drawn instead, of the `top_k` likeliest (0: of all), the same with the
    same `seed`. `model` and `transform`: as in `zoo.predict`. A file that cannot be
    read gets a caption whose `error` says why.

    Raises UsageError for a network that is no captioner, InputError for numbers that
    make no search.
    """
    from zoo.data.image import EvalTransform
    from zoo.tasks.caption import Caption
    from zoo.tasks.captions import Decoding, caption_files

    source = resolve(what)
    source.require_whole("caption")
    if source.task != Caption.name:
        raise UsageError(
            f"{source.name} is for the task {source.task}: `zoo list --task caption` names the "
            "captioners"
        )
    network = trained(source, "caption", None, model)
    captioner, vocabulary = Caption.understood(network.model, network.classes, source.name)
    return caption_files(
        captioner,
        files,
        vocabulary,
        transform or EvalTransform(network.source.preprocessing),
        Decoding(
            width=beam,
            max_length=max_length,
            length_power=length_power,
            temperature=temperature,
            top_k=top_k,
            seed=seed,
        ),
    )
