"""What all tests share."""

import os
import subprocess
from collections import Counter

import pytest
import torch

os.environ.setdefault("ZOO_OFFLINE", "1")  # also for the processes that tests start: none downloads


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """Weights that tests fetch from a mirror, apart from the user's."""
    os.environ["ZOO_CACHE"] = str(tmp_path_factory.mktemp("cache"))


def pytest_terminal_summary(terminalreporter):
    """How many tests were skipped and why, each reason once."""
    reasons = Counter(
        report.longrepr[2].removeprefix("Skipped: ")
        for report in terminalreporter.stats.get("skipped", [])
    )
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"skipped {count}: {reason}")
    if not reasons:
        terminalreporter.write_line("skipped 0")


@pytest.fixture
def small_disk(tmp_path, monkeypatch):
    """A file system of 500 KiB as the cache."""
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=500k", "tmpfs", disk], capture_output=True
    )
    if made.returncode:
        pytest.skip("a file system cannot be mounted here")
    monkeypatch.setenv("ZOO_CACHE", str(disk))
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.fixture
def digit_folder(tmp_path):
    """A function that writes real digits as image files, a folder per class:
    `digit_folder("train", {"one": 5, "two": 5})`.
    """
    from zoo.data.digits import open_digits

    train = open_digits().train

    def write(where, counts, suffix=".png"):
        folder = tmp_path / where
        for digit, (name, count) in enumerate(counts.items()):
            (folder / name).mkdir(parents=True)
            chosen = [
                image
                for image, target in zip(train.images, train.targets, strict=True)
                if target == digit
            ][:count]
            for number, image in enumerate(chosen):
                image.save(folder / name / f"{number:03d}{suffix}")
        return folder

    return write
