"""What the doctor finds wrong with one process and its machine, and what it says to do about it."""

import datetime
import fcntl
import json
import resource
import shutil
import socket
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from examined import ExaminedNetwork, errors, of, warnings

from mpcdp import doctor
from mpcdp.cli import main
from mpcdp.doctor import machine
from mpcdp.plan import make_plan
from mpcdp.privacy.ledger import Ledger
from mpcdp.roles.owner_secret import OwnerSecret
from mpcdp.transport.tls import Authority


@pytest.fixture(name="net")
def _net(tmp_path: Path) -> ExaminedNetwork:
    return ExaminedNetwork(tmp_path)


def test_a_process_that_is_ready_has_no_error(net: ExaminedNetwork) -> None:
    net.change("hospital-1", ledger={"epsilon_limit": 4.0, "delta_limit": 1e-5}, policy={"epsilon": 1.0})
    findings = net.examine("hospital-1")
    assert errors(findings) == []
    found = {finding.check for finding in findings if finding.level == "ok"}
    assert {"versions", "config", "task", "policy", "plan", "certificate", "state", "disk", "files"} <= found
    assert {"ledger", "budget", "table"} <= found
    assert net.task.digest.hex() in of("task", findings)[0].text
    assert "headroom" in of("plan", findings)[0].text
    for part in ("mpcdp 0.1.0", "protocol 2", "torch ", "crypten ", "grpcio "):
        assert part in findings[0].text
    # Nothing was charged, not even an empty ledger made.
    assert list((net.folder / "hospital-1" / "state").iterdir()) == []


@pytest.mark.parametrize("name", ["compute-1", "dealer", "coordinator"])
def test_every_role_can_be_examined(net: ExaminedNetwork, name: str) -> None:
    findings = net.examine(name)
    assert errors(findings) == []
    assert of("port", findings)[0].text == f"{net.address(name)} is free"
    assert bool(of("noise", findings)) == (name == "compute-1")


def test_a_config_or_task_with_faults_is_named_and_the_rest_left(net: ExaminedNetwork) -> None:
    net.change("dealer", listen="nowhere")
    (fault,) = errors(net.examine("dealer"))
    assert "listen: expected" in fault
    (net.folder / "task.toml").write_text("[task]\nversion = 1\n")
    findings = net.examine("compute-1")
    assert any(fault.startswith("task: ") and "owners" in fault for fault in errors(findings))
    assert of("state", findings)


def test_every_reason_of_the_policy_is_an_error(net: ExaminedNetwork) -> None:
    net.change("compute-1", policy={"epsilon": 0.5, "methods": ["statistics"]})
    faults = errors(net.examine("compute-1"))
    assert len(faults) == 2
    assert all("change the policy" in fault for fault in faults)


def test_a_module_outside_the_policy_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "examined_module.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    net = ExaminedNetwork(tmp_path)
    net.document["model"] = {
        "kind": "module",
        "regularization": 0.01,
        "factory": "examined_module:make",
        "loss": "cross-entropy",
        "seed": 1,
    }
    net.document["method"] = {"kind": "gradient-perturbation"}
    import tomli_w

    (net.folder / "task.toml").write_bytes(tomli_w.dumps(net.document).encode())
    net.change("compute-1", policy={"epsilon": 9.0})
    findings = net.examine("compute-1")
    assert ["policy.modules" in fault for fault in errors(findings)] == [True]
    assert "examined_module" not in sys.modules


# -- certificates ----------------------------------------------------------------------------------------------------


def test_an_expired_certificate(net: ExaminedNetwork) -> None:
    net.authority._valid_for = datetime.timedelta(minutes=-1)
    net.reissue("compute-1", net.authority)
    faults = errors(net.examine("compute-1"))
    assert "expired on" in faults[0]
    assert "have a new one issued" in faults[0]
    assert "own credentials are not usable -> mend those first" in faults[1]


def test_a_certificate_that_ends_within_thirty_days(net: ExaminedNetwork) -> None:
    for days, expected in ((29, True), (31, False)):
        net.authority._valid_for = datetime.timedelta(days=days)
        net.reissue("compute-1", net.authority)
        findings = net.examine("compute-1")
        assert errors(findings) == []
        assert any("ends on" in text and "new one issued" in text for text in warnings(findings)) is expected


def test_an_authority_further_down_that_has_ended(net: ExaminedNetwork) -> None:
    old = Authority("an old one", valid_for=datetime.timedelta(minutes=-1)).certificate
    net.reissue("compute-1", net.authority, trusted=net.authority.certificate + old)
    findings = net.examine("compute-1")
    assert errors(findings) == []
    assert any("an old one" in text and "ended on" in text for text in warnings(findings))


def test_all_faults_of_credentials_at_once(net: ExaminedNetwork) -> None:
    net.reissue("compute-1", Authority("a stranger"), of="compute-2", trusted=net.authority.certificate)
    key = net.folder / "compute-1" / "compute-1.key"
    key.chmod(0o644)
    faults = "\n".join(errors(net.examine("compute-1")))
    for part in ("run chmod 600 on it", "but the task lists compute.university.example", "is not signed by"):
        assert part in faults


# -- machine ---------------------------------------------------------------------------------------------------------


def test_a_busy_port(net: ExaminedNetwork) -> None:
    host, _, port = net.address("dealer").rpartition(":")
    with socket.create_server((host, int(port))):
        (fault,) = errors(net.examine("dealer"))
    assert "cannot listen at" in fault
    assert "end the other process" in fault
    net.change("dealer", listen="192.0.2.1:5001")
    (fault,) = errors(net.examine("dealer"))
    assert "correct `listen`" in fault


def test_a_full_disk(net: ExaminedNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = machine.state_bytes(make_plan(net.task), "compute")
    for free, level in ((needed - 1, "error"), (needed, "warning"), (2 * needed, "ok")):
        monkeypatch.setattr(shutil, "disk_usage", lambda folder, free=free: shutil._ntuple_diskusage(0, 0, free))
        (finding,) = of("disk", net.examine("compute-1"))
        assert finding.level == level
        assert (level == "ok") == (finding.cure == "")


def test_a_state_folder_that_cannot_be_written(net: ExaminedNetwork) -> None:
    (net.folder / "dealer" / "file").write_text("")
    net.change("dealer", state="file")
    (fault,) = errors(net.examine("dealer"))
    assert fault.startswith("state: state folder")
    assert "give this process a folder of its own" in fault


def test_a_state_folder_on_a_disk_that_is_full_or_without_locks(
    net: ExaminedNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    (fault,) = errors(net.examine("dealer"))
    assert "No locks available -> give this process a folder" in fault


def test_a_state_folder_that_others_can_use(net: ExaminedNetwork) -> None:
    (net.folder / "dealer" / "state").chmod(0o755)
    assert any("chmod 700" in text for text in warnings(net.examine("dealer")))


@pytest.mark.parametrize(
    ("kind", "level"),
    [("nfs4", "error"), ("cifs", "error"), ("fuse.sshfs", "error"), ("tmpfs", "warning"), ("xfs", "ok")],
)
def test_the_file_system_counts(net: ExaminedNetwork, monkeypatch: pytest.MonkeyPatch, kind: str, level: str) -> None:
    monkeypatch.setattr(machine, "file_system", lambda folder: kind)
    (finding, *_) = [finding for finding in of("state", net.examine("dealer")) if kind in finding.text]
    assert finding.level == level


def test_the_innermost_and_latest_mount_is_found(tmp_path: Path) -> None:
    inner = tmp_path / "with space" / "state"
    inner.mkdir(parents=True)
    point = str(inner.parent).replace(" ", "\\040")
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "1 0 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n"
        f"2 1 0:5 / {point} rw - xfs /dev/sdb rw\n"
        f"3 2 0:6 / {point} rw master:1 - nfs4 server:/x rw\n"
        f"4 1 0:7 / {inner}2 rw - tmpfs tmpfs rw\n"
    )
    assert machine.file_system(inner, mounts) == "nfs4"
    assert machine.file_system(tmp_path, mounts) == "ext4"
    assert machine.file_system(tmp_path, tmp_path / "absent") == "an unknown file system"


def test_too_few_open_files(net: ExaminedNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (64, 64))
    (fault,) = errors(net.examine("coordinator"))
    assert "64 open files" in fault
    assert "ulimit -n" in fault


def test_too_little_memory(net: ExaminedNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_available_mib", lambda: 100)
    assert any("100 MiB available" in text and "more memory" in text for text in warnings(net.examine("dealer")))


# -- ledger and table --------------------------------------------------------------------------------------------------


def test_a_table_that_is_not_the_declared_one_is_refused_for_public_reasons(net: ExaminedNetwork) -> None:
    net.write_table("hospital-1", 19)
    (fault,) = errors(net.examine("hospital-1"))
    assert "has 19 records, but the task declares 20" in fault


def test_a_task_above_the_limit(net: ExaminedNetwork) -> None:
    net.change("hospital-1", ledger={"epsilon_limit": 0.9, "delta_limit": 1e-5})
    (fault,) = errors(net.examine("hospital-1"))
    assert "would exceed the limit" in fault
    assert "cheaper task" in fault
    net.change("hospital-1", ledger={"epsilon_limit": 1.0, "delta_limit": 1e-6})
    assert errors(net.examine("hospital-1")) == []


def test_a_ledger_that_was_changed_or_has_paid_already(net: ExaminedNetwork) -> None:
    path = net.folder / "hospital-1" / "state" / "ledger.db"
    plan = make_plan(net.task)
    with Ledger(path) as ledger:
        ledger.charge(net.task.digest, bytes(32), net.task.name, plan.cost, releases=1, gaussian=plan.gaussian_cost)
    findings = net.examine("hospital-1")
    assert "intact, 1 task(s)" in of("ledger", findings)[0].text
    (fault,) = errors(findings)
    assert "runs once only" in fault
    # A process that was interrupted may come back to its session.
    secret = OwnerSecret(path.parent, net.task.digest)
    findings = net.examine("hospital-1")
    assert errors(findings) == []
    assert any("start the process again while the session lasts" in text for text in warnings(findings))
    secret.destroy()
    connection = sqlite3.connect(path)
    connection.execute("DROP TRIGGER no_update")
    connection.execute("UPDATE entries SET content = content || ' '")
    connection.commit()
    connection.close()
    (fault,) = errors(net.examine("hospital-1"))
    assert "row 1 was edited" in fault


# -- the command -----------------------------------------------------------------------------------------------------


def test_the_command_ends_with_zero_only_without_errors(
    net: ExaminedNetwork, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def run(*options: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["mpcdp", "doctor", "--config", str(net.config("dealer")), *options])
        with pytest.raises(SystemExit) as ended:
            main()
        assert isinstance(ended.value.code or 0, int)
        return int(ended.value.code or 0), capfd.readouterr().out

    code, text = run()
    assert code == 0
    assert "0 error(s)" in text
    (net.folder / "dealer" / "dealer.key").chmod(0o604)
    code, text = run("--json")
    report = json.loads(text)
    assert (code, report["ok"]) == (2, False)
    assert any("chmod 600" in finding["text"] for finding in report["findings"] if finding["level"] == "error")
    code, text = run()
    assert code == 2
    assert "-> mend those first" in text


def test_what_strangers_cause_is_no_part_of_the_report(
    net: ExaminedNetwork, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """While it answers its peers, others connect too."""

    def disturbed(config: Path, *, wait_seconds: float | None) -> Iterator[doctor.Finding]:
        structlog.get_logger("mpcdp.transport").warning("handshakes failed", connections=3)
        structlog.get_logger("mpcdp.transport").info("nothing of interest")
        yield from examine(config, wait_seconds=wait_seconds)

    examine = doctor.examine
    monkeypatch.setattr(doctor, "examine", disturbed)
    monkeypatch.setattr(sys, "argv", ["mpcdp", "doctor", "--config", str(net.config("dealer")), "--json"])
    with pytest.raises(SystemExit):
        main()
    written = capfd.readouterr()
    assert json.loads(written.out)["ok"]
    assert "handshakes failed" in written.err
    assert "nothing of interest" not in written.err
