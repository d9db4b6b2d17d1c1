"""One file over HTTP, whatever the server does: resumed after a cut, tried again where
that can help, refused at once where it cannot.

Proxies and certificates come from the environment, as `requests` reads them.
"""

from __future__ import annotations

import http.client
import itertools
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from zoo.errors import WeightsError
from zoo.file_kinds import PAGES, POINTER

if TYPE_CHECKING:
    import requests

AGAIN = {408, 429, 500, 502, 503, 504}  # statuses that may be others soon
CHUNK = 1 << 18
LONGEST_PAUSE = 60.0
RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
HUB_DIGEST = re.compile(r'"?([0-9a-f]{64})"?')


@dataclass(frozen=True)
class Patience:
    """How long a server may take: seconds until a connection stands; `least` bytes must
    come within `stall` seconds; `tries` in a row without progress, the first pause
    between them, doubled each time.
    """

    connect: float = 10.0
    stall: float = 30.0
    least: int = 16_384
    tries: int = 6
    pause: float = 1.0


class Refused(Exception):
    """This address does not give the file, however often it is asked."""


class _Again(Exception):
    """The next try may go well."""

    def __init__(self, reason: str, after: float = 0.0, weight: int = 1) -> None:
        super().__init__(reason)
        self.after = after  # seconds that the server asks to wait
        self.weight = weight  # in tries


@dataclass
class Download:
    """A file on its way to `part`. `size`: its bytes, 0 where not known; `sure`: a
    digest will tell whether it is right.
    """

    session: requests.Session
    url: str
    part: Path
    size: int = 0
    sure: bool = False
    on_bytes: Callable[[int, int], None] = lambda done, total: None
    patience: Patience = Patience()
    hub_digest: str = ""  # SHA-256 that the server itself states
    resumable: bool = True
    resumed: bool = False  # whether bytes of different answers were put together

    def run(self) -> None:
        """Raises Refused, with the reason, or WeightsError where the file cannot be
        written.
        """
        failed, best = 0, self._have()
        while True:
            try:
                return self._once()
            except _Again as error:
                have = self._have()
                failed = 0 if have > best else failed + error.weight
                best = max(best, have)
                if failed >= self.patience.tries:
                    raise Refused(f"{error}, again and again") from error
                pause = self.patience.pause * 2 ** max(failed - 1, 0) * random.uniform(0.5, 1)
                time.sleep(min(max(pause, error.after), LONGEST_PAUSE))

    def _have(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _once(self) -> None:
        import requests
        from urllib3.exceptions import HTTPError

        have = self._have()
        if not self.resumable or not (self.sure or self._validator()):
            have = 0
        if self.size and have >= self.size:
            have = 0
        headers = {"Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
            if validator := self._validator():
                headers["If-Range"] = validator
        limits = (self.patience.connect, self.patience.stall)
        try:
            with self.session.get(self.url, headers=headers, stream=True, timeout=limits) as answer:
                self._take(answer, have)
        except (requests.exceptions.SSLError, requests.exceptions.InvalidSchema) as error:
            raise Refused(_short(error)) from error
        except (requests.exceptions.MissingSchema, requests.exceptions.InvalidURL) as error:
            raise Refused(_short(error)) from error
        except requests.exceptions.TooManyRedirects as error:
            raise Refused("redirects without an end") from error
        except requests.exceptions.ReadTimeout as error:
            raise _Again(f"no answer for {self.patience.stall:g} s") from error
        except requests.exceptions.ConnectionError as error:  # no network is soon clear
            raise _Again(_short(error), weight=2) from error
        except (OSError, HTTPError, http.client.HTTPException) as error:
            raise _Again(f"the connection broke: {_short(error)}") from error

    def _take(self, answer: requests.Response, have: int) -> None:
        """The body of an answer, behind the `have` bytes that are there."""
        steps = [*answer.history, answer]
        if any(
            one.url.startswith("https:") and two.url.startswith("http:")
            for one, two in itertools.pairwise(steps)
        ):
            raise Refused(f"redirects from https to {answer.url}, which anyone could change")
        have = self._check_status(answer, have)
        kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind in ("text/html", "application/xhtml+xml"):
            raise Refused("answers with a web page, not with a file (a login page?)")
        if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise Refused("sends the file in an encoding that was not asked for")
        length = answer.headers.get("Content-Length", "")
        total = have + int(length) if length.isdigit() else 0
        if self.size and total and total != self.size:
            raise Refused(f"has {total:,} bytes there, {self.size:,} were published")
        chunked = "chunked" in answer.headers.get("Transfer-Encoding", "").lower()
        if not (total or chunked or self.size or self.sure):
            raise Refused("does not say how long the file is, and no digest of it is known")
        for step in steps:
            if found := HUB_DIGEST.fullmatch(step.headers.get("X-Linked-ETag", "")):
                self.hub_digest = found[1]
        self._note_validator(answer)
        with self._opened("r+b" if have else "wb") as file:
            file.seek(have)
            self._copy(answer, file, have, total or self.size)

    def _check_status(self, answer: requests.Response, have: int) -> int:
        """How many of the bytes that are there may stay."""
        status, reason = answer.status_code, answer.reason
        if status == 206:
            found = RANGE.fullmatch(answer.headers.get("Content-Range", ""))
            known = {"*", str(self.size)} if self.size else {found and found[3]}
            if not (have and found and int(found[1]) == have and found[3] in known):
                self.resumable = False
                raise _Again("answers with other bytes than were asked for")
            self.resumed = True
            return have
        if status == 200:
            return 0
        if status == 416:
            self.resumable = False
            raise _Again("has less than is here already")
        words = f"answers {status} {reason}".rstrip()
        if status in AGAIN:
            after = answer.headers.get("Retry-After", "")
            raise _Again(words, float(after) if after.isdigit() else 0.0)
        raise Refused(words)

    def _copy(self, answer: requests.Response, file: BinaryIO, have: int, total: int) -> None:
        raw: Any = answer.raw
        began, since = time.monotonic(), 0
        first = not have
        while block := self._read(raw, have, total):
            if first:
                first = False
                if block.lstrip().lower().startswith(PAGES):
                    raise Refused("answers with a web page, not with a file (a login page?)")
                if block.startswith(POINTER):
                    raise Refused("gives a Git LFS pointer, not the file")
            have += len(block)
            since += len(block)
            if total and have > total:
                file.truncate(0)
                raise Refused(f"sends more than the {total:,} bytes that the file has")
            self._write(file, block)
            self.on_bytes(have, total)
            now = time.monotonic()
            if now - began > self.patience.stall:
                if since < self.patience.least:
                    raise _Again(f"{since:,} bytes came in {self.patience.stall:g} s")
                began, since = now, 0
        if total and have < total:
            raise _Again(_cut(have, total))

    def _read(self, raw: Any, have: int, total: int) -> bytes:
        from urllib3.exceptions import HTTPError, ReadTimeoutError

        try:
            block: bytes = raw.read1(CHUNK)
        except (ReadTimeoutError, TimeoutError) as error:
            raise _Again(f"nothing came for {self.patience.stall:g} s") from error
        except (HTTPError, http.client.HTTPException, OSError, ValueError) as error:
            raise _Again(_cut(have, total)) from error
        return block

    # ------------------------------------------------------------------- local files

    def _opened(self, mode: str) -> Any:
        try:
            return self.part.open(mode)
        except OSError as error:
            raise WeightsError(f"{self.part} cannot be written: {_short(error)}") from error

    def _write(self, file: BinaryIO, block: bytes) -> None:
        try:
            file.write(block)
            file.flush()
        except OSError as error:
            file.truncate(0)  # what is left of a full disk is others'
            raise WeightsError(f"{self.part} cannot be written: {_short(error)}") from error

    @property
    def _validator_file(self) -> Path:
        return self.part.with_name(f"{self.part.name}.etag")

    def _validator(self) -> str:
        """What the server called the file that the part is of."""
        try:
            return self._validator_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return ""

    def _note_validator(self, answer: requests.Response) -> None:
        etag = answer.headers.get("ETag", "")
        strong = etag if etag.startswith('"') else answer.headers.get("Last-Modified", "")
        try:
            self._validator_file.write_text(strong, encoding="utf-8")
        except OSError as error:
            raise WeightsError(f"{self.part} cannot be written: {_short(error)}") from error

    def discard(self) -> None:
        self.part.unlink(missing_ok=True)
        self._validator_file.unlink(missing_ok=True)
        self.resumed = False


def _cut(have: int, total: int) -> str:
    whole = f" of {total:,}" if total else ""
    return f"the connection was cut after {have:,}{whole} bytes"


def _short(error: BaseException) -> str:
    """The innermost reason of an error, on one line."""
    while inner := (error.__cause__ or error.__context__ or _reason(error)):
        error = inner
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())


def _reason(error: BaseException) -> BaseException | None:
    """urllib3 keeps its reasons in attributes."""
    reason = getattr(error, "reason", None)
    if isinstance(reason, BaseException):
        return reason
    first = error.args[0] if error.args else None
    return first if isinstance(first, BaseException) else None
