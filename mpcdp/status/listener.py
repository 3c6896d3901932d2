"""The listener that shows the status: a page, the same as JSON, and metrics. Read only, and off unless configured."""

import base64
import functools
import hashlib
import json
import re
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from types import TracebackType
from typing import Any, Self

from mpcdp.config import StatusConfig
from mpcdp.errors import ConfigError
from mpcdp.status.metrics import Metrics
from mpcdp.status.snapshot import Status

__all__ = ["StatusListener"]

_CONNECTIONS = 8
"""Looked after at once; more are closed."""

_REQUEST_SECONDS = 10.0
"""Everything about one connection, however slowly it is used."""

_POLL_SECONDS = 0.1
"""Until it notices that it shall end, which the process waits for."""

_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_Content = tuple[str, Callable[[], bytes]]


def _page() -> str:
    return resources.files("mpcdp.status").joinpath("page.html").read_text(encoding="utf-8")


def _hashes(page: str, element: str) -> str:
    """Return the hashes of a page's own scripts or styles, the only ones that a browser may use."""
    found = re.findall(rf"<{element}>(.*?)</{element}>", page, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in found]
    return " ".join(f"'sha256-{digest}'" for digest in digests)


def _headers(page: str) -> Mapping[str, str]:
    policy = (
        f"default-src 'none'; script-src {_hashes(page, 'script')}; style-src {_hashes(page, 'style')}; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "no-store",
    }


class StatusListener:
    """Shows a process's status at an address of its own; a context manager.

    Args:
        config: where, and to whom.
        status: what to show.

    Raises:
        ConfigError: the address cannot be used.

    Guarantees:
        Answers GET and HEAD of three paths, to a few connections at once and for seconds only. Unless it was opened for
        other hosts, it answers only requests that name this host, so that no web site can read it through a visitor's
        browser.
    """

    def __init__(self, config: StatusConfig, status: Status) -> None:
        page = _page()
        metrics = Metrics(status)
        contents: dict[str, _Content] = {
            "/": ("text/html; charset=utf-8", lambda: page.encode()),
            "/status.json": ("application/json", lambda: json.dumps(status.document()).encode()),
            "/metrics": (_METRICS_TYPE, metrics.text),
        }
        names = None if config.allow_remote else {"localhost", "127.0.0.1", "[::1]", config.host}
        try:
            self._server = _Server(config.host, config.port, _handler(contents, _headers(page), names))
        except OSError as error:
            raise ConfigError(
                f"status.listen {config.listen} cannot be used ({error.strerror}): choose another port, or an address "
                "of this machine"
            ) from None
        serve = functools.partial(self._server.serve_forever, poll_interval=_POLL_SECONDS)
        self._thread = threading.Thread(target=serve, name="status", daemon=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.socket.getsockname()[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 32

    def __init__(self, host: str, port: int, handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._room = threading.BoundedSemaphore(_CONNECTIONS)
        super().__init__((host.strip("[]"), port), handler)

    def server_bind(self) -> None:
        # Not that of HTTPServer, which asks the network for this host's name.
        self.allow_reuse_address = True
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = "", int(self.socket.getsockname()[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        end = threading.Timer(_REQUEST_SECONDS, _hang_up, (request,))
        end.daemon = True
        end.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            end.cancel()
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that hangs up is no event, and nobody can fill the log."""


def _hang_up(request: socket.socket) -> None:
    with suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)


def _handler(
    contents: Mapping[str, _Content], headers: Mapping[str, str], names: set[str] | None
) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        server_version = "mpcdp"
        sys_version = ""
        timeout = _REQUEST_SECONDS

        def do_GET(self) -> None:
            host = re.sub(r":\d+\Z", "", self.headers.get("Host", ""))
            if names is not None and host not in names:
                self.send_error(HTTPStatus.MISDIRECTED_REQUEST)
                return
            path = self.path.partition("?")[0]
            if path not in contents:
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            kind, content = contents[path]
            self._send(HTTPStatus.OK, kind, content())

        do_HEAD = do_GET  # noqa: N815 (likewise)

        def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
            # Never what was asked for: nothing of a request comes back.
            refused = HTTPStatus.METHOD_NOT_ALLOWED if code == HTTPStatus.NOT_IMPLEMENTED else HTTPStatus(code)
            self._send(refused, "text/plain; charset=utf-8", f"{refused.value} {refused.phrase}\n".encode())

        def _send(self, code: HTTPStatus, kind: str, content: bytes) -> None:
            self.send_response(code)
            for name, value in headers.items():
                self.send_header(name, value)
            if code == HTTPStatus.METHOD_NOT_ALLOWED:
                self.send_header("Allow", "GET, HEAD")
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Connection", "close")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (as in http.server)
            """Write no log: it would tell nothing and could be filled."""

    return Handler
