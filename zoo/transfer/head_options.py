"""Which head is fitted on features, and how."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn

from zoo.errors import InputError, check_choice
from zoo.transfer.fitted import FittedHead
from zoo.transfer.folds import stratified_folds
from zoo.transfer.knn import NearestNeighbours, fit_knn
from zoo.transfer.linear import fit_linear
from zoo.transfer.mlp import fit_mlp, make_mlp

KINDS = ("linear", "svm", "knn", "mlp")


@dataclass(frozen=True, kw_only=True)
class HeadOptions:
    """A head by its `kind`: "linear" (softmax), "svm", "knn" or "mlp".

    `penalty` ("l2", "l1", "elastic" with the share `l1_ratio` of l1), of linear and
    svm. `loss` ("hinge" or "squared_hinge") and `margin`, of svm. `distances`: "l2",
    "l1", "cosine" or several, of knn. `hidden` sizes and `dropout`, of mlp. `values`:
    the penalty's strengths, the k, or the weight decays that cross-validation over
    `folds` chooses among; (): the kind's own; a single one is taken as it is.

    Raises InputError for a kind that there is not, and values that none can take.
    """

    kind: str = "linear"
    penalty: str = "l2"
    l1_ratio: float = 0.5
    loss: str = "hinge"
    margin: float = 1.0
    distances: tuple[str, ...] = ("l2",)
    hidden: tuple[int, ...] = (512,)
    dropout: float = 0.5
    values: tuple[float, ...] = ()
    folds: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("head", "kind", self.kind, KINDS)
        check_choice("svm", "loss", self.loss, ("hinge", "squared_hinge"))
        if self.folds < 2:
            raise InputError(f"head: folds={self.folds}: cross-validation needs two or more")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def fit_head_on_features(x: Tensor, y: Tensor, classes: int, options: HeadOptions) -> FittedHead:
    """The head for rows (N, D) of classes (N,), on their device."""
    chosen: dict[str, Any] = {}
    if options.values:
        name = {"knn": "ks", "mlp": "weight_decays"}.get(options.kind, "strengths")
        chosen[name] = options.values
    sweeps = len(options.values) != 1 or (options.kind == "knn" and len(options.distances) > 1)
    parts = stratified_folds(y, options.folds, options.seed) if sweeps else None
    if options.kind == "knn":
        return fit_knn(x, y, classes, parts, distances=options.distances, **chosen)
    if options.kind == "mlp":
        chosen |= {"hidden": options.hidden, "dropout": options.dropout, "seed": options.seed}
        return fit_mlp(x, y, classes, parts, **chosen)
    chosen |= {"penalty": options.penalty, "l1_ratio": options.l1_ratio}
    if options.kind == "svm":
        chosen |= {"loss": options.loss, "margin": options.margin}
    return fit_linear(x, y, classes, parts, **chosen)


def head_config(head: nn.Module) -> dict[str, Any]:
    """What rebuilds a fitted head, but for its numbers."""
    if isinstance(head, NearestNeighbours):
        return {
            "kind": "knn",
            "rows": list(head.x.shape),
            "classes": head.classes,
            "k": head.k,
            "distance": head.distance,
        }
    layers = [layer for layer in head.modules() if isinstance(layer, nn.Linear)]
    sizes = [layers[0].in_features, *(layer.out_features for layer in layers)]
    if isinstance(head, nn.Linear):
        return {"kind": "linear", "sizes": sizes}
    dropout = next(layer.p for layer in head.modules() if isinstance(layer, nn.Dropout))
    return {"kind": "mlp", "sizes": sizes, "dropout": dropout}


def head_from_config(config: dict[str, Any]) -> nn.Module:
    """A head without its numbers, in the shape that they have. Raises InputError."""
    check_choice("config.json", "head kind", config.get("kind"), ("linear", "mlp", "knn"))
    if config["kind"] == "linear":
        return nn.Linear(*config["sizes"])
    if config["kind"] == "mlp":
        return make_mlp(config["sizes"], config["dropout"])
    import torch

    count, width = config["rows"]
    y = torch.zeros(count, dtype=torch.long)
    return NearestNeighbours(
        torch.zeros(count, width), y, config["classes"], config["k"], config["distance"]
    )
