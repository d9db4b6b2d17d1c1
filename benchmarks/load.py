"""Published weights from the cache: time and peak memory against torchvision, which
builds the same network and loads a file on this machine.

python benchmarks/load.py [NAME]      default: vgg16

Each run is a process of its own with everything imported before the clock starts; the
peak of its memory is the operating system's (ru_maxrss), with the libraries in it. The
files have random numbers: ours is a cache with a converted file as the first load of
the published ones leaves it, `plain` is a file as safetensors itself writes it, which
is not aligned and so is copied, and the peer's is as torchvision's are. The last pair
goes on to the logits of one image, when all numbers have been read.
"""

import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROUNDS = 2
MEASURED = """
import json, resource, sys, time
import torch, torchvision, zoo, zoo.api.create, zoo.interfaces.classifier, safetensors.torch
torch.set_num_threads(1)
from zoo.registry import lookup
lookup({name!r})
begin = time.perf_counter()
{code}
seconds = time.perf_counter() - begin
print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""
OURS = "model = zoo.create({name!r}, pretrained=True)"
PLAIN = "model = zoo.create({name!r}, checkpoint_path={file!r})"
THEIRS = (
    "model = torchvision.models.{name}()\n"
    "model.load_state_dict(torch.load({file!r}, weights_only=True))"
)
IMAGE = "\nwith torch.no_grad(): model.eval()(torch.zeros(1, 3, 224, 224))"


def measured(name: str, code: str) -> tuple[float, float]:
    """Seconds, and the peak in MiB."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED.format(name=name, code=code)],
        check=True,
        capture_output=True,
        text=True,
    )
    seconds, peak = json.loads(done.stdout)
    return seconds, peak


def compare(title: str, name: str, ours: str, theirs: str, goals: str = "") -> None:
    measured(name, ours), measured(name, theirs)  # the files are in the system's cache then
    pairs = []
    for number in range(ROUNDS):
        order = (ours, theirs) if number % 2 else (theirs, ours)
        found = {code: measured(name, code) for code in order}
        pairs.append((*found[ours], *found[theirs]))
    time, peak, their_time, their_peak = map(statistics.median, zip(*pairs, strict=True))
    times = statistics.median(pair[0] / pair[2] for pair in pairs)
    peaks = statistics.median(pair[1] / pair[3] for pair in pairs)
    print(
        f"{title}: {time:.2f} s and {peak:,.0f} MiB, torchvision {their_time:.2f} s and "
        f"{their_peak:,.0f} MiB; ratios {times:.3f} and {peaks:.3f}{goals}",
        flush=True,
    )


def write_files(name: str, plain: str, peer: str) -> None:
    """Ours into the cache, as of the default weights of the network."""
    import torch
    import torchvision
    from safetensors.torch import save_file

    import zoo
    from zoo.api.pretrained import about, with_default_tag
    from zoo.api.source import resolve
    from zoo.files import write_state
    from zoo.weights.cache import CONVERTED, cache_folder

    state = zoo.create(name).state_dict()
    source = with_default_tag(resolve(name))
    first = source.record.sources[0]
    digests = dict(first.remote.digests)
    digest = digests.get("sha256", "0" * 64)
    original = {"file": first.remote.file, "sha256": digest, "digests": digests}
    folder = cache_folder() / CONVERTED
    folder.mkdir()
    file = folder / f"{source.name}-{digest[:12]}.safetensors"
    write_state(file, state, about(source, first, original, source.record.preprocessing))
    save_file(state, plain)
    torch.save(getattr(torchvision.models, name)().state_dict(), peer)


def main(name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"ZOO_CACHE": folder, "ZOO_OFFLINE": "1"}
        plain, peer = (str(Path(folder, file)) for file in ("plain", "peer.pth"))
        # in a process of its own, whose peak the measured ones would inherit from this
        writer = multiprocessing.get_context("spawn").Process(
            target=write_files, args=(name, plain, peer)
        )
        writer.start()
        writer.join()
        assert writer.exitcode == 0
        ours, theirs = OURS.format(name=name), THEIRS.format(name=name, file=peer)
        compare(f"load {name}", name, ours, theirs, "; goals <= 0.4 and <= 0.6")
        compare(f"load {name}, plain", name, PLAIN.format(name=name, file=plain), theirs)
        compare(f"load {name}, and an image", name, ours + IMAGE, theirs + IMAGE)


if __name__ == "__main__":
    main(*(sys.argv[1:] or ["vgg16"]))
