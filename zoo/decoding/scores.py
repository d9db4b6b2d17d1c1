"""What captions are worth beside those that people wrote: BLEU, ROUGE-L and CIDEr-D as
the COCO protocol computes them (Chen et al. 2015, arXiv:1504.00325), and METEOR where
Java is there. Computed by pycocoevalcap, the extra `caption`.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.decoding.ptb import ptb_tokens
from zoo.errors import InputError, UsageError, warn
from zoo.formatting import Printable, Section, Table, some_of

Tokens = dict[Hashable, list[str]]  # sentences of tokens with blanks between them, of each image


@dataclass(frozen=True, repr=False)
class Scores(Printable):
    """Scores of a whole set, which are no means over batches, and CIDEr-D only compares
    within one set: its weights come from the references. BLEU, ROUGE-L and METEOR in
    per cent, CIDEr-D as its code gives it, from 0 to 10. `meteor` is None where it was
    not computed.
    """

    images: int
    references: int
    bleu: tuple[float, float, float, float]  # of 1 to 4 words, with brevity penalty
    rouge_l: float
    cider_d: float
    meteor: float | None = None

    def sections(self) -> list[Section]:
        rows = [(f"BLEU-{order}", f"{score:.2f}") for order, score in enumerate(self.bleu, 1)]
        if self.meteor is not None:
            rows.append(("METEOR", f"{self.meteor:.2f}"))
        rows += [("ROUGE-L", f"{self.rouge_l:.2f}"), ("CIDEr-D", f"{self.cider_d:.3f}")]
        facts = {"images": f"{self.images:,}", "references": f"{self.references:,}"}
        facts["protocol"] = "COCO's: lower-case, tokens by PTB's rules, without punctuation"
        return [Table(("score", ""), rows, left=("score",)), facts]

    def to_dict(self) -> dict[str, Any]:
        return {
            "images": self.images,
            "references": self.references,
            **{f"bleu{order}": score for order, score in enumerate(self.bleu, 1)},
            "meteor": self.meteor,
            "rouge_l": self.rouge_l,
            "cider_d": self.cider_d,
        }


def caption_scores(
    references: Mapping[Any, Sequence[str]],
    candidates: Mapping[Any, str],
    *,
    meteor: bool = False,
) -> Scores:
    """One caption per image against all its references, both as they were written; both
    are brought to tokens here. `meteor` takes a Java and some seconds; without a Java
    it is left out, with a warning.

    Raises InputError for images that lack the one or the other, UsageError where
    pycocoevalcap is not installed.
    """
    bleu_scorer, rouge_scorer, cider_scorer = _scorers()
    _check(references, candidates)
    known: Tokens = {key: list(map(ptb_tokens, captions)) for key, captions in references.items()}
    said: Tokens = {key: [ptb_tokens(candidates[key])] for key in known}
    if wordless := [str(key) for key, captions in known.items() if not any(captions)]:
        raise InputError(f"no reference of {some_of(wordless, 3)} has a word")
    if len(known) == 1:
        warn("CIDEr-D of one image is 0: its weights come from comparing images")
    bleu, _ = bleu_scorer.compute_score(known, said, verbose=0)
    rouge_l, _ = rouge_scorer.compute_score(known, said)
    cider_d, _ = cider_scorer.compute_score(known, said)
    return Scores(
        images=len(known),
        references=sum(map(len, known.values())),
        bleu=(100 * bleu[0], 100 * bleu[1], 100 * bleu[2], 100 * bleu[3]),
        rouge_l=100 * float(rouge_l),
        cider_d=float(cider_d),
        meteor=_meteor(known, said) if meteor else None,
    )


def _check(references: Mapping[Any, Sequence[str]], candidates: Mapping[Any, str]) -> None:
    if not references:
        raise InputError("there are no references: nothing to score")
    for key, captions in references.items():
        if isinstance(captions, str) or not len(captions):
            raise InputError(f"references[{key!r}]={captions!r}: expected a list of captions")
    for title, keys, others in (
        ("a caption", references, candidates),
        ("references", candidates, references),
    ):
        if missing := [str(key) for key in keys if key not in others]:
            raise InputError(f"images without {title}: {some_of(missing, 3)}")
    for key, caption in candidates.items():
        if not isinstance(caption, str):
            raise InputError(f"candidates[{key!r}]={caption!r}: expected one caption")


def _scorers() -> tuple[Any, Any, Any]:
    """Those that are pure Python. Raises UsageError where they are not installed."""
    try:
        from pycocoevalcap.bleu.bleu import Bleu
        from pycocoevalcap.cider.cider import Cider
        from pycocoevalcap.rouge.rouge import Rouge
    except ImportError as error:
        raise UsageError(
            "scores of captions need pycocoevalcap, which is not installed: "
            "pip install 'classic-zoo[caption]'"
        ) from error
    return Bleu(4), Rouge(), Cider()


def _meteor(references: Tokens, candidates: Tokens) -> float | None:
    """METEOR 1.5 in per cent, by its Java program; None, with a warning, where that
    does not run.
    """
    java = shutil.which("java")
    if java is None:
        warn("METEOR is left out: it needs Java, and there is none")
        return None
    from pycocoevalcap.meteor import meteor

    command = [java, "-Duser.language=en", "-Xmx2G", "-jar", meteor.METEOR_JAR, "-", "-", "-stdio"]
    try:
        with subprocess.Popen(
            [*command, "-l", "en", "-norm"],
            cwd=Path(meteor.__file__).parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
        ) as process:
            try:
                return 100 * _asked(process, references, candidates)
            finally:
                process.kill()
    except (OSError, ValueError):
        warn(f"METEOR is left out: its program, run by {java}, ended without an answer")
        return None


def _asked(process: subprocess.Popen[str], references: Tokens, candidates: Tokens) -> float:
    """What METEOR's program says of a whole set. Raises OSError and ValueError when it
    stops answering.
    """
    questions, answers = process.stdin, process.stdout
    assert questions
    assert answers

    def ask(*parts: str) -> str:
        questions.write(" ||| ".join(parts) + "\n")
        questions.flush()
        return answers.readline().strip()

    counts = [
        ask("SCORE", *(text.replace("|", "") for text in (*references[key], said)))
        for key, (said,) in candidates.items()
    ]
    scores = [ask("EVAL", *counts)]  # of each image
    scores += [answers.readline().strip() for _ in counts]  # and of the whole
    return float(scores[-1])
