"""Normalisation with the papers' own constants."""

from torch import nn


def alexnet_lrn(k: float = 2.0, alpha: float = 1e-4) -> nn.LocalResponseNorm:
    """Local response normalisation of AlexNet, section 3.3: n=5, beta=0.75.

    The paper multiplies `alpha` by the sum over n channels, torch by their mean: hence
    alpha * n here.
    """
    return nn.LocalResponseNorm(size=5, alpha=alpha * 5, beta=0.75, k=k)
