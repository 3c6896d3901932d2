"""The status listener: what it shows, what it never shows, and that nobody can do more than look."""

import http.client
import json
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from status_samples import HOSTILE, listening, sample

from mpcdp.config import ComputePartyConfig, StatusConfig, load_config
from mpcdp.errors import ConfigError
from mpcdp.status import Progress, Status, listener

_CONFIG = Path(__file__).parents[2] / "parties" / "compute" / "compute.toml"


def _ask(
    port: int, path: str, *, method: str = "GET", headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


@pytest.fixture(name="status")
def _status() -> Status:
    return sample(Progress())


class TestWhatIsShown:
    def test_json(self, status: Status) -> None:
        with listening(status) as port:
            code, headers, body = _ask(port, "/status.json")
        document = json.loads(body)
        assert (code, headers["Content-Type"]) == (200, "application/json")
        assert document["state"] == "running"
        assert document["rounds"] == {"done": 12, "planned": 40}
        assert document["owners"] == {"present": ["hospital-1", "hospital-2"], "expected": 3}
        assert document["epsilon"] == {"spent": 0.3, "planned": 1.0, "delta": 1e-6}
        assert document["noise"] == {"free": 1_048_576, "used": 204_800}
        assert document["refused"] == {"IdentityError": 1}
        assert document["handshakes_failed"] == 4
        assert [notice["event"] for notice in document["notices"]] == ["could not close the session"]
        assert document["refusals"][0]["text"].startswith("visitor: the certificate")

    def test_metrics(self, status: Status) -> None:
        with listening(status) as port:
            code, headers, body = _ask(port, "/metrics")
        assert code == 200
        assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
        values = {
            (found.name, *sorted(found.labels.values())): found.value
            for family in text_string_to_metric_families(body.decode())
            for found in family.samples
        }
        expected: dict[tuple[str, ...], float] = {
            ("mpcdp_session_state", "running"): 1,
            ("mpcdp_session_state", "failed"): 0,
            ("mpcdp_rounds_planned",): 40,
            ("mpcdp_rounds_done",): 12,
            ("mpcdp_owners_present",): 2,
            ("mpcdp_owners_expected",): 3,
            ("mpcdp_epsilon_spent",): 0.3,
            ("mpcdp_epsilon_planned",): 1,
            ("mpcdp_noise_samples", "free"): 1_048_576,
            ("mpcdp_noise_samples", "used"): 204_800,
            ("mpcdp_bytes_sent_total", "party-2"): 7_340_032,
            ("mpcdp_refused_total", "IdentityError"): 1,
            ("mpcdp_handshakes_failed_total",): 4,
            ("mpcdp_log_entries_left_out_total",): 17,
            ("mpcdp_round_seconds_bucket", "0.1"): 5,
            ("mpcdp_round_seconds_bucket", "+Inf"): 12,
            ("mpcdp_round_seconds_count",): 12,
            ("mpcdp_certificate_expiry_timestamp_seconds",): 4_070_908_800,
        }
        assert expected.items() <= values.items()
        assert values[("mpcdp_round_seconds_sum",)] == pytest.approx(0.02 * sum(range(1, 13)))
        assert values[("process_resident_memory_bytes",)] > 1 << 20

    def test_an_owner_shows_nothing_that_depends_on_its_records(self) -> None:
        """Its memory grows with the texts in its table, and its rounds take as long as its training."""
        status = sample(Progress(), role="owner")
        with listening(status) as port:
            text, document = _ask(port, "/metrics")[2].decode(), json.loads(_ask(port, "/status.json")[2])
        assert "process_" not in text
        assert "round_seconds" not in text
        assert document["round_seconds"] is None
        assert document["owners"] is None
        assert document["epsilon"]["spent"] == 0  # it has logged no payment
        assert "mpcdp_epsilon_spent 0.0" in text

    def test_all_is_bounded_however_large_the_session(self, status: Status) -> None:
        with listening(status) as port:
            assert all(len(_ask(port, path)[2]) < 32 << 10 for path in ("/", "/status.json", "/metrics"))


class TestHowItIsShown:
    @pytest.mark.parametrize("path", ["/", "/status.json", "/metrics", "/none"])
    def test_every_answer_has_strict_headers(self, status: Status, path: str) -> None:
        with listening(status) as port:
            headers = _ask(port, path)[1]
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'sha256-")
        assert "unsafe" not in policy
        assert "*" not in policy
        assert "http" not in policy
        for wanted in ("connect-src 'self'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"):
            assert wanted in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"
        assert "Python" not in headers["Server"]

    def test_the_page_needs_nothing_from_elsewhere(self, status: Status) -> None:
        with listening(status) as port:
            page = _ask(port, "/")[2].decode()
        for foreign in ("http://", "https://", "//", "src=", "@import", "url(", "innerHTML", "style="):
            assert foreign not in page.replace("// Everything from the process", "")

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "BREW"])
    def test_one_can_only_look(self, status: Status, method: str) -> None:
        with listening(status) as port:
            code, headers, body = _ask(port, "/status.json", method=method)
        assert (code, headers["Allow"]) == (405, "GET, HEAD")
        assert b"party" not in body

    def test_head_has_no_body(self, status: Status) -> None:
        with listening(status) as port:
            code, headers, body = _ask(port, "/", method="HEAD")
        assert (code, body) == (200, b"")
        assert int(headers["Content-Length"]) > 1000

    @pytest.mark.parametrize("path", ["/none", "/../etc/passwd", "//evil.example/", f"/{HOSTILE}".replace(" ", "")])
    def test_nothing_that_was_asked_for_comes_back(self, status: Status, path: str) -> None:
        with listening(status) as port:
            code, headers, body = _ask(port, path)
        assert code in (400, 404)
        assert headers["Content-Type"].startswith("text/plain")
        assert body in (b"404 Not Found\n", b"400 Bad Request\n")

    @pytest.mark.parametrize(
        ("host", "code"), [("localhost:1", 200), ("127.0.0.1", 200), ("evil.example", 421), ("", 421)]
    )
    def test_no_web_site_reads_it_through_a_visitors_browser(self, status: Status, host: str, code: int) -> None:
        """A name that an attacker makes point to 127.0.0.1 is no name of this host."""
        with listening(status) as port:
            assert _ask(port, "/status.json", headers={"Host": host})[0] == code

    def test_hostile_texts_are_data_in_json_and_in_labels(self) -> None:
        status = sample(Progress(), hostile=HOSTILE)
        with listening(status) as port:
            document = json.loads(_ask(port, "/status.json")[2])
            metrics = list(text_string_to_metric_families(_ask(port, "/metrics")[2].decode()))
            page = _ask(port, "/")[2].decode()
        assert document["refusals"][0]["text"].startswith("visitor" + HOSTILE)
        assert any("party-2" + HOSTILE in found.labels.values() for family in metrics for found in family.samples)
        assert "owned" not in page  # it holds nothing of the process at all


class TestWhoHoldsItUp:
    def test_few_connections_at_once_and_each_for_seconds(
        self, status: Status, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(listener, "_REQUEST_SECONDS", 0.5)
        with listening(status) as port:
            mute = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(30)]
            end = time.monotonic() + 5
            while (working := _connections_at_work()) < 8 and time.monotonic() < end:
                time.sleep(0.01)
            assert working <= 8
            for connection in mute:
                with connection:
                    assert connection.recv(10) == b""
            assert _ask(port, "/status.json")[0] == 200

    def test_who_drips_is_cut_off(self, status: Status, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(listener, "_REQUEST_SECONDS", 0.5)
        with listening(status) as port, socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            begin = time.monotonic()
            with suppress(OSError):
                while time.monotonic() - begin < 5:
                    connection.sendall(b"x")
                    time.sleep(0.05)
            assert time.monotonic() - begin < 3

    def test_endless_headers_are_refused(self, status: Status) -> None:
        with listening(status) as port, socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n" + b"".join(b"x-%d: y\r\n" % n for n in range(500)) + b"\r\n")
            assert b" 431 " in connection.recv(1000)


def _connections_at_work() -> int:
    return sum("process_request_thread" in thread.name for thread in threading.enumerate())


class TestConfig:
    def _load(self, folder: Path, section: str) -> StatusConfig | None:
        path = folder / "compute.toml"
        path.write_text(_CONFIG.read_text() + section)
        return load_config(path, ComputePartyConfig).status

    def test_it_is_off_by_default(self, tmp_path: Path) -> None:
        assert self._load(tmp_path, "") is None

    @pytest.mark.parametrize("address", ["127.0.0.1:9464", "127.9.9.9:9464", "localhost:9464", "[::1]:9464"])
    def test_loopback_needs_no_leave(self, tmp_path: Path, address: str) -> None:
        status = self._load(tmp_path, f'\n[status]\nlisten = "{address}"\n')
        assert status is not None
        assert f"{status.host}:{status.port}" == address

    @pytest.mark.parametrize(
        "address", ["0.0.0.0:9464", "192.0.2.1:9464", "[::]:9464", "127.evil.example:9464", "host:9464"]
    )
    def test_other_addresses_need_leave(self, tmp_path: Path, address: str) -> None:
        with pytest.raises(ConfigError, match="allow_remote"):
            self._load(tmp_path, f'\n[status]\nlisten = "{address}"\n')
        status = self._load(tmp_path, f'\n[status]\nlisten = "{address}"\nallow_remote = true\n')
        assert status is not None

    def test_a_taken_port_is_an_error_with_a_cure(self, status: Status) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            config = StatusConfig(listen=f"127.0.0.1:{taken.getsockname()[1]}")
            with pytest.raises(ConfigError, match=r"status\.listen"), listening(status, config):
                pass

    def test_other_hosts_may_name_it_as_they_like_when_allowed(self, status: Status) -> None:
        config: Any = StatusConfig.model_construct(listen="127.0.0.1:0", allow_remote=True)
        with listening(status, config) as port:
            assert _ask(port, "/metrics", headers={"Host": "party-1.university.example:9464"})[0] == 200
