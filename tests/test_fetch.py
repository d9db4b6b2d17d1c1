"""Fetching against a real server on this machine that misbehaves: each ends with the
whole file, or with one clear line and nothing in the cache.
"""

import hashlib
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tarfile
import textwrap
import threading
import time
from io import BytesIO
from pathlib import Path

import pytest
import torch
from misbehaving_server import CONTENT, Handler, serving

import zoo
from zoo.errors import WeightsError, ZooWarning
from zoo.weights import cache as cache_module
from zoo.weights import fetch as fetch_module
from zoo.weights.cache import RECEIPTS, cache_folder
from zoo.weights.download import Patience
from zoo.weights.fetch import fetch
from zoo.weights.formats import read
from zoo.weights.manifest import records
from zoo.weights.remote import RemoteFile

SHA256 = hashlib.sha256(CONTENT).hexdigest()
DIGESTS = {
    "sha256": SHA256,
    "sha384": hashlib.sha384(CONTENT).hexdigest(),
    "sha1": hashlib.sha1(CONTENT).hexdigest(),
    "sha256_prefix": SHA256[:8],
}
HASTE = Patience(connect=2, stall=0.4, least=1000, tries=3, pause=0.01)


@pytest.fixture
def server():
    with serving() as running:
        yield running


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    for name in ("ZOO_MIRROR", "ZOO_OFFLINE", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    chosen = tmp_path / "cache"
    monkeypatch.setenv("ZOO_CACHE", str(chosen))
    return chosen


SIZE = len(CONTENT)


def remote(*urls, size=SIZE, kind="sha256", **more):
    digests = {kind: DIGESTS[kind]} if kind else {}
    return RemoteFile(file="net.bin", urls=urls, size=size, digests=digests, **more)


def get(wanted, **options):
    return fetch(wanted, progress=False, patience=HASTE, **options)


def leftovers(folder):
    """What lies in the cache beside locks and receipts."""
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".lock" and RECEIPTS not in path.parts
    }


def refused(wanted, folder, words, left=()):
    with pytest.raises(WeightsError, match=words) as raised:
        get(wanted)
    assert "\n" not in str(raised.value)
    assert "net.bin" in str(raised.value)
    assert not (folder / "net.bin").exists()
    assert leftovers(folder) <= {"net.bin.part", "net.bin.part.etag"}
    return str(raised.value)


# --------------------------------------------------------------------------- it is had


@pytest.mark.parametrize("kind", [*DIGESTS, ""])
@pytest.mark.parametrize("size", [len(CONTENT), 0])
@pytest.mark.filterwarnings("ignore:.*no digest is published")
def test_a_file_comes_whole(server, folder, kind, size):
    path = get(remote(f"{server.address}/good/x", kind=kind, size=size))
    assert path == folder / "net.bin"
    assert path.read_bytes() == CONTENT
    assert leftovers(folder) == {"net.bin"}
    receipt = json.loads((folder / RECEIPTS / "net.bin.json").read_text())
    assert receipt["sha256"] == SHA256
    assert receipt["bytes"] == len(CONTENT)
    assert receipt["checked"] == (kind or "first fetch")


@pytest.mark.parametrize(
    ("behaviour", "requests"),
    [
        ("cut", 5),  # each goes on where the one before ended
        ("cut-without-ranges", 3),
        ("wrong-range", 3),
        ("unsatisfiable", 3),
        ("busy", 3),
        ("close", 1),
        ("chunked", 1),
        ("to-good", 1),
    ],
)
def test_what_can_be_mended_is(server, folder, behaviour, requests):
    path = get(remote(f"{server.address}/{behaviour}/x"))
    assert path.read_bytes() == CONTENT
    assert server.served[behaviour.replace("-", "_")] == requests
    assert leftovers(folder) == {"net.bin"}


def test_a_resumed_file_is_begun_anew_when_its_digest_is_wrong(server):
    """The server's Content-Range was right and its bytes were not."""
    assert get(remote(f"{server.address}/lying-range/x")).read_bytes() == CONTENT


def test_a_cut_goes_on_in_a_later_call(server, folder):
    refused(remote(f"{server.address}/always-cut/x"), folder, "cut after 60,000 of 262,144 bytes")
    assert (folder / "net.bin.part").stat().st_size == 60_000
    assert get(remote(f"{server.address}/good/x")).read_bytes() == CONTENT
    assert server.ranges[-1] == "bytes=60000-"


def test_a_killed_download_goes_on(server, folder):
    code = f"""
    from zoo.weights.fetch import fetch
    from zoo.weights.remote import RemoteFile
    fetch(RemoteFile(file="net.bin", urls=("{server.address}/trickle/x",), digests={DIGESTS!r}))
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)])
    part = folder / "net.bin.part"
    while not (part.exists() and part.stat().st_size > 3):
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    have = part.stat().st_size
    assert get(remote(f"{server.address}/good/x")).read_bytes() == CONTENT
    assert server.ranges[-1] == f"bytes={have}-"


def test_the_second_address(server):
    wanted = remote(f"{server.address}/404/x", f"{server.address}/good/x")
    assert get(wanted).read_bytes() == CONTENT


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_modes_follow_the_umask(server, mask):
    before = os.umask(mask)
    try:
        path = get(remote(f"{server.address}/good/x"))
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


def test_a_file_there_needs_no_network_lock_or_writing(server, folder, monkeypatch):
    wanted = remote(f"{server.address}/good/x")
    path = get(wanted)
    for lock in folder.glob(".*.lock"):
        lock.unlink()
    monkeypatch.setattr(fetch_module, "locked", None)
    monkeypatch.setattr(cache_module, "measured", None)  # nor is it hashed again
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    before = {entry: entry.stat().st_mtime_ns for entry in folder.rglob("*")}
    assert get(wanted) == path
    assert {entry: entry.stat().st_mtime_ns for entry in folder.rglob("*")} == before
    assert sum(server.served.values()) == 1


def test_a_read_only_cache(server, small_disk):
    path = get(remote(f"{server.address}/good/x"))
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    assert get(remote(f"{server.address}/good/x")) == path
    other = RemoteFile(file="other.bin", urls=(f"{server.address}/good/x",))
    with pytest.raises(WeightsError, match=r"cannot be written.*ZOO_CACHE"):
        get(other)


def test_a_cache_that_is_a_file(server, folder):
    folder.write_text("")
    with pytest.raises(WeightsError, match=r"cannot be made.*ZOO_CACHE names another folder"):
        get(remote(f"{server.address}/good/x"))


# -------------------------------------------------------------------- it cannot be had


@pytest.mark.parametrize(
    ("behaviour", "words", "requests"),
    [
        ("404", "answers 404", 1),
        ("portal", "a web page, not with a file", 1),
        ("disguised-portal", "a web page, not with a file", 1),
        ("pointer", "has 56 bytes there, 262,144 were published", 1),
        ("shorter", "has 1,000 bytes there, 262,144 were published", 1),
        ("longer", "sends more than the 262,144 bytes", 1),
        ("gzip", "an encoding that was not asked for|bytes there", 1),
        ("other", "gives another file: its sha256 is 8a39d2abd3999ab7", 1),
        ("to-file", "No connection adapters were found for 'file:///etc/passwd'", 1),
        ("to-itself", "redirects without an end", None),
        ("broken", "answers 500", 3),
        ("hang", "no answer for 0.4 s", 3),
        ("hang-inside", "nothing came for 0.4 s", None),
        ("trickle", "bytes came in 0.4 s", None),
        ("reset", "(reset|aborted|without response)", None),
        ("nonsense", "again and again", None),
        ("chunked-cut", "cut after 50,000 of 262,144 bytes, again and again", None),
    ],
)
def test_what_cannot_be_mended_ends_in_one_line(server, folder, behaviour, words, requests):
    began = time.monotonic()
    message = refused(remote(f"{server.address}/{behaviour}/x"), folder, words)
    assert time.monotonic() - began < 15
    assert f"{server.address}/{behaviour}/x" in message
    assert "ZOO_MIRROR" in message
    if requests:
        assert server.served[behaviour.replace("-", "_")] == requests


def test_without_size_and_digest_much_is_refused(server, folder):
    """Nothing could tell the half of such a file from the whole."""
    unknown = {"kind": "", "size": 0}
    refused(remote(f"{server.address}/close/x", **unknown), folder, "how long the file is")
    refused(remote(f"{server.address}/pointer/x", **unknown), folder, "a Git LFS pointer")
    refused(remote(f"{server.address}/gzip/x", **unknown), folder, "not asked for")
    refused(remote(f"{server.address}/disguised-portal/x", **unknown), folder, "a web page")
    refused(remote(f"{server.address}/chunked-cut/x", **unknown), folder, "again and again")


def test_nobody_is_there(folder):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    refused(remote(f"http://127.0.0.1:{port}/x"), folder, "Connection refused")
    refused(remote("http://no-such-host.invalid/x"), folder, "resolve|known|temporary|Name")


@pytest.mark.parametrize("file", ["../net.bin", "/etc/net", "a/b", ".hidden", "", "a\\b", "a\0b"])
def test_a_name_cannot_climb_out_of_the_cache(file):
    with pytest.raises(WeightsError, match="is no file name"):
        RemoteFile(file=file, urls=())


@pytest.mark.parametrize("digest", ["12ab", "z" * 64, SHA256.upper()])
def test_a_digest_is_one(digest):
    with pytest.raises(WeightsError, match="is no sha256 digest"):
        RemoteFile(file="net.bin", urls=(), digests={"sha256": digest})


def test_too_little_space(server, folder):
    refused(remote(f"{server.address}/good/x", size=2**60), folder, "needs .* bytes more")


def test_a_full_disk(server, small_disk):
    (small_disk / "of-others").write_bytes(bytes(400_000))
    with pytest.raises(WeightsError, match="cannot be written: No space left on device"):
        get(remote(f"{server.address}/good/x", size=0))
    assert not (small_disk / "net.bin").exists()
    assert shutil.disk_usage(small_disk).free > 90_000


# ----------------------------------------------------------------- digests and receipts


def test_the_first_fetch_is_remembered(server, folder):
    wanted = remote(f"{server.address}/good/x", kind="")
    with pytest.warns(ZooWarning, match=f"no digest is published; its sha256 {SHA256[:16]}…"):
        path = get(wanted)
    path.unlink()
    server.files["/good/x"] = bytes(len(CONTENT))
    with pytest.raises(WeightsError, match="is not the file of 20.*was " + SHA256[:16]):
        get(wanted)
    assert not path.exists()
    server.files.clear()
    assert get(wanted).read_bytes() == CONTENT


def test_the_hub_states_a_digest(server, folder):
    server.stated = SHA256
    assert get(remote(f"{server.address}/hub/x", kind="")).read_bytes() == CONTENT
    (folder / "net.bin").unlink()
    (folder / RECEIPTS / "net.bin.json").unlink()
    server.stated = "0" * 64
    refused(remote(f"{server.address}/hub/x", kind=""), folder, "the server states 0000")


def test_a_file_that_the_user_put_there(folder):
    folder.mkdir()
    (folder / "net.bin").write_bytes(CONTENT)
    assert get(remote()).read_bytes() == CONTENT
    (folder / "net.bin").write_bytes(CONTENT[:-1])
    with pytest.raises(WeightsError, match="not the file that was published: 262,143 bytes"):
        get(remote())
    (folder / "net.bin").write_bytes(bytes(len(CONTENT)))
    (folder / RECEIPTS / "net.bin.json").unlink()
    with pytest.raises(WeightsError, match="not the file that was published: its sha256"):
        get(remote())


def test_a_record_that_means_another_file_than_the_cache_has(server, folder):
    get(remote(f"{server.address}/good/x", kind="sha1"))
    other = RemoteFile(file="net.bin", urls=(), digests={"sha256": "0" * 64})
    with pytest.raises(WeightsError, match="another file than the record says"):
        get(other)


# ---------------------------------------------------------------------- mirror, offline


def test_a_mirror_folder_comes_first(server, folder, tmp_path, monkeypatch):
    (tmp_path / "mirror" / "deep").mkdir(parents=True)
    monkeypatch.setenv("ZOO_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    wanted = remote(f"{server.address}/good/x", aliases=("old-name.pth",))
    with pytest.raises(WeightsError, match=r"net.bin \(262,144 bytes\) is not here, and ZOO_OFF"):
        get(wanted)
    for name in ("net.bin", "old-name.pth", "named-by-its-digest.pth"):
        there = tmp_path / "mirror" / "deep" / name
        there.write_bytes(CONTENT)
        assert get(wanted).read_bytes() == CONTENT
        there.unlink()
        shutil.rmtree(folder)
    assert not server.served


def test_a_wrong_file_in_the_mirror_is_said(server, tmp_path, monkeypatch):
    (tmp_path / "net.bin").write_bytes(b"half a file")
    monkeypatch.setenv("ZOO_MIRROR", str(tmp_path))
    with pytest.warns(ZooWarning, match="in the mirror is not the file.*11 bytes"):
        assert get(remote(f"{server.address}/good/x")).read_bytes() == CONTENT
    monkeypatch.setenv("ZOO_MIRROR", str(tmp_path / "absent"))
    shutil.rmtree(cache_folder())
    with pytest.raises(WeightsError, match="no such folder"):
        get(remote(f"{server.address}/good/x"))


def test_a_mirror_with_an_address(server, folder, monkeypatch):
    monkeypatch.setenv("ZOO_MIRROR", f"{server.address}/good/")
    server.files["/good/net.bin"] = CONTENT
    assert get(remote(f"{server.address}/404/x")).read_bytes() == CONTENT
    shutil.rmtree(folder)
    monkeypatch.setenv("ZOO_MIRROR", f"{server.address}/404")
    assert get(remote(f"{server.address}/good/x")).read_bytes() == CONTENT


def test_weights_trained_here_beside_their_manifest(folder, tmp_path, monkeypatch):
    """A third party's TOML, and a file that a run of ours made, found relative to it:
    without an address, a network, or a copy in the cache.
    """
    run = zoo.finetune(
        "lenet5_modern", "digits", pretrained=False, epochs=1, out=tmp_path / "run", progress=False
    )
    package = tmp_path / "package"
    package.mkdir()
    content = (run.path / "best.safetensors").read_bytes()
    (package / "lenet5_modern.mine.safetensors").write_bytes(content)
    (package / "weights.toml").write_text(
        textwrap.dedent(f"""
        [weights."lenet5_modern.mine"]
        classes = "digits"
        licence = "Apache-2.0"
        [[weights."lenet5_modern.mine".sources]]
        file = "lenet5_modern.mine.safetensors"
        bytes = {len(content)}
        sha256 = "{hashlib.sha256(content).hexdigest()}"
        format = "safetensors"
        """)
    )
    record = records("lenet", package / "weights.toml")["lenet5_modern.mine"]
    (source,) = record.sources
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    monkeypatch.chdir("/")
    found = fetch(source.remote)
    assert found == package / "lenet5_modern.mine.safetensors"
    assert not folder.exists()
    model = zoo.create(found)
    assert model.origin.architecture == "lenet5_modern"
    expected = run.load_best(zoo.create("lenet5_modern")).state_dict()
    state = read(found, source.format)
    assert all(torch.equal(state[key], tensor) for key, tensor in expected.items())
    assert all(torch.equal(model.state_dict()[key], state[key]) for key in expected)

    found.write_bytes(content[:-1] + b"x")
    with pytest.raises(WeightsError, match="is not the file that its manifest means: its sha256"):
        fetch(source.remote)
    found.unlink()
    with pytest.raises(WeightsError, match="the weights file that its manifest names is not there"):
        fetch(source.remote)


def test_a_file_that_is_not_beside_its_manifest_is_fetched(server, folder, tmp_path):
    remote = RemoteFile(
        file="x", urls=(f"{server.address}/good/x",), digests=DIGESTS, beside=tmp_path
    )
    assert fetch(remote) == folder / "x"


def test_offline_no_server_is_asked(server, folder, monkeypatch):
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    monkeypatch.setenv("ZOO_MIRROR", f"{server.address}/good")
    message = refused(remote(f"{server.address}/good/x"), folder, "ZOO_OFFLINE forbids")
    assert str(folder) in message
    assert not server.served


# ------------------------------------------------------------------------ many at once


def test_processes_at_once_fetch_once(server, folder):
    code = f"""
    import sys
    from zoo.weights.fetch import fetch
    from zoo.weights.remote import RemoteFile
    print(fetch(RemoteFile(file="net.bin", urls=("{server.address}/slow-good/x",), digests={DIGESTS!r})))
    """
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    outputs = [process.communicate(timeout=60)[0].strip() for process in processes]
    assert set(outputs) == {str(folder / "net.bin")}
    assert server.served["slow_good"] == 1
    assert (folder / "net.bin").read_bytes() == CONTENT


def test_who_waits_is_told(server, folder):
    folder.mkdir()
    server.files["/good/x"] = CONTENT
    go = threading.Event()

    def hold():
        with cache_module.locked(folder, "net.bin"):
            go.set()
            time.sleep(2.5)

    holder = threading.Thread(target=hold)
    holder.start()
    go.wait()
    with pytest.warns(ZooWarning, match="another process is fetching it"):
        assert get(remote(f"{server.address}/good/x")).read_bytes() == CONTENT
    holder.join()


def test_a_file_system_without_locks(server, folder, monkeypatch):
    import filelock

    def cannot(self):
        raise NotImplementedError("no flock here")

    monkeypatch.setattr(filelock.FileLock, "_acquire", cannot)
    assert get(remote(f"{server.address}/good/x")).read_bytes() == CONTENT
    assert not list(folder.glob(".*.softlock"))


# ---------------------------------------------------------------- members, proxy, https


def test_many_small_files_become_one_tar(server, folder, tmp_path, monkeypatch):
    """Always the same bytes, so that a digest of the tar holds."""
    parts = {"net/b.bin": b"2" * 700, "net/a.bin": b"1" * 10}
    for name, content in parts.items():
        server.files[f"/good/{name}"] = content
    tar = tmp_path / "expected.tar"
    with tarfile.open(tar, "w", format=tarfile.USTAR_FORMAT) as packed:
        for name in sorted(parts):
            entry = tarfile.TarInfo(name)
            entry.size = len(parts[name])
            packed.addfile(entry, BytesIO(parts[name]))
    wanted = RemoteFile(
        file="net.tar",
        urls=(f"{server.address}/good/",),
        digests={"sha256": hashlib.sha256(tar.read_bytes()).hexdigest()},
        members={name: name for name in sorted(parts)},
    )
    assert get(wanted).read_bytes() == tar.read_bytes()
    (folder / "net.tar").unlink()
    server.files["/good/net/b.bin"] = b"3" * 700
    with pytest.raises(WeightsError, match=r"net.tar.*gives another file"):
        get(wanted)
    assert leftovers(folder) == set()
    (tmp_path / "mirror").mkdir()
    for name, content in parts.items():
        (tmp_path / "mirror" / name.partition("/")[2]).write_bytes(content)
    monkeypatch.setenv("ZOO_MIRROR", str(tmp_path / "mirror"))
    assert get(wanted).read_bytes() == tar.read_bytes()


def test_a_proxy_from_the_environment(server, folder, monkeypatch):
    """The address leads nowhere; the proxy knows the way."""
    monkeypatch.setenv("http_proxy", server.address)
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")
    assert get(remote("http://weights.invalid/good/x")).read_bytes() == CONTENT
    assert server.served["good"] == 1


def test_a_certificate_that_nobody_signed_is_refused_and_can_be_trusted(
    folder, tmp_path, monkeypatch
):
    import ssl

    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made = subprocess.run(
        f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout {key} -out {certificate} "
        "-subj /CN=localhost -addext subjectAltName=DNS:localhost",
        shell=True,
        capture_output=True,
    )
    if made.returncode:
        pytest.skip("openssl is not here")
    with serving(Handler) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        url = f"https://localhost:{server.server_address[1]}"
        refused(remote(f"{url}/good/x"), folder, "CERTIFICATE_VERIFY_FAILED|certificate verify")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        assert get(remote(f"{url}/good/x")).read_bytes() == CONTENT
        shutil.rmtree(folder)
        with serving() as plain:  # a redirect that leaves the certificate's protection
            Handler.serve_to_plain = lambda self: self.start(
                302, 0, Location=f"{plain.address}/good/x"
            )
            refused(remote(f"{url}/to-plain/x"), folder, "redirects from https to http://")


def test_the_default_cache(monkeypatch):
    monkeypatch.delenv("ZOO_CACHE")
    assert cache_folder().parts[-2:] == ("zoo", "weights")
    assert cache_folder().is_absolute()
    monkeypatch.setenv("ZOO_CACHE", "~/w")
    assert cache_folder() == Path.home() / "w"
