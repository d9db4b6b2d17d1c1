"""Texts by a language model."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from zoo.api.source import resolve
from zoo.api.trained import trained
from zoo.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

    from zoo.decoding.text import TextSample
    from zoo.training.run import Run


def sample(
    what: str | os.PathLike[str] | Run | nn.Module,
    prompt: str = "",
    *,
    length: int = 500,
    temperature: float = 1.0,
    top_k: int = 0,
    seed: int = 0,
    classes: Sequence[str] | None = None,
    callback: Callable[[str], None] | None = None,
) -> TextSample:
    """What a language model goes on with behind `prompt`: `length` characters, drawn
    one after the other. `.text` is what was drawn.

    `what` is a name, which gets its published weights, a run, a weights file of ours,
    or a module together with its `classes`, the characters in the order of its outputs,
    where it has no published weights; a module stays where it is.

    The logits are divided by `temperature` (below 1: likelier characters; above: more
    varied ones), and only the `top_k` likeliest are drawn (0: all, 1: the likeliest).
    Without a prompt the first character is drawn evenly. `callback(character)` is
    called with each when it is drawn. The same seed gives the same text.

    Raises UsageError for what is no language model, for a character of the prompt that
    it does not know, and for impossible numbers.
    """
    from zoo.decoding.text import continue_text
    from zoo.interfaces.language_model import LanguageModel

    source = resolve(what)
    if source.variant and source.task != "language":
        raise UsageError(f"{source.name} is no language model: its task is {source.task}")
    network = trained(source, "sample", classes)
    model = network.model
    if not isinstance(model, LanguageModel):
        raise UsageError(f"{source.name} is no language model (zoo.interfaces.language_model)")
    if network.classes is None:
        raise UsageError(
            f"sample with {source.name} needs the characters of its outputs: classes=…"
        )
    if len(network.classes) != model.vocab_size:
        raise UsageError(
            f"{source.name} has {model.vocab_size} characters, and {len(network.classes)} are named"
        )
    mode = model.training
    try:
        return continue_text(
            model.eval(),
            network.classes.names,
            prompt,
            name=source.name,
            length=length,
            temperature=temperature,
            top_k=top_k,
            seed=seed,
            callback=callback or (lambda character: None),
        )
    finally:
        model.train(mode)
