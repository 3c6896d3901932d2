"""deploy/README.md says what the code does: its commands run, its configs load, its tables are those of the code."""

import ast
import datetime
import re
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]
from deployment import CONFIGS, DEPLOY, ROOT, callers_and_called, code_blocks, guide, section, table, tool

from mpcdp import errors
from mpcdp.config import ComputePartyConfig, TlsFiles, load_config
from mpcdp.errors import IdentityError, MpcdpError, PeerUnavailable
from mpcdp.status import Facts, Figures, LogLimit, NoiseStock, Progress, Status
from mpcdp.status.metrics import Metrics
from mpcdp.transport.channel import Limits, Member
from mpcdp.transport.frames import PAYLOAD_BYTES
from mpcdp.transport.greeting import NO_TASK
from mpcdp.transport.grpc import GrpcNetwork
from mpcdp.transport.grpc import server as server_module
from mpcdp.transport.grpc.options import server_options
from mpcdp.transport.messages import DealRequest, SessionRef
from mpcdp.transport.reader import CHUNK_BYTES, MESSAGE_BYTES
from mpcdp.transport.receiving import SLOWEST_BYTES_PER_SECOND
from mpcdp.transport.reception import CALLS_PER_MEMBER
from mpcdp.transport.tls import load_credentials

_ORGANISATIONS = ("university", "ministry", "charity")
_REF = SessionRef(task_digest=bytes(range(32)), session=bytes(range(32, 64)))
_LIMITS = Limits(
    dimension=1,
    connect_seconds=1.0,
    call_seconds=5.0,
    prepare_seconds=5.0,
    message_seconds=5.0,
    session_seconds=10.0,
)
_NAMES = {"owner": "owner", "compute party": "compute", "dealer": "dealer", "coordinator": "coordinator"}


@cache
def _source_files() -> tuple[ast.AST, ...]:
    paths = sorted((ROOT / "mpcdp").rglob("*.py"))
    return tuple(node for path in paths for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


@cache
def _texts() -> set[str]:
    """Every text in the code, with … for what is filled in."""
    texts = set()
    for node in _source_files():
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts.add(node.value)
        elif isinstance(node, ast.JoinedStr):
            texts.add("".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values))
    return texts


def _events() -> set[str]:
    """What is logged anywhere."""
    return {
        str(node.args[0].value)
        for node in _source_files()
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "_log"
        and isinstance(node.args[0], ast.Constant)
    }


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)]+)\)", guide())
    assert len(links) >= 6
    assert [link for link in links if not (DEPLOY / link).exists()] == []


def test_the_firewall_table_is_who_may_call_whom() -> None:
    rows = table(section(3))
    assert {(_NAMES[caller], _NAMES[called]) for caller, called, _ in rows} == callers_and_called()
    assert {port for _, _, port in rows} == {"5001"}


def test_its_config_loads(tmp_path: Path) -> None:
    text, status = code_blocks(guide(), "toml")
    (tmp_path / "compute.toml").write_text(text + "\n" + status)
    config = load_config(tmp_path / "compute.toml", ComputePartyConfig)
    assert config.status is not None
    assert config.status.listen == "127.0.0.1:9464"
    ports = {address.rpartition(":")[2] for address in (config.listen, *config.peers.values())}
    assert ports == {"5001"}
    assert config.state == Path("/var/lib/mpcdp/compute")


@pytest.mark.parametrize("quoted", [row[0].strip("`") for row in table(section(12))])
def test_every_problem_in_the_table_is_one_that_the_code_reports(quoted: str) -> None:
    parts = [re.escape(part) for part in quoted.split("…")]
    assert any(re.search("….*?".join(parts), text) for text in _texts()), f"nothing says: {quoted}"


def test_every_event_in_the_table_is_logged() -> None:
    (events,) = (part for part in section(11).split("\n\n") if part.startswith("| event"))
    named = {name for row in table(events) for name in re.findall(r"`([^`]+)`", row[0])}
    assert len(named) > 15
    assert named <= _events()


def test_the_limits_in_the_table_are_those_of_the_code() -> None:
    (limits,) = (part for part in section(3).split("\n\n") if part.startswith("| limit"))
    values = {row[0]: row[1] for row in table(limits)}
    server = dict(server_options(keepalive_seconds=5.0, rush_seconds=0.0))
    assert values["calls of one member at once"] == str(CALLS_PER_MEMBER)
    assert f"{server_module._WAITING:,} more wait" in values["calls of all members at once"]
    assert values["streams of one connection"] == str(server["grpc.max_concurrent_streams"])
    assert values["a message, or a chunk of 1 MiB"].startswith(
        f"{CHUNK_BYTES / SLOWEST_BYTES_PER_SECOND:.0f} s, so 50 kB"
    )
    assert server["grpc.max_receive_message_length"] == MESSAGE_BYTES
    assert MESSAGE_BYTES >> 20 == 4
    assert values["a payload between compute parties"].startswith(f"{PAYLOAD_BYTES >> 30} GiB")
    assert values["headers"] == f"{int(server['grpc.absolute_max_metadata_size']) >> 10} KiB"
    assert values["pings"] == f"{server['grpc.http2.max_ping_strikes']} too early"
    assert values["a handshake"].startswith(f"{int(server['grpc.server_handshake_timeout_ms']) // 1000} s")
    assert values["a connection without calls"] == f"{int(server['grpc.max_connection_idle_ms']) // 60_000} minutes"
    limit = LogLimit()
    assert values["log entries that others cause"].startswith(f"{limit._per_kind} of a kind")


def test_the_alerts_are_about_metrics_that_there_are() -> None:
    scrape, rules = map(yaml.safe_load, code_blocks(section(11), "yaml"))
    assert scrape["scrape_configs"][0]["static_configs"] == [{"targets": ["127.0.0.1:9464"]}]
    (group,) = rules["groups"]
    told = {
        sample.name
        for role in ("compute", "coordinator")
        for family in Metrics(_status(role)).collect()
        for sample in family.samples
    }
    used = {name for rule in group["rules"] for name in re.findall(r"mpcdp_\w+", rule["expr"])}
    assert len(used) >= 7
    assert used <= told


def _status(role: str) -> Status:
    facts = Facts(
        role=role,
        name="x",
        task="t",
        digest="00",
        rounds=1,
        owners=1,
        epsilon=1.0,
        delta=0.0,
        certificate_expires=datetime.datetime.now(datetime.UTC),
        versions={},
    )
    figures = Figures(
        bytes_sent=lambda: {"y": 1},
        epsilon_after=float,
        noise=lambda: NoiseStock(free=1, used=1),
        left_out=lambda: 0,
    )
    progress = Progress()
    progress.note({"event": "refused", "level": "warning", "error": "ProtocolError"})
    return Status(facts, figures, progress)


def test_the_firewall_rules_are_what_nft_understands() -> None:
    (rules,) = code_blocks(section(3), "nft")
    done = subprocess.run(
        [tool("nft"), "--check", "--file", "-"], input=rules, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_promtool_accepts_the_alerts(tmp_path: Path) -> None:
    _, rules = code_blocks(section(11), "yaml")
    (tmp_path / "rules.yaml").write_text(rules)
    command = [tool("promtool"), "check", "rules", str(tmp_path / "rules.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_exit_codes_are_those_of_the_errors() -> None:
    (codes,) = (part for part in section(11).split("\n\n") if part.startswith("| exit code"))
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, MpcdpError)]
    assert {int(row[0]) for row in table(codes)} == {0, *(kind.exit_code for kind in kinds)}


def _run(script: str, folder: Path) -> None:
    done = subprocess.run(["/bin/bash", "-euc", script], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def organisations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three organisations that have followed section 4, a folder each."""
    tool("openssl")
    folder = tmp_path_factory.mktemp("organisations")
    authority, request, certificate, check = code_blocks(section(4), "sh")
    for name in _ORGANISATIONS:
        (folder / name).mkdir()
        _run((authority + request + certificate).replace("university", name), folder / name)
    for name in _ORGANISATIONS:
        for other in _ORGANISATIONS:
            (folder / name / f"{other}.crt").write_bytes((folder / other / f"{other}.crt").read_bytes())
        _run(check, folder / name)
    return folder


def _files(folder: Path) -> TlsFiles:
    return TlsFiles(authority=folder / "authority.crt", certificate=folder / "tls.crt", key=folder / "tls.key")


def _forged(organisations: Path, folder: Path) -> TlsFiles:
    """Have the ministry's authority certify the university's name."""
    _, request, certificate, _ = code_blocks(section(4), "sh")
    _run(request, folder)
    for name in ("ministry.crt", "authority.key", "authority.crt"):
        (folder / name).write_bytes((organisations / "ministry" / name).read_bytes())
    _run(certificate.replace("university.crt", "ministry.crt"), folder)
    return _files(folder)


class _Dealer:
    """Deals zeros to whoever is let in."""

    def open_session(self, caller: str, ref: SessionRef) -> None: ...

    def deal(self, caller: str, request: DealRequest) -> tuple[bytes, Iterator[bytes]]:
        return bytes(32), iter([])

    def close_session(self, caller: str, ref: SessionRef, reason: str | None) -> None: ...


def _deal(server: TlsFiles, client: TlsFiles, *, called: str) -> bytes:
    """Let the university's compute party call a dealer that has a certificate for ``called``."""
    members = (
        Member("compute-1", "compute", "compute.university.example"),
        Member("dealer", "dealer", called),
        Member("coordinator", "coordinator", "coordinator.example.org"),
    )
    if called == members[0].certificate:
        members = (replace(members[0], certificate="compute.ministry.example"), *members[1:])
    with socket.create_server(("127.0.0.1", 0)) as opened:
        address = f"127.0.0.1:{opened.getsockname()[1]}"
    request = DealRequest(_REF, party="compute-1", nonce=bytes(32), batch="noise", samples=0, schedule_digest=bytes(32))
    with (
        GrpcNetwork(members[1], members, {}, server, _LIMITS, address, task_digest=NO_TASK) as dealer,
        GrpcNetwork(members[0], members, {"dealer": address}, client, _LIMITS, None, task_digest=NO_TASK) as party,
        dealer.serve(_Dealer()),
    ):
        seed, _ = party.dealer("dealer").deal("", request)
        return seed


def test_the_commands_make_certificates_that_connect_organisations(organisations: Path) -> None:
    for name in _ORGANISATIONS:
        credentials = load_credentials(_files(organisations / name), name=f"compute.{name}.example")
        assert credentials.authority.count(b"BEGIN CERTIFICATE") == 3
    university, ministry = _files(organisations / "university"), _files(organisations / "ministry")
    assert _deal(ministry, university, called="compute.ministry.example") == bytes(32)


def test_keys_made_by_the_commands_are_private(organisations: Path) -> None:
    for key in organisations.rglob("*.key"):
        assert key.stat().st_mode & 0o077 == 0


def test_an_authority_cannot_certify_names_of_others(organisations: Path, tmp_path: Path) -> None:
    """What section 4 says of nameConstraints, at both ends of a connection."""
    forged = _forged(organisations, tmp_path)
    ministry = _files(organisations / "ministry")
    with pytest.raises(PeerUnavailable, match="does not accept this process's certificate"):
        _deal(ministry, forged, called="compute.ministry.example")
    with pytest.raises(IdentityError, match="not from this task's authority"):
        _deal(forged, ministry, called="compute.university.example")


def test_all_roles_have_samples() -> None:
    assert {path.stem for path in (DEPLOY / "helm" / "examples").iterdir()} == set(CONFIGS)
