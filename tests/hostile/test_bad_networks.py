"""Sessions between real processes over connections that delay, break, hang, or change what passes through them."""

import re
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tomli_w
from farmed_network import Farm, FarmedNetwork
from fault_proxy import Fault, FaultProxy
from hostile_network import SECONDS, check_ends, check_result, make, note, succeeded
from networks import TestNetwork

pytestmark = [pytest.mark.exhaustive, pytest.mark.timeout(200)]

# How far a connection of each kind gets before something happens to it: in the middle of what it is for.
_PAIRS: dict[tuple[str, str], Fault] = {
    ("owner", "coordinator"): Fault("none", at=3000, downwards=True),
    ("owner", "party"): Fault("none", at=3200),
    ("coordinator", "party"): Fault("none", at=3500),
    ("party", "party"): Fault("none", at=9000),
    ("party", "dealer"): Fault("none", at=20_000, downwards=True),
    ("coordinator", "dealer"): Fault("none", at=2500),
}


@pytest.fixture(scope="module")
def farm() -> Iterator[Farm]:
    with Farm() as farm:
        yield farm


def _through(made: TestNetwork, proxy: FaultProxy, fault: Callable[[str, str], Fault]) -> None:
    """Let every process call its peers through the proxy."""
    for path in made.folder.glob("*/*.toml"):
        config = tomllib.loads(path.read_text())
        for peer, address in config.get("peers", {}).items():
            port = proxy.add(int(address.rpartition(":")[2]), fault(config["name"], peer))
            config["peers"][peer] = f"127.0.0.1:{port}"
        path.write_bytes(tomli_w.dumps(config).encode())


def _kind(name: str) -> str:
    return re.sub(r"-\d+$", "", name)


def _run(made: TestNetwork, farm: Farm, fault: Callable[[str, str], Fault]) -> tuple[bool, bool]:
    """Run a session; whether the fault happened, and whether the session succeeded."""
    start = time.monotonic()
    with FaultProxy() as proxy, FarmedNetwork(made.folder, farm) as network:
        _through(made, proxy, fault)
        network.start()
        results = {result.name: result for result in network.wait(SECONDS)}
    note(made.folder, start, results)
    check_ends(network, results)
    check_result(made, results)
    return proxy.happened, succeeded(results)


@pytest.mark.parametrize("kind", ["delay", "throttle"])
def test_slow_connections_only_take_longer(tmp_path: Path, farm: Farm, kind: str) -> None:
    made = make(tmp_path, "gradient joint 2")
    assert _run(made, farm, lambda caller, peer: Fault(kind))[1]  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["cut", "half-open", "duplicate", "reorder", "truncate"])
@pytest.mark.parametrize("pair", _PAIRS, ids="-to-".join)
def test_a_connection_that_breaks_or_lies(tmp_path: Path, farm: Farm, pair: tuple[str, str], kind: str) -> None:
    made = make(tmp_path, "gradient joint 2")
    where = _PAIRS[pair]
    fault = Fault(kind, where.at, where.downwards)  # type: ignore[arg-type]
    happened, _ = _run(
        made, farm, lambda caller, peer: fault if (_kind(caller), _kind(peer)) == pair else Fault("none")
    )
    assert happened, "no connection came so far"
