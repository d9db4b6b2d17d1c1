"""Scores of what a captioner says about photos that people described."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.data.captioned import EncodedCaptions
from zoo.data.captions import CaptionedPhotos
from zoo.data.vocabulary import Vocabulary
from zoo.decoding.scores import Scores, caption_scores
from zoo.formatting import Printable, Section, Table
from zoo.interfaces.decoder import Captioner
from zoo.spec import Preprocessing
from zoo.tasks.base import EvaluationOptions
from zoo.tasks.captions import MOST_WORDS, CaptionOf, Captions, Decoding, Spoken, spoken
from zoo.tasks.encoded_photos import encoded_photos

WIDTHS = (1, 3, 5)  # of the beam; 1: the likeliest word at each step
SHOWN = 20  # photos of the sheet


@dataclass(frozen=True, repr=False)
class CaptionEvaluation(Printable):
    """Scores by the width of the beam, and the captions of the widths' middle one."""

    network: str
    data: str
    photos: int
    scores: dict[int, Scores]
    captions: Captions

    def sections(self) -> list[Section]:
        rows = [
            [
                _beam(width),
                *(f"{value:.2f}" for value in (*found.bleu, found.rouge_l)),
                f"{found.cider_d:.3f}",
            ]
            for width, found in self.scores.items()
        ]
        bleu = [f"BLEU-{order}" for order in range(1, 5)]
        headers = ["decoding", *bleu, "ROUGE-L", "CIDEr-D"]
        facts = {
            "network": self.network,
            "data": self.data,
            "photos": f"{self.photos:,}",
            "protocol": "COCO's: all captions of a photo as they were written, lower-case, tokens "
            f"by PTB's rules, without punctuation; at most {MOST_WORDS - 1} words",
        }
        return [Table(headers, rows, left=("decoding",)), facts]

    def to_dict(self) -> dict[str, Any]:
        scores = [{"beam": width, **found.to_dict()} for width, found in self.scores.items()]
        return {
            "network": self.network, "data": self.data, "photos": self.photos, "scores": scores,
        }  # fmt: skip


def _beam(width: int) -> str:
    return "greedy" if width == 1 else f"beam {width}"


def scores_of(photos: CaptionedPhotos, said: Sequence[str]) -> Scores:
    """Of a caption of each photo, against all that people wrote."""
    references = {index: list(photos.captions[index]) for index in range(len(photos))}
    return caption_scores(references, dict(enumerate(said)))


def evaluate_captioner(
    model: Captioner,
    name: str,
    vocabulary: Vocabulary,
    photos: CaptionedPhotos,
    data: str,
    preprocessing: Preprocessing,
    folder: Path | None,
    options: EvaluationOptions,
) -> CaptionEvaluation:
    """What the encoder gives of the photos is stored in `folder`."""
    features = encoded_photos(
        model.encoder, photos.files, preprocessing, folder, progress=options.progress
    )
    encoded = EncodedCaptions(photos, vocabulary, features=features)
    found: dict[int, list[Spoken]] = {
        width: list(
            spoken(
                model, vocabulary, encoded.batches(), encoded=True, decoding=Decoding(width=width)
            )
        )
        for width in WIDTHS
    }
    scores = {
        width: scores_of(photos, [each.text for each in said]) for width, said in found.items()
    }
    middle = found[WIDTHS[len(WIDTHS) // 2]]
    captions = Captions(
        CaptionOf(file, each.text, each.score, attention=each.attention)
        for file, each in zip(photos.files[:SHOWN], middle, strict=False)
    )
    return CaptionEvaluation(name, data, len(photos), scores, captions)
