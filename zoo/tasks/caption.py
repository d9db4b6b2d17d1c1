"""Images and sentences about them: the next word by those before it, and scores of what
a network says by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from zoo.data.captioned import EncodedCaptions, captioned_batch
from zoo.data.captions import open_captions
from zoo.data.classes import Classes
from zoo.data.datasets import DataSplit
from zoo.data.image import EvalTransform
from zoo.data.order import Order, OrderedLoader
from zoo.data.transforms import preprocessing_of, train_transform
from zoo.data.vocabulary import Vocabulary, frequent_words
from zoo.errors import InputError, UsageError
from zoo.interfaces.decoder import Captioner, token_loss
from zoo.spec import Family, Preprocessing
from zoo.tasks.base import EvaluationOptions, Prepared, Task, Tested
from zoo.tasks.caption_evaluation import CaptionEvaluation, evaluate_captioner, scores_of
from zoo.tasks.captions import Captions, Decoding, caption_files, spoken
from zoo.tasks.encoded_photos import encoded_photos
from zoo.tasks.image_files import Files
from zoo.training.metrics import ChartMetric, Mean
from zoo.training.strategy import Strategy

if TYPE_CHECKING:
    from zoo.training.recipe import Recipe

MIN_COUNT = 5  # a word of the vocabulary occurs so often in the training captions


class Caption(Task):
    """Captioning: batches of (photos (N, 3, H, W), tokens (N, k, T)); where the encoder
    is frozen, of (what it gives, tokens).
    """

    name = "caption"
    unit = "words"
    metric = "cider"
    higher_is_better = True
    chart_metrics = (ChartMetric("loss", "loss per word"), ChartMetric("cider", "CIDEr-D"))
    predicts = "image files"
    keeps_classes = True  # the words of the vocabulary
    use = "zoo caption {run} IMAGE..."

    def __init__(self) -> None:
        self._encoded = False

    # ------------------------------------------------------------------------- the data

    def open(
        self,
        data: Any,
        *,
        val: Any = None,
        classes: Sequence[str] | None = None,
        val_fraction: float | None = None,
        test_fraction: float | None = None,
        seed: int = 0,
        progress: bool = True,
    ) -> DataSplit:
        """A folder or file of captions, as `zoo.data.captions.open_captions` reads
        them. `classes`: the words of a vocabulary, in the order of their numbers; by
        default those that occur five times or more in the training captions.
        """
        if val is not None:
            raise UsageError("val=…: captions bring their own part, or a fraction becomes one")
        split = open_captions(
            data, val_fraction=val_fraction, test_fraction=test_fraction, seed=seed
        )
        words = classes or frequent_words(split.train.sentences(), MIN_COUNT)
        return replace(split, classes=tuple(words))

    def model_args(self, split: DataSplit, family: Family | None = None) -> dict[str, Any]:
        specials = getattr(family.build, "specials", None) if family else None
        if specials is None:
            raise UsageError("the network says no special tokens: it is no captioner")
        return {"vocab_size": specials.count + len(split.classes)}

    def prepare(self, model: nn.Module, split: DataSplit, recipe: Recipe) -> Prepared:
        """With an encoder that the recipe's strategy freezes, what it gives of each
        photo, computed once; else the photos, augmented in training.
        """
        super().prepare(model, split, recipe)
        captioner = _captioner(model)
        vocabulary = vocabulary_of(captioner, split.classes)
        preprocessing = preprocessing_of(captioner)
        if recipe.input_size is not None:
            preprocessing = preprocessing.resized(recipe.input_size)
        last = Strategy.parse(recipe.strategy).last
        self._encoded = last == 1  # of the layer groups: all but the encoder
        parts: dict[str, Any] = {"train": split.train, "val": split.val, "test": split.test}
        for part, photos in parts.items():
            if photos is None or part == "test":
                continue
            if self._encoded:
                if torch.cuda.is_available() and not recipe.cpu:
                    captioner.encoder.cuda()
                features = encoded_photos(
                    captioner.encoder,
                    photos.files,
                    preprocessing,
                    self.cache,
                    title=f"features of {part}",
                )
                parts[part] = EncodedCaptions(photos, vocabulary, features=features)
            else:
                transform: Any = EvalTransform(preprocessing)
                if part == "train" and recipe.augment not in ("auto", "none"):
                    transform = train_transform(preprocessing, recipe.augment, photos)
                parts[part] = EncodedCaptions(photos, vocabulary, transform=transform)
        return Prepared(replace(split, **parts), preprocessing)

    def loaders(
        self,
        split: DataSplit,
        recipe: Recipe,
        *,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
    ) -> tuple[Any, Any]:
        workers = 0 if self._encoded else recipe.workers or 0

        def loader(part: Any, shuffle: bool) -> OrderedLoader:
            order = Order(len(part), batch_size, seed=seed, shuffle=shuffle, rank=rank, world=world)
            return OrderedLoader(part, order, num_workers=workers, collate_fn=captioned_batch)

        return loader(split.train, True), loader(split.val, False)

    def count(self, loader: Any) -> int:
        """Words and ends."""
        data: EncodedCaptions = loader.dataset.dataset
        return sum(len(sentence) for each in data.sentences for sentence in each)

    # ------------------------------------------------------------------------ one batch

    def inputs(self, batch: Any) -> tuple[Any, ...]:
        return batch[0], batch[1]

    def forward(self, model: nn.Module, batch: Any) -> Any:
        return model(*batch, encoded=True) if self._encoded else model(*batch)

    def loss(self, outputs: Any, batch: Any, model: nn.Module) -> Mean:
        """-log p of the words and the end, as the mean over all of them."""
        return Mean(*token_loss(outputs, batch[1]))

    def example_batch(self, args: tuple[Any, ...], outputs: Any) -> Any:
        return args

    # -------------------------------------------------------------------- the whole run

    def evaluate(self, model: nn.Module, split: DataSplit) -> Mapping[str, float]:
        """BLEU-4 and CIDEr-D of the likeliest words, said by the network itself."""
        data: EncodedCaptions = split.val
        greedy = Decoding(width=1)
        said = spoken(
            _captioner(model), data.vocabulary, data.batches(), encoded=self._encoded,
            decoding=greedy,
        )  # fmt: skip
        found = scores_of(data.photos, [each.text for each in said])
        return {"cider": found.cider_d, "bleu4": found.bleu[3]}

    def predict(
        self,
        model: nn.Module,
        given: Files,
        *,
        classes: Sequence[str] = (),
        transform: Callable[[Any], Tensor] | None = None,
        top: int = 5,
    ) -> Captions:
        """A caption of each file, by beam search of width 3."""
        captioner = _captioner(model)
        transform = transform or EvalTransform(preprocessing_of(model))
        return caption_files(captioner, given, vocabulary_of(captioner, classes), transform)

    @staticmethod
    def understood(
        model: nn.Module, classes: Classes | None, name: str
    ) -> tuple[Captioner, Vocabulary]:
        """A captioner with its words. Raises UsageError where they are not known."""
        captioner = _captioner(model)
        if classes is None:
            raise UsageError(f"{name}: its vocabulary is not known; a run and its weights have it")
        return captioner, vocabulary_of(captioner, classes.names)

    def test(
        self, networks: Sequence[Tested], data: Any, options: EvaluationOptions
    ) -> CaptionEvaluation:
        """BLEU, ROUGE-L and CIDEr-D of the likeliest words, and of beams."""
        if len(networks) > 1:
            raise UsageError("captions of several networks have no average: give one")
        (network,) = networks
        captioner, vocabulary = self.understood(network.model, network.classes, network.name)
        split = data if isinstance(data, DataSplit) else open_captions(data)
        part, photos = split.reported
        return evaluate_captioner(
            captioner,
            network.name,
            vocabulary,
            photos,
            f"{split.name}, {part}",
            network.preprocessing(),
            self.cache,
            options,
        )

    def report(
        self,
        model: nn.Module,
        split: DataSplit,
        folder: Path,
        options: EvaluationOptions,
        *,
        classes: Sequence[str] = (),
        preprocessing: Preprocessing | None = None,
        selected: str = "",
    ) -> CaptionEvaluation | None:
        """Scores of the test photos, and a sheet of some of them."""
        captioner = _captioner(model)
        part, photos = split.reported
        found = evaluate_captioner(
            captioner,
            "best weights",
            vocabulary_of(captioner, split.classes),
            photos,
            f"{split.name}, {part}",
            preprocessing or preprocessing_of(model),
            self.cache,
            options,
        )
        found.captions.plot(folder / "captions.png")
        return found


def vocabulary_of(model: Captioner, words: Sequence[str]) -> Vocabulary:
    """Raises InputError where the network has rows for another number of words."""
    assert model.specials is not None
    vocabulary = Vocabulary(tuple(words), model.specials)
    rows = model.vocab_size
    if rows != len(vocabulary):
        raise InputError(
            f"{model.architecture} has {rows:,} tokens, the vocabulary {len(vocabulary):,} "
            f"({len(words):,} words): it belongs to other weights"
        )
    return vocabulary


def _captioner(model: nn.Module) -> Captioner:
    if not isinstance(model, Captioner):
        raise UsageError(f"{type(model).__name__} is no captioner (zoo.interfaces.decoder)")
    return model
