"""From the last feature map to one vector per image: the necks of the classifiers."""

from collections import OrderedDict
from collections.abc import Mapping

from torch import nn


def global_pool(
    before: Mapping[str, nn.Module] | None = None, *, size: int = 1, drop_rate: float | None = None
) -> nn.Sequential:
    """The mean of each channel: (N, C, H, W) to (N, C), or of each of `size` x `size`
    cells: to (N, C * size²).

    `before`: layers in front of it; `drop_rate`: of a dropout at the end; None: without
    one.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(before or {})
    layers.update(pool=nn.AdaptiveAvgPool2d(size), flatten=nn.Flatten())
    if drop_rate is not None:
        layers["drop"] = nn.Dropout(drop_rate)
    return nn.Sequential(layers)


def averages_channels(neck: nn.Module) -> bool:
    """Whether a neck ends as `global_pool` makes it, in one mean per channel, or did so
    before `set_pooling` took that out.
    """
    names = [name for name, _ in neck.named_children()]
    if names[-1:] == ["drop"]:
        names.pop()
    if names[-2:] != ["pool", "flatten"]:
        return False
    pool = neck.get_submodule("pool")
    return isinstance(pool, nn.Identity) or getattr(pool, "output_size", 0) == 1


def set_pooling(neck: nn.Module, pooled: bool) -> None:
    """Put the mean of each channel into such a neck, or take it out: then maps (N, C,
    H, W) stay maps.
    """
    layers = {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    for name, layer in layers.items():
        setattr(neck, name, (layer if pooled else nn.Identity()).train(neck.training))


def fully_connected(
    in_chans: int, *, side: int, hidden: int, drop_rate: float, drop_first: bool = False
) -> nn.Sequential:
    """The hidden layers 6 and 7 of AlexNet and its successors: maps (N, in_chans, H, W)
    are averaged to `side` x `side` and become (N, hidden).

    Dropout follows each ReLU; with `drop_first` it stands before each linear layer.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["pool"] = nn.AdaptiveAvgPool2d(side)  # (N, in_chans, side, side)
    layers["flatten"] = nn.Flatten()  # (N, in_chans * side²)
    for number, inputs in ((6, in_chans * side * side), (7, hidden)):
        if drop_first:
            layers[f"drop{number}"] = nn.Dropout(drop_rate)
        layers[f"fc{number}"] = nn.Linear(inputs, hidden)  # (N, hidden)
        layers[f"relu{number}"] = nn.ReLU(inplace=True)
        if not drop_first:
            layers[f"drop{number}"] = nn.Dropout(drop_rate)
    return nn.Sequential(layers)
