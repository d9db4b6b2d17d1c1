"""Texts that a language model goes on with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from zoo.data.text import to_numbers
from zoo.decoding.sample import sample
from zoo.errors import DataError, InputError
from zoo.formatting import Printable, Section


@dataclass(frozen=True, repr=False)
class TextSample(Printable):
    """A prompt and what was drawn behind it. `nats_per_character`: the mean of -ln p of
    the drawn characters by the network itself, at temperature 1.
    """

    network: str
    prompt: str
    text: str
    temperature: float
    top_k: int
    seed: int
    nats_per_character: float

    def sections(self) -> list[Section]:
        return [self.prompt + self.text]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def continue_text(
    model: Any,
    vocabulary: Sequence[str],
    prompt: str = "",
    *,
    name: str = "",
    length: int = 500,
    temperature: float = 1.0,
    top_k: int = 0,
    seed: int = 0,
    callback: Callable[[str], None] = lambda character: None,
) -> TextSample:
    """Draw `length` characters behind the prompt, one after the other, by a
    zoo.interfaces.language_model.LanguageModel in evaluation mode; the logits are
    divided by `temperature`, and only the `top_k` likeliest are drawn (0: all, 1: the
    likeliest). Without a prompt the first one is drawn evenly. `callback` gets each
    character when it is drawn.

    Raises InputError for a character of the prompt that the vocabulary lacks, and for
    other numbers.
    """
    if length < 1 or top_k < 0 or not temperature > 0:
        raise InputError(
            f"length={length}, temperature={temperature}, top_k={top_k}: needs a length from 1 on, "
            "a temperature above 0 (top_k=1 takes the likeliest) and no negative top_k"
        )
    try:
        tokens = to_numbers(prompt, vocabulary, "the prompt").long()
    except DataError as error:
        raise InputError(str(error)) from error
    device = next(model.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)
    drawn: list[str] = []

    def take(words: Tensor) -> None:
        drawn.append(vocabulary[int(words[0])])
        callback(drawn[-1])

    known = tokens.to(device)[None]  # (1, T)
    if not prompt:
        known = torch.randint(len(vocabulary), (1, 1), generator=generator, device=device)
        take(known[0])
    with torch.no_grad():
        memory = model.encode(known)
        further = length - len(drawn)
        score = 0.0
        if further:
            found = sample(
                model, memory, end=None, max_length=further, temperature=temperature, top_k=top_k,
                generator=generator, each=take,
            )  # fmt: skip
            score = float(found.scores[0])
    return TextSample(
        name, prompt, "".join(drawn), temperature, top_k, seed, -score / max(further, 1)
    )
