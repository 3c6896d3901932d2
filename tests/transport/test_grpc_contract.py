"""The network over gRPC and TLS keeps the contract."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from access_contract import AccessContract
from call_contract import CallContract
from mesh_contract import MeshContract
from network_worlds import GrpcTestWorld


@pytest.fixture
def world(tmp_path: Path) -> Iterator[GrpcTestWorld]:
    with GrpcTestWorld(tmp_path) as world:
        yield world


class TestAccess(AccessContract):
    pass


class TestCalls(CallContract):
    pass


class TestMesh(MeshContract):
    pass
