"""Holding a network to the claims of its paper."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.api.source import resolve
from zoo.api.workload import meta_workload
from zoo.errors import UsageError

if TYPE_CHECKING:
    import os

    from torch import nn

    from zoo.tables.verify import Verification
    from zoo.training.run import Run


def verify(what: str | os.PathLike[str] | Run | nn.Module) -> Verification:
    """Each claim of a network's paper: printed, computed, whether they agree or the
    reason why not; and the exact counts. Its `tally` says how many agree, differ for a
    stated reason, and differ unexplained.

    `what` is a name, or what else `profile` takes: then the network as it is, which may
    differ from the paper's. Raises UsageError for a module that zoo did not create or
    that is a part of a network, and ZooError for a claim that cannot be computed.
    """
    import torch

    from zoo.count.isolation import counting
    from zoo.count.profile import profile_module
    from zoo.tables.verify import check_claims

    source = resolve(what)
    source.require_whole("verify")
    if source.variant is None or source.family is None:
        raise UsageError(f"{source.name} was not made by zoo.create: no claims are known of it")
    with counting(), torch.no_grad():
        workload = meta_workload(source)
        counted = profile_module(workload)
        return check_claims(counted, source.variant.claims, workload.module, source.family.paper)
