"""What every network offers that says one token after the other: captioners, language
models, sequence to sequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from zoo.interfaces.network import Network, has_parameters
from zoo.spec import PAD, Specials


class Decoder(Network):
    """Base of all that decode, batch first. A network gives `encode`, `start` and
    `step`; a faster `decode` where the whole sentence is known.

    `start(memory)` gives the logits (N, V) of the first token, `step(tokens, state)`
    those of the token behind `tokens` (N,). A state is a NamedTuple of tensors (N, …);
    `state.attention` are the weights of a step, where there are such. A step changes no
    part in place; one that it hands on as it was, the same tensor from `start` on, is
    the memory, which beams of one row share.
    """

    specials: ClassVar[Specials | None] = None  # the tokens that are no words

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

    def decode(self, memory: Any, tokens: Tensor) -> Any:
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


class Captioner(Decoder):
    """A decoder that says what is in an image. What its `encoder` gives of an image is
    made ready by `prepare`, once for all sentences.
    """

    encoder: nn.Module
    embedding: nn.Embedding

    @property
    def vocab_size(self) -> int:
        """Tokens, the special ones included."""
        return self.embedding.num_embeddings

    def prepare(self, features: Tensor) -> Any:
        raise NotImplementedError

    def encode(self, images: Tensor) -> Any:  # type: ignore[override]
        return self.prepare(self.encoder(images))

    def forward(  # type: ignore[override]
        self, images: Tensor, tokens: Tensor, *, encoded: bool = False
    ) -> Any:
        """Images (N, 3, H, W), or what the encoder made of them before (`encoded`)."""
        return self.decode(self.prepare(images) if encoded else self.encode(images), tokens)

    def layer_groups(self) -> dict[str, nn.Module]:
        """Those of the encoder, and all else."""
        inner = self.encoder.layer_groups() if isinstance(self.encoder, Network) else {}
        own = [
            part
            for name, part in self.named_children()
            if name != "encoder" and has_parameters(part)
        ]
        groups: dict[str, nn.Module] = {f"encoder.{name}": part for name, part in inner.items()}
        return {**groups, "decoder": nn.ModuleList(own)}

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        inner = self.encoder.group_matcher(coarse) if isinstance(self.encoder, Network) else {}
        groups = {f"encoder.{name}": rf"^encoder\.{rule[1:]}" for name, rule in inner.items()}
        return {**groups, "decoder": r"^(?!encoder\.)"}


def unpadded(tokens: Tensor) -> Tensor:
    """Tokens that a table can be asked for: any in place of PAD."""
    return tokens.clamp(min=0)


class Unrolled:
    """Sentences (M, T) side by side, the longest first, so that each step computes only
    those that are not over. `order` (M,): which sentence stands where; `counts`: how
    many there are at each step.
    """

    def __init__(self, tokens: Tensor) -> None:
        count, length = tokens.shape
        if tokens.is_meta:  # nobody knows: all of them
            self.order, self.counts = torch.arange(count, device="meta"), [count] * length
        else:
            given = tokens != PAD
            self.order = given.sum(1).argsort(descending=True, stable=True)
            self.counts = [each for each in given.sum(0).tolist() if each]
        self.shape = count, length

    def together(self, steps: Sequence[Tensor]) -> Tensor:
        """What the steps gave, (n, …) each, as (M, T, …), zeros behind a sentence's
        end.
        """
        return self.unpacked(torch.cat(list(steps)))

    def unpacked(self, packed: Tensor) -> Tensor:
        """The same of rows (P, …), one step after the other."""
        count, length = self.shape
        places = torch.cat([self.order[:n] * length + t for t, n in enumerate(self.counts)])
        whole = packed.new_zeros(count * length, *packed.shape[1:])
        return whole.index_copy(0, places, packed).view(count, length, *packed.shape[1:])


def token_loss(logits: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of -log p over all tokens but PAD, and their number."""
    loss = nn.functional.cross_entropy(logits.flatten(0, -2), tokens.flatten(), ignore_index=PAD)
    return loss, (tokens != PAD).sum()
