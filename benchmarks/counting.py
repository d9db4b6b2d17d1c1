"""Building and counting every network of the catalogue, against fvcore and torch's
FlopCounterMode: the tables of docs/speed.md.

`python counting.py [--budget 3] [PATTERN …]`; `--budget`: about so many seconds per
network and peer, in 3 to 15 rounds.

Each time is that of building the network (`zoo.create`, on the meta device) and
counting it, in CPU time of one thread. fvcore traces the network: where that fails on
the meta device the tensors get memory without an initialisation (`to_empty`), and its
time includes computing with them.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

import zoo


def ours(name: str) -> Any:
    return zoo.profile(name).macs


def with_torch(name: str) -> Any:
    model = zoo.create(name, device="meta").eval()
    with FlopCounterMode(display=False) as counter:
        model(*zoo.info(name).variant.example_inputs(1, device="meta"))
    return counter.get_total_flops()


def with_fvcore(device: str, name: str) -> Any:
    from fvcore.nn import FlopCountAnalysis

    model = zoo.create(name, device="meta").to_empty(device=device).eval()
    analysis = FlopCountAnalysis(model, zoo.info(name).variant.example_inputs(1, device=device))
    return analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).total()


def fvcore(name: str) -> tuple[str, Callable[[str], Any] | None]:
    """The cheapest kind of tensors with which fvcore counts a network, and the function
    that does; "fails", None where there is none.
    """
    for device in ("meta", "cpu"):
        try:
            with_fvcore(device, name)
        except Exception:
            continue
        return device, partial(with_fvcore, device)
    return "fails", None


def cpu_seconds(action: Callable[[str], Any], name: str) -> float:
    """Time of this process on a processor, which the other work of a shared machine
    changes less than that of a clock.
    """
    start = time.process_time()
    action(name)
    return time.process_time() - start


def measure(name: str, peer: Callable[[str], Any], budget: float) -> tuple[float, float, float]:
    """Median seconds of ours and of the peer, in turn, and the median of the ratios of
    neighbours.
    """
    once = cpu_seconds(ours, name) + cpu_seconds(peer, name)  # warms up, too
    times = [
        (cpu_seconds(ours, name), cpu_seconds(peer, name))
        for _ in range(max(3, min(15, int(budget / once))))
    ]
    a, b = (statistics.median(each) for each in zip(*times, strict=True))
    return a, b, statistics.median(mine / other for mine, other in times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("patterns", nargs="*", default=["*"])
    parser.add_argument("--budget", type=float, default=3.0)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    print(
        "| network | ours, ms | FlopCounterMode, ms | ours / it "
        "| ours, ms | fvcore, ms | ours / it | fvcore's tensors |"
    )
    print("|---|---|---|---|---|---|---|---|")
    sums = [0.0] * 4
    slower: list[str] = []
    for name in zoo.list_models(options.patterns):
        a, b, ratio = measure(name, with_torch, options.budget)
        tensors, peer = fvcore(name)
        c, d, other = measure(name, peer, options.budget) if peer else (0.0, 0.0, 0.0)
        sums = [total + part for total, part in zip(sums, (a, b, c, d), strict=True)]
        if max(ratio, other) > 1:
            slower.append(f"{name} ({ratio:.2f}, {other:.2f})")
        first = f"{a * 1e3:.1f} | {b * 1e3:.1f} | {ratio:.2f}"
        second = f"{c * 1e3:.1f} | {d * 1e3:.1f} | {other:.3f}"
        print(f"| {name} | {first} | {second} | {tensors} |", flush=True)
    a, b, c, d = sums
    print(
        f"| sum | {a * 1e3:.0f} | {b * 1e3:.0f} | {a / b:.2f} "
        f"| {c * 1e3:.0f} | {d * 1e3:.0f} | {c / d:.3f} | |"
    )
    print(
        f"\nslower than a peer: {', '.join(slower) or 'none'}; goal: none, "
        "and a sum of at most 0.25 of fvcore's"
    )


if __name__ == "__main__":
    main()
