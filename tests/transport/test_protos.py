"""The generated code is what the protos say, and the table of permissions covers every method of theirs."""

import subprocess
import sys
from pathlib import Path

from mpcdp.pb import health_pb2, mpc_pb2, session_pb2, types_pb2
from mpcdp.transport.access import CALLERS, HEALTH

_ROOT = Path(__file__).parents[2]


def test_generated_code_is_up_to_date(tmp_path: Path) -> None:
    protos = sorted(str(path) for path in (_ROOT / "protos/mpcdp/pb").glob("*.proto"))
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", str(_ROOT / "protos")]
    subprocess.run([*command, f"--python_out={tmp_path}", f"--pyi_out={tmp_path}", *protos], check=True, timeout=60)
    generated = {path.name: path.read_text() for path in (tmp_path / "mpcdp/pb").iterdir()}
    committed = {path.name: path.read_text() for path in (_ROOT / "mpcdp/pb").glob("*_pb2.py*")}
    assert set(generated) == set(committed)
    outdated = [name for name in generated if generated[name] != committed[name]]
    assert outdated == [], "run `make protos`"


def test_importing_the_generated_code_warns_of_nothing() -> None:
    modules = "from mpcdp.pb import health_pb2, mpc_pb2, session_pb2, share_pb2, types_pb2"
    subprocess.run([sys.executable, "-W", "error", "-c", modules], check=True, timeout=60)


def test_every_method_of_the_protos_has_its_permissions() -> None:
    files = (mpc_pb2.DESCRIPTOR, session_pb2.DESCRIPTOR, types_pb2.DESCRIPTOR)
    methods = {
        f"{service.name}/{method.name}"
        for file in files
        for service in file.services_by_name.values()
        for method in service.methods
    }
    assert methods == {method for _, method in CALLERS} - {HEALTH}
    assert all(file.package == "mpcdp.pb" for file in (*files, health_pb2.DESCRIPTOR))


def test_every_field_is_commented() -> None:
    """Equation, shape and sender stand where the field is; a reference or a part says it in its own message."""
    bare = []
    for path in sorted((_ROOT / "protos/mpcdp/pb").glob("*.proto")):
        lines = path.read_text().splitlines()
        for number, line in enumerate(lines):
            field = " = " in line and line.strip().endswith(";") and not line.startswith(("syntax", "package"))
            kind = line.split()[0] if field else ""
            scalar = kind in ("bytes", "string", "uint32", "uint64", "optional", "repeated")
            if scalar and not lines[number - 1].strip().startswith("//"):
                bare.append(f"{path.name}:{number + 1}: {line.strip()}")
    assert bare == []
