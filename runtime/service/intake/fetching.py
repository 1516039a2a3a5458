"""Fetch a video from an address into a file: http and https alone, within limits, never from private networks.

The address of every host is looked up here, checked, and then connected to as it was checked, so that a name cannot
lead elsewhere a moment later. Redirects are followed here, each checked in the same way. Proxies of the environment are
not used.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import SplitResult, quote, urljoin, urlsplit

import runtime
from runtime.common.text import one_line, public_url
from runtime.service.intake.networks import is_public
from runtime.service.options import MIB
from runtime.service.refusals import RefusedError

MOST_REDIRECTS = 5
SLOWEST = 16 * 1024
"""Bytes per second below which a server is given up."""
LOOK_S = 0.25
"""Longest time between two looks whether a server is too slow."""
PIECE = 1 << 18
"""Most bytes that are read at a time."""
PORTS = {"http": 80, "https": 443}
RESERVED_PORTS = 1024
"""Ports below it belong to other services of a machine, but for those of `PORTS`."""
REDIRECTS = (301, 302, 303, 307, 308)
LONGEST_URL = 4096
WRITTEN = "%/:=&?~#+!$,;'@()*[]"
"""Marks that stand in an address as they are (RFC 3986); whatever else is not ASCII, letter or digit is encoded."""


class FetchError(Exception):
    """Reports that a video cannot be fetched."""


def split_url(url: object) -> SplitResult:
    """Return the parts of an address.

    Raises:
        RefusedError: it is none of http or https, names a user, or a port on which no videos are served.
    """
    if not isinstance(url, str) or len(url) > LONGEST_URL or not url.isprintable() or " " in url:
        raise RefusedError(400, f"url: expected an address in at most {LONGEST_URL} printable letters")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise RefusedError(400, f"url: not an address ({error})") from None
    if parts.scheme.lower() not in PORTS or not host:
        raise RefusedError(400, "url: expected an address that begins with http:// or https://")
    if parts.username is not None or parts.password is not None:
        raise RefusedError(
            400, "url: names a user, whose password this service would have to keep; sign the address instead"
        )
    if port is not None and port < RESERVED_PORTS and port not in PORTS.values():
        raise RefusedError(400, f"url: got port {port}, expected 80, 443, or one from {RESERVED_PORTS} on")
    return parts


def target_of(parts: SplitResult) -> str:
    """Return what is asked of a server: path and query, with letters that are not ASCII encoded as UTF-8."""
    return quote((parts.path or "/") + (f"?{parts.query}" if parts.query else ""), safe=WRITTEN)


class Fetch:
    """Fetches one video in a thread; `stop` ends it from another."""

    def __init__(self, url: str, path: Path, largest: int, patience: float, longest: float, private: bool) -> None:
        """Take the address and the limits; nothing is asked before `run`.

        Args:
            url: the address, of which `split_url` is known.
            path: file of the video.
            largest: most bytes.
            patience: longest silence of the server in seconds.
            longest: longest time in seconds in all.
            private: whether addresses of private networks are taken.
        """
        self._url, self._path = url, path
        self._largest, self._patience, self._private = largest, patience, private
        self._longest, self._begun = longest, 0.0
        self._stopped, self._ended = threading.Event(), threading.Event()
        self._answered = 0.0
        """Moment at which the answer began; 0: it has not."""
        self._received = 0
        self._late = ""
        """Why the server was given up; empty: it was not."""
        self._socket: socket.socket | None = None
        self.final_url = url
        """Address that gave the video, after redirects."""

    def stop(self) -> None:
        """End the fetching."""
        self._stopped.set()
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def run(self, count: Callable[[int], None]) -> None:
        """Fetch the video.

        Args:
            count: function that is called with the number of bytes before they are written.

        Raises:
            FetchError: the server does not answer, or with no video; the address is not allowed.
            RefusedError: of `count`; the video is too large.
        """
        self._begun = time.monotonic()
        threading.Thread(target=self._watch, name="afsd-fetch-watch", daemon=True).start()
        try:
            self._fetch(count)
        finally:
            self._ended.set()

    def _fetch(self, count: Callable[[int], None]) -> None:
        try:
            connection, response = self._ask()
        except ssl.SSLCertVerificationError as error:
            raise FetchError(f"{self._host}: cannot be fetched ({one_line(error.verify_message)})") from None
        except (OSError, http.client.HTTPException, ValueError):
            if self._stopped.is_set() and not self._late:
                raise FetchError("stopped") from None
            raise self._no_answer() from None
        try:
            if self._late:
                raise self._no_answer()
            self._answered = time.monotonic()
            self._save(response, count)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._require_time()
            raise FetchError(f"{self._host}: broke off ({one_line(error) or type(error).__name__})") from None
        finally:
            connection.close()

    def _watch(self) -> None:
        """Give the server up when it is too slow, also within a line that never ends (a thread's body)."""
        while not self._ended.wait(min(LOOK_S, self._patience / 4)):
            if late := self._lateness():
                self._late = late
                self.stop()
                return

    def _lateness(self) -> str:
        """Return how the server is too slow; empty: it is not."""
        now = time.monotonic()
        if not self._answered:
            return "no answer" if now > self._begun + self._patience else ""
        if now > self._begun + self._longest:
            return f"not whole after {self._longest:g} s, for which this service waits"
        if now > self._answered + self._patience + self._received / SLOWEST:
            return f"slower than {SLOWEST:,} bytes per second"
        return ""

    def _require_time(self) -> None:
        """Raise FetchError if the server was given up, or the fetching stopped."""
        if self._late:
            raise FetchError(f"{self._host}: {self._late}") from None
        if self._stopped.is_set():
            raise FetchError("stopped") from None

    def _no_answer(self) -> FetchError:
        """Return the one error for hosts that refuse, are silent, or speak no HTTP, so that nobody maps ports by it."""
        return FetchError(f"{self._host}: cannot be fetched (no answer in {self._patience:g} s); check the address")

    @property
    def _host(self) -> str:
        return public_url(self.final_url)

    def _ask(self) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """Follow redirects and return the answer that has the video."""
        for _ in range(MOST_REDIRECTS + 1):
            parts = self._parts(self.final_url)
            connection = self._connect(parts)
            try:
                headers = {"Accept-Encoding": "identity", "User-Agent": f"afsd/{runtime.__version__}"}
                connection.request("GET", target_of(parts), headers=headers)
                response = connection.getresponse()
                if response.status not in REDIRECTS:
                    self._require_video(response)
                    return connection, response
            except BaseException:
                connection.close()
                raise
            connection.close()
            self._follow(response.headers.get("Location", ""))
        raise FetchError(f"{self._host}: more than {MOST_REDIRECTS} redirects")

    def _follow(self, location: str) -> None:
        """Go on to where a redirect leads (FetchError: that is no address, or one without the protection of TLS)."""
        secure = self.final_url.lower().startswith("https:")
        try:
            # http.client takes headers for Latin-1; letters that are not ASCII are UTF-8, as browsers have it
            self.final_url = urljoin(self.final_url, location.encode("latin-1", "replace").decode(errors="replace"))
        except ValueError:
            raise FetchError(f"{self._host}: a redirect to what is no address") from None
        if secure and not self.final_url.lower().startswith("https:"):
            raise FetchError(f"{self._host}: a redirect from https to http, which is not followed")

    def _require_video(self, response: http.client.HTTPResponse) -> None:
        if response.status != 200:
            raise FetchError(f"{self._host}: the server answers {response.status}, expected 200 with the video")
        if (response.length or 0) > self._largest:
            raise FetchError(f"{self._host}: {self._too_large}")

    def _parts(self, url: str) -> SplitResult:
        try:
            return split_url(url)
        except RefusedError as refusal:  # of a redirect
            raise FetchError(f"a redirect: {refusal.reason}") from None

    def _connect(self, parts: SplitResult) -> http.client.HTTPConnection:
        """Connect to an address that was looked up and checked."""
        if self._stopped.is_set():  # before it began, or between two redirects
            raise OSError("stopped")
        host, scheme = str(parts.hostname), parts.scheme.lower()
        port = parts.port or PORTS[scheme]
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise FetchError(f"{self._host}: the host is not known ({one_line(error)}); check the address") from None
        addresses = [str(entry[4][0]) for entry in found]
        if not self._private and not all(map(is_public, addresses)):
            raise FetchError(
                f"{self._host}: leads to a private network or to this machine, which this service does not fetch from "
                "(--allow-private-urls)"
            )
        connection = http.client.HTTPConnection(host, port, timeout=self._patience)
        connection.default_port = PORTS[scheme]  # else the port is in the Host header
        try:
            self._socket = connection.sock = self._connect_to_one_of(addresses, port)
            if self._stopped.is_set():
                raise OSError("stopped")  # which `run` tells from no answer
            if scheme == "https":
                context = ssl.create_default_context()
                secured = context.wrap_socket(self._socket, server_hostname=host, do_handshake_on_connect=False)
                self._socket = connection.sock = secured  # which `stop` ends during the handshake, too
                secured.do_handshake()
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect_to_one_of(self, addresses: list[str], port: int) -> socket.socket:
        """Connect to the first address that answers (OSError: none does)."""
        failure = OSError("no address")
        for address in dict.fromkeys(addresses):
            try:
                return socket.create_connection((address, port), self._patience)
            except OSError as error:  # as of IPv6 where there is none
                failure = error
        raise failure

    def _save(self, response: http.client.HTTPResponse, count: Callable[[int], None]) -> None:
        declared = response.length
        with self._path.open("xb") as file:
            while data := response.read1(PIECE):
                self._received += len(data)
                if self._received > self._largest:
                    raise FetchError(f"{self._host}: {self._too_large}")
                self._late = self._late or self._lateness()
                self._require_time()
                count(len(data))
                file.write(data)
        self._require_time()
        if declared is not None and self._received < declared:
            raise FetchError(f"{self._host}: broke off after {self._received:,} of {declared:,} bytes")

    @property
    def _too_large(self) -> str:
        return f"larger than {self._largest / MIB:,.0f} MiB, the most that this service takes"
