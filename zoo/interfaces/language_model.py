"""What every language model offers: logits at every position of a text, a state that is
carried on, and one token after the other.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from zoo.interfaces.decoder import Decoder


class TextOutput(NamedTuple):
    """`logits` (N, T, V): at each position those of the token behind it. `state`: what
    the next tokens of the same texts go on from, a NamedTuple of tensors (N, …).
    """

    logits: Tensor
    state: Any


class LanguageModel(Decoder):
    """Base of language models: a network gives `forward` and `vocab_size`.

    What decoding begins with is a prompt, tokens (N, T), or (N, 0) where there is none:
    then `start` has no logits, and the first token is given to `step`.
    """

    vocab_size: int

    def forward(self, tokens: Tensor, state: Any = None) -> TextOutput:  # type: ignore[override]
        """Read tokens (N, T); without a state the texts begin here. A state may come as
        a plain tuple of its parts.
        """
        raise NotImplementedError

    def encode(self, prompt: Tensor) -> Any:  # type: ignore[override]
        """The logits (N, V) of the token behind the prompts, and the state; None for
        both where the prompts are empty.
        """
        if not prompt.shape[1]:
            return None, None
        logits, state = self(prompt)
        return logits[:, -1], state

    def start(self, memory: Any) -> tuple[Any, Any]:
        logits, state = memory
        return logits, state

    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        logits, state = self(tokens[:, None], state)
        return logits[:, 0], state

    def select(self, state: Any, rows: Tensor) -> Any:
        return state and super().select(state, rows)
