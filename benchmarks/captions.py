"""Captions per second by beam search from stored features: a whole batch at once, as
the package does it, against one image after the other, as a careful user writes it
(the beams of an image in one batch, its memory neither copied nor prepared twice, no
step after the best caption is known).

python benchmarks/captions.py [WHAT] [--recipe RECIPE] [--photos FOLDER] …

WHAT (show_attend_tell) is a captioner's name, a run or a weights file; of a name the
network is built as RECIPE trains it (show_attend_tell_flickr8k: 7x7 places). Features
are random numbers, or those of the photos of FOLDER. A network that is not trained
never ends a sentence, so its captions are ended at drawn lengths: those of Flickr8k's
captions, 5 to 19 words. Both ways must say the same.
"""

import argparse
import math
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pairs import compare, report
from torch import Tensor

import zoo
from zoo.data.image import is_image_name, open_image
from zoo.decoding.beam import beam_search
from zoo.inputs import PAD
from zoo.training.recipe_files import open_recipe

WORDS = 2_538  # of Flickr8k's captions
LENGTHS = (10.8, 3.7, 5, 19)  # words of a caption: mean, standard deviation, least, most


class Ended:
    """A network whose sentence about each row of its memory has a given length; the
    memory is (that of the network, lengths (N,)).
    """

    def __init__(self, model: Any, end: int) -> None:
        self.model, self.end = model, end

    def start(self, memory: tuple[Any, Tensor]) -> tuple[Tensor, Any]:
        logits, state = self.model.start(memory[0])
        return self.bounded(logits, memory[1]), joined(state, memory[1])

    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        logits, after = self.model.step(tokens, state.inner())
        return self.bounded(logits, state.left - 1), joined(after, state.left - 1)

    def select(self, state: Any, rows: Tensor) -> Any:
        left = None if state.left is None else state.left[rows]
        return joined(self.model.select(state.inner(), rows), left)

    def bounded(self, logits: Tensor, left: Tensor) -> Tensor:
        """The end is certain when nothing is left, impossible before."""
        logits[:, self.end] = torch.where(left > 0, -math.inf, 1e4)
        return logits


def joined(state: Any, left: Tensor | None) -> Any:
    """A state with one part more: how many tokens (N,) are left before the end."""
    kind = type(state)
    if kind not in KINDS:
        fields = [(name, Any) for name in kind._fields]
        whole = NamedTuple("Whole", [*fields, ("left", Any)])
        whole.inner = lambda self: kind(*self[:-1])
        KINDS[kind] = whole
    return KINDS[kind](*state, left)


KINDS: dict[type, Any] = {}


@torch.no_grad()
def one_image(model: Any, memory: Any, *, end: int, width: int, max_length: int) -> list[int]:
    """The best caption of one image."""
    logits, state = model.start(memory)
    scores = logits.new_zeros(1)
    live: list[list[int]] = [[]]
    kept: set[str] = set()  # parts that a step hands on as they were
    best, best_score, ended = [], -math.inf, 0
    for length in range(1, max_length + 1):
        log_p = logits.log_softmax(1)
        scores, places = (scores[:, None] + log_p).flatten().topk(width - ended)
        going, parents, sentences = [], [], []
        for rank, (score, place) in enumerate(zip(scores.tolist(), places.tolist(), strict=True)):
            parent, word = divmod(place, logits.shape[1])
            if word == end or length == max_length:
                ended += 1
                if score > best_score:
                    best, best_score = live[parent] + [word] * (word != end), score
            else:
                going.append(rank)
                parents.append(parent)
                sentences.append([*live[parent], word])
        live = sentences
        if not live or scores[going[0]] <= best_score:
            break
        scores = scores[going]
        words = torch.tensor([said[-1] for said in live], device=logits.device)
        rows = torch.tensor(parents, device=logits.device)
        same = {name: getattr(state, name) for name in kept}  # the memory, in all rows alike
        moved = model.select(state._replace(**dict.fromkeys(kept)), rows)
        state = moved._replace(
            **{name: part if part is None else part[: len(rows)] for name, part in same.items()}
        )
        logits, after = model.step(words, state)
        kept = {name for name in after._fields if getattr(after, name) is getattr(state, name)}
        state = after
    return best


def features_of(model: Any, folder: Path | None, count: int) -> Tensor:
    """(count, C, H, W), or (count, C): what the encoder makes of images."""
    if folder is not None:
        files = [path for path in sorted(folder.iterdir()) if is_image_name(path)][:count]
        transform = zoo.transforms(model)
        images = torch.stack([transform(open_image(file)) for file in files])
        with torch.no_grad():
            return torch.cat([model.encoder(part) for part in images.split(16)])
    variant = zoo.info(model.origin.architecture).variant
    images = variant.image.example(count, device="meta")
    shape = model.encoder.to("meta")(images).shape
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def row_of(memory: Any, row: int) -> Any:
    """The memory of one image."""
    if isinstance(memory, Tensor):
        return memory[row : row + 1]
    parts = (part if part is None else row_of(part, row) for part in memory)
    return type(memory)(*parts) if hasattr(memory, "_fields") else tuple(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("what", nargs="?", default="show_attend_tell")
    parser.add_argument("--recipe", default="show_attend_tell_flickr8k")
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--width", type=int, default=3)
    parser.add_argument("--max-length", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    trained = not zoo.is_model(args.what)
    if trained:
        model = zoo.create(args.what).eval()
    else:
        model_args = {**open_recipe(args.recipe).model_args, "vocab_size": WORDS + 2}
        model = zoo.create(args.what, **model_args).eval()
    features = features_of(model, args.photos, args.batch).to(args.device)
    model.encoder = torch.nn.Identity()
    model.to(args.device)
    end = model.specials.end
    generator = torch.Generator().manual_seed(1)
    lengths = torch.normal(*LENGTHS[:2], (len(features),), generator=generator)
    lengths = lengths.round().clamp(*LENGTHS[2:]).long().to(args.device)
    says = model if trained else Ended(model, end)

    @torch.no_grad()
    def memory() -> Any:
        prepared = model.prepare(features)
        return prepared if trained else (prepared, lengths)

    options = {"end": end, "width": args.width, "max_length": args.max_length}

    def batched() -> list[list[int]]:
        tokens = beam_search(says, memory(), **options).tokens
        return [[word for word in row if word != PAD] for row in tokens.tolist()]

    def one_by_one() -> list[list[int]]:
        prepared = memory()
        return [one_image(says, row_of(prepared, row), **options) for row in range(len(features))]

    ours, theirs = batched(), one_by_one()
    same = sum(a == b for a, b in zip(ours, theirs, strict=True))
    assert same >= 0.95 * len(ours), f"{same} of {len(ours)} captions are the same"
    result = compare(batched, one_by_one, rounds=args.rounds)
    mean = sum(map(len, ours)) / len(ours)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(
        f"{args.what} without its encoder, {parameters:,} parameters, features "
        f"{tuple(features.shape[1:])}, beam {args.width}, batch {len(features)}, {args.device}, "
        f"{torch.get_num_threads()} threads; {mean:.1f} words a caption, {same} of {len(ours)} "
        f"the same\ncaptions/s: batched {len(ours) / result[0]:.0f}, one by one "
        f"{len(ours) / result[1]:.0f}"
    )
    goal = "<= 0.1" if args.device.startswith("cuda") else "<= 0.25"
    report("seconds of a batch, batched / one by one", result, goal)


if __name__ == "__main__":
    main()
