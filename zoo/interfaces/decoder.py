"""What every network offers that says one token after the other: captioners, language
models, sequence to sequence.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from zoo.interfaces.network import Network
from zoo.spec import PAD


class Decoder(Network):
    """Base of all that decode, batch first. A network gives `encode`, `start` and
    `step`; a faster `decode` where the whole sentence is known.

    `start(memory)` gives the logits (N, V) of the first token, `step(tokens, state)`
    those of the token behind `tokens` (N,). A state is a NamedTuple of tensors (N, …);
    `state.attention` are the weights of a step, where there are such. A step changes no
    part in place; one that it hands on as it was, the same tensor from `start` on, is
    the memory, which beams of one row share.
    """

    def encode(self, *inputs: Tensor) -> Any:
        """What the decoder begins with, (N, …)."""
        raise NotImplementedError

    def start(self, memory: Any) -> tuple[Tensor, Any]:
        raise NotImplementedError

    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        raise NotImplementedError

    def select(self, state: Any, rows: Tensor) -> Any:
        """The state of these rows (M,), which may occur more than once; None, where a
        part is not wanted, stays None.
        """
        return type(state)(*(part if part is None else part[rows] for part in state))

    def decode(self, memory: Any, tokens: Tensor) -> Tensor:
        """Logits (N, T, V) of tokens (N, T), the words and the end, each from those
        before it; of (N, k, T), k sentences of each memory, (N, k, T, V). PAD stands
        behind the end: what is said there does not count.
        """
        sentences = tokens.flatten(0, -2)  # (N k, T)
        logits, state = self.start(memory)
        if tokens.ndim == 3:
            rows = torch.arange(len(tokens), device=tokens.device)
            rows = rows.repeat_interleave(tokens.shape[1])
            logits, state = logits[rows], self.select(state, rows)
        outputs = [logits]
        for words in unpadded(sentences).unbind(1)[:-1]:
            logits, state = self.step(words, state)
            outputs.append(logits)
        return torch.stack(outputs, 1).view(*tokens.shape, -1)

    def forward(self, *inputs: Tensor) -> Any:
        """The inputs of `encode` and the tokens, as `decode` takes them."""
        return self.decode(self.encode(*inputs[:-1]), inputs[-1])


def unpadded(tokens: Tensor) -> Tensor:
    """Tokens that a table can be asked for: any in place of PAD."""
    return tokens.clamp(min=0)


def token_loss(logits: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of -log p over all tokens but PAD, and their number."""
    given = tokens != PAD
    loss = torch.nn.functional.cross_entropy(
        logits.flatten(0, -2), tokens.flatten(), ignore_index=PAD
    )
    return loss, given.sum()
