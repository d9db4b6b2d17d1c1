"""A real HTTP server on this machine that behaves as badly as it is told to."""

import gzip
import threading
import time
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

CONTENT = bytes(range(256)) * 1024  # 256 KiB
ETAG = '"the-file"'


class Handler(BaseHTTPRequestHandler):
    """GET /BEHAVIOUR/anything; the server's `served` counts requests by behaviour."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        path = urlsplit(self.path).path  # a proxy is asked for a whole address
        behaviour = path.split("/")[1].replace("-", "_")
        self.content = self.server.files.get(path, CONTENT)
        self.server.served[behaviour] += 1
        self.server.ranges.append(self.headers.get("Range"))
        self.count = self.server.served[behaviour]
        getattr(self, f"serve_{behaviour}", self.serve_404)()

    def start(self, status=200, length=None, **headers):
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def asked_from(self):
        found = self.headers.get("Range", "")
        return int(found.removeprefix("bytes=").rstrip("-")) if found else 0

    def whole(self, **headers):
        self.start(length=len(self.content), **headers)
        self.wfile.write(self.content)

    def rest(self, first, stop=None):
        """What a server that knows ranges answers, cut off before `stop`."""
        last = len(self.content) - 1
        if first:
            ranges = f"bytes {first}-{last}/{last + 1}"
            self.start(206, last + 1 - first, Content_Range=ranges, ETag=ETAG)
        else:
            self.start(length=last + 1, ETag=ETAG)
        self.wfile.write(self.content[first:stop])
        if stop is not None and stop <= last:
            self.cut()

    def cut(self):
        self.wfile.flush()
        self.close_connection = True
        self.connection.close()

    # ------------------------------------------------------------------- behaviours

    def serve_good(self):
        self.rest(self.asked_from())

    def serve_slow_good(self):
        time.sleep(1)
        self.rest(self.asked_from())

    def serve_cut(self):
        """Each answer ends after 60,000 bytes."""
        first = self.asked_from()
        self.rest(first, min(first + 60_000, len(self.content)))

    def serve_cut_without_ranges(self):
        self.start(length=len(self.content))
        self.wfile.write(self.content[:60_000] if self.count < 3 else self.content)
        if self.count < 3:
            self.cut()

    def serve_always_cut(self):
        self.start(length=len(self.content))
        self.wfile.write(self.content[:60_000])
        self.cut()

    def serve_wrong_range(self):
        """Cut once; then it gives another part than was asked for, under that name."""
        if self.count == 1:
            self.rest(0, 60_000)
        elif self.headers.get("Range"):
            ranges = f"bytes 10-{len(self.content) - 1}/{len(self.content)}"
            self.start(206, len(self.content) - 10, Content_Range=ranges)
            self.wfile.write(self.content[10:])
        else:
            self.whole()

    def serve_lying_range(self):
        """Cut once; then other bytes come under the right Content-Range."""
        first, last = self.asked_from(), len(self.content) - 1
        if self.count == 1:
            self.rest(0, 60_000)
        elif first:
            self.start(206, last + 1 - first, Content_Range=f"bytes {first}-{last}/{last + 1}")
            self.wfile.write(bytes(last + 1 - first))
        else:
            self.whole()

    def serve_unsatisfiable(self):
        if self.headers.get("Range"):
            self.start(416, 0)
        elif self.count == 1:
            self.rest(0, 60_000)
        else:
            self.whole()

    def serve_busy(self):
        """Busy twice, then good."""
        if self.count < 3:
            self.start(503, 0, Retry_After="0")
        else:
            self.whole()

    def serve_broken(self):
        self.start(500, 0)

    def serve_404(self):
        self.start(404, 0)

    def serve_portal(self):
        page = b"<!DOCTYPE html><title>Log in</title>"
        self.start(length=len(page), Content_Type="text/html; charset=utf-8")
        self.wfile.write(page)

    def serve_disguised_portal(self):
        page = b"\n<html>Log in" + b" " * (len(self.content) - 13)
        self.start(length=len(page), Content_Type="application/octet-stream")
        self.wfile.write(page)

    def serve_pointer(self):
        text = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"
        self.start(length=len(text))
        self.wfile.write(text)

    def serve_hang(self):
        self.server.released.wait(20)

    def serve_hang_inside(self):
        self.start(length=len(self.content))
        self.wfile.write(self.content[:1000])
        self.wfile.flush()
        self.server.released.wait(20)

    def serve_trickle(self):
        self.start(length=len(self.content))
        for byte in self.content:
            if self.server.released.wait(0.05):
                return
            self.wfile.write(bytes([byte]))
            self.wfile.flush()

    def serve_reset(self):
        import socket
        import struct

        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.cut()

    def serve_nonsense(self):
        self.wfile.write(b"\x00\x01 this is no HTTP\r\n\r\n")
        self.cut()

    def serve_other(self):
        self.start(length=len(self.content))
        self.wfile.write(bytes(len(self.content)))

    def serve_shorter(self):
        self.start(length=1000)
        self.wfile.write(self.content[:1000])

    def serve_longer(self):
        """No length, then more than the file has."""
        self.start(Connection="close")
        for _ in range(8):
            self.wfile.write(self.content)
        self.cut()

    def serve_close(self):
        """Whether this is the whole file can't be told from the answer."""
        self.start(Connection="close")
        self.wfile.write(self.content)
        self.cut()

    def serve_chunked(self):
        self.start(Transfer_Encoding="chunked")
        for first in range(0, len(self.content), 50_000):
            block = self.content[first : first + 50_000]
            self.wfile.write(f"{len(block):x}\r\n".encode() + block + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")

    def serve_chunked_cut(self):
        self.start(Transfer_Encoding="chunked")
        self.wfile.write(b"c350\r\n" + self.content[:50_000] + b"\r\n")
        self.cut()

    def serve_gzip(self):
        packed = gzip.compress(self.content)
        self.start(length=len(packed), Content_Encoding="gzip")
        self.wfile.write(packed)

    def serve_to_good(self):
        self.start(302, 0, Location="/good/file")

    def serve_to_file(self):
        self.start(302, 0, Location="file:///etc/passwd")

    def serve_to_itself(self):
        self.start(302, 0, Location="/to-itself/file")

    def serve_hub(self):
        """A redirect that states the digest of what it leads to."""
        self.start(302, 0, Location="/good/file", X_Linked_ETag=f'"{self.server.stated}"')


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """Clients go away in the middle, as they should."""


@contextmanager
def serving(handler=Handler):
    """A server on a free port: `address`, `served`, `ranges`, and `files` by path."""
    server = Server(("127.0.0.1", 0), handler)
    server.served, server.ranges, server.files = Counter(), [], {}
    server.released = threading.Event()
    server.stated = ""
    server.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        thread.join()
        server.server_close()
