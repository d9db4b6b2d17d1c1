"""Fair comparison on a noisy machine: two things in turn, several times, and the median
of the ratios of neighbours.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def compare(
    ours: Callable[[], object], theirs: Callable[[], object], rounds: int, warmup: int = 1
) -> tuple[float, float, list[float]]:
    """Median seconds of each, and the ratios ours / theirs, sorted; the order within a
    round alternates.
    """
    for _ in range(warmup):
        ours(), theirs()
    times: list[tuple[float, float]] = []
    for i in range(rounds):
        if i % 2:
            b, a = seconds(theirs), seconds(ours)
        else:
            a, b = seconds(ours), seconds(theirs)
        times.append((a, b))
    return (
        statistics.median(a for a, _ in times),
        statistics.median(b for _, b in times),
        sorted(a / b for a, b in times),
    )


def process(*command: str, code: int = 0) -> Callable[[], object]:
    """A whole process, which ends with the exit code `code`."""

    def run() -> None:
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == code, done.stderr

    return run


def python(code: str) -> Callable[[], object]:
    return process(sys.executable, "-c", code)


def report(title: str, result: tuple[float, float, list[float]], goal: str) -> None:
    a, b, ratios = result
    middle = statistics.median(ratios)
    print(
        f"{title}: ours {a:.3f} s, peer {b:.3f} s, "
        f"ratio {middle:.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f}); goal {goal}",
        flush=True,
    )
