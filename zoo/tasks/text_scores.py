"""How well a language model predicts a text."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zoo.files import write
from zoo.formatting import Printable, Section

REPORT = "report.json"


@dataclass(frozen=True, repr=False)
class TextEvaluation(Printable):
    """The mean of -ln p over `characters`, each from all before it in its strip, the
    state being carried.
    """

    network: str
    data: str
    part: str  # of the text, in words
    characters: int
    nats_per_character: float
    strips: int = 1

    @property
    def bits_per_character(self) -> float:
        return self.nats_per_character / math.log(2)

    @property
    def perplexity(self) -> float:
        return math.exp(self.nats_per_character)

    @property
    def protocol(self) -> str:
        strips = "one pass" if self.strips == 1 else f"{self.strips} strips side by side"
        return f"{self.part}, {strips}, the state carried from the beginning"

    def sections(self) -> list[Section]:
        return [
            {
                "nats per character": f"{self.nats_per_character:.4f}",
                "bits per character": f"{self.bits_per_character:.4f}",
                "perplexity": f"{self.perplexity:.4f}",
            },
            {
                "network": self.network,
                "data": self.data,
                "characters": f"{self.characters:,}",
                "protocol": self.protocol,
            },
        ]

    def to_dict(self) -> dict[str, Any]:
        further = ("bits_per_character", "perplexity", "protocol")
        return {**asdict(self), **{name: getattr(self, name) for name in further}}

    def save(self, folder: Path) -> None:
        """As report.json in a run's folder."""
        write(folder / REPORT, json.dumps(self.to_dict(), indent=1))
