"""The Helm chart: one session is one Job that is tried once, locked in, with state that outlives it."""

import json
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from chart_rendering import ChartError, render
from deployment import CONFIGS, DEPLOY, ROOT, callers_and_called, tool

import mpcdp.errors
from mpcdp.config import load_config
from mpcdp.transport.channel import Role

_CHART = DEPLOY / "helm" / "mpcdp"
_TASK = (ROOT / "parties" / "task.toml").read_text(encoding="utf-8")
_ROLES: tuple[Role, ...] = tuple(CONFIGS)
Manifests = Mapping[str, dict[str, Any]]


def _values(role: Role, **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((DEPLOY / "helm" / "examples" / f"{role}.yaml").read_text())
    return {**values, "task": _TASK, **changes}


def _by_kind(manifests: list[dict[str, Any]]) -> Manifests:
    kinds = {manifest["kind"]: manifest for manifest in manifests}
    assert len(kinds) == len(manifests)
    return kinds


def _render_here(role: Role, **changes: Any) -> Manifests:
    return _by_kind(render(_CHART, _values(role, **changes)))


def _render_with_helm(role: Role, **changes: Any) -> Manifests:
    done = subprocess.run(
        [tool("helm"), "template", "trial", _CHART, "--values", "-"],
        input=yaml.safe_dump(_values(role, **changes)),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise ChartError(done.stderr)
    return _by_kind([manifest for manifest in yaml.safe_load_all(done.stdout) if manifest is not None])


@pytest.fixture(params=[_render_here, _render_with_helm], ids=["own-renderer", "helm"])
def rendered(request: pytest.FixtureRequest) -> Callable[..., Manifests]:
    """Everything is looked at twice: as these tests render the chart, and as Helm does where it is installed."""
    if request.param is _render_with_helm:
        tool("helm")
    chosen: Callable[..., Manifests] = request.param
    return chosen


def _pod(manifests: Manifests) -> dict[str, Any]:
    pod: dict[str, Any] = manifests["Job"]["spec"]["template"]["spec"]
    return pod


@pytest.mark.parametrize("role", _ROLES)
class TestEveryRole:
    def test_only_a_killed_process_is_started_again(self, rendered: Callable[..., Manifests], role: Role) -> None:
        job = rendered(role)["Job"]["spec"]
        assert (job["completions"], job["parallelism"]) == (1, 1)
        ending = [rule["onExitCodes"] for rule in job["podFailurePolicy"]["rules"] if rule["action"] == "FailJob"]
        errors = [getattr(mpcdp.errors, name) for name in mpcdp.errors.__all__]
        final = sorted({error.exit_code for error in errors} - {mpcdp.errors.ProcessStopped.exit_code})
        assert ending == [{"operator": "In", "values": final}]
        assert job["template"]["spec"]["restartPolicy"] == "Never"

    def test_the_process_is_locked_in(self, rendered: Callable[..., Manifests], role: Role) -> None:
        pod = _pod(rendered(role))
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["fsGroup"] == 10001
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        writable = [mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")]
        assert writable == ["/var/lib/mpcdp", "/tmp"]  # noqa: S108 (of the container)
        assert "memory" in container["resources"]["limits"]

    def test_the_process_reads_its_config_from_where_it_is_mounted(
        self, rendered: Callable[..., Manifests], role: Role, tmp_path: Path
    ) -> None:
        manifests = rendered(role)
        for name, text in manifests["ConfigMap"]["data"].items():
            (tmp_path / name).write_text(text)
        config = load_config(tmp_path / f"{role}.toml", CONFIGS[role])
        (container,) = _pod(manifests)["containers"]
        assert container["args"] == [f"parties.{role}", "--config", f"/etc/mpcdp/{role}.toml"]
        files = {volume["name"]: volume for volume in _pod(manifests)["volumes"]}["files"]["projected"]
        secret = next(source["secret"] for source in files["sources"] if "secret" in source)
        shown = {item["path"] for item in secret["items"]} | set(manifests["ConfigMap"]["data"])
        used = {config.task, config.tls.authority, config.tls.certificate, config.tls.key}
        assert {path.relative_to(tmp_path).as_posix() for path in used} == shown - {f"{role}.toml"}
        assert files["defaultMode"] & 0o027 == 0  # else the key is refused
        assert config.state == Path("/var/lib/mpcdp")
        assert (tmp_path / "task.toml").read_text() == _TASK

    def test_ports_are_open_to_servers_only_and_to_whom_they_call(
        self, rendered: Callable[..., Manifests], role: Role
    ) -> None:
        manifests = rendered(role)
        policy = manifests["NetworkPolicy"]["spec"]
        assert policy["policyTypes"] == ["Ingress", "Egress"]
        opened = [port["port"] for rule in policy["ingress"] for port in rule["ports"]]
        called = [port["port"] for rule in policy["egress"] for port in rule["ports"]]
        serves = role in {server for _, server in callers_and_called()}
        calls = role in {caller for caller, _ in callers_and_called()}
        assert opened == ([5001] if serves else [])
        assert called == ([53, 53, 5001] if calls else [])
        assert ("Service" in manifests) == serves
        if serves:
            (port,) = manifests["Service"]["spec"]["ports"]
            (container_port,) = _pod(manifests)["containers"][0]["ports"]
            assert (port["port"], container_port["containerPort"]) == (5001, 5001)
            labels = manifests["Job"]["spec"]["template"]["metadata"]["labels"]
            assert manifests["Service"]["spec"]["selector"].items() <= labels.items()
            assert manifests["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"].items() <= labels.items()

    def test_the_state_outlives_the_release(self, rendered: Callable[..., Manifests], role: Role) -> None:
        manifests = rendered(role)
        claim = manifests["PersistentVolumeClaim"]
        assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
        assert claim["spec"]["accessModes"] == ["ReadWriteOncePod"]
        state = {volume["name"]: volume for volume in _pod(manifests)["volumes"]}["state"]
        assert state["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        own = rendered(role, persistence={"existingClaim": "mine"})
        assert "PersistentVolumeClaim" not in own
        state = {volume["name"]: volume for volume in _pod(own)["volumes"]}["state"]
        assert state["persistentVolumeClaim"]["claimName"] == "mine"

    def test_another_task_or_attempt_is_another_job_with_the_same_state(
        self, rendered: Callable[..., Manifests], role: Role
    ) -> None:
        first = rendered(role)
        others = [rendered(role, task=_TASK + "\n# other"), rendered(role, attempt=2)]
        names = {manifests["Job"]["metadata"]["name"] for manifests in (first, *others)}
        assert len(names) == 3
        assert max(map(len, names)) <= 63
        assert rendered(role)["Job"]["metadata"]["name"] == first["Job"]["metadata"]["name"]
        assert {other["PersistentVolumeClaim"]["metadata"]["name"] for other in others} == {
            first["PersistentVolumeClaim"]["metadata"]["name"]
        }

    def test_kubernetes_knows_every_field_of_the_job(self, role: Role, tmp_path: Path) -> None:
        """kubectl decodes the Job into the types of Kubernetes; what they do not have is lost on the way."""
        assert _decoded_losses(_render_here(role)["Job"], tmp_path) == []

    def test_kubeconform(self, role: Role, tmp_path: Path) -> None:
        path = tmp_path / "all.yaml"
        path.write_text(yaml.safe_dump_all(_render_here(role).values()))
        done = subprocess.run([tool("kubeconform"), "-strict", path], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout

    def test_helm_lint(self, role: Role, tmp_path: Path) -> None:
        path = tmp_path / "values.yaml"
        path.write_text(yaml.safe_dump(_values(role)))
        done = subprocess.run(
            [tool("helm"), "lint", "--strict", _CHART, "--values", path], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout


_STATUS = '\n[status]\nlisten = "0.0.0.0:9464"\nallow_remote = true\n'
_MONITOR = {"port": 9464, "from": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}]}


@pytest.mark.parametrize("role", _ROLES)
class TestWatching:
    def _config(self, role: Role) -> str:
        return str(_values(role)["config"]) + _STATUS

    def test_probes_ask_the_process_with_its_own_config(self, rendered: Callable[..., Manifests], role: Role) -> None:
        (container,) = _pod(rendered(role, config=self._config(role)))["containers"]
        command = ["mpcdp", "health", "--config", f"/etc/mpcdp/{role}.toml", "--seconds", "10"]
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            probe = container[kind]
            assert probe["exec"]["command"] == command
            assert probe["timeoutSeconds"] > 10
        assert command[3] == container["args"][2]
        # Whoever ends a process has lost its session: minutes without an answer, not a slow one.
        alive = container["livenessProbe"]
        assert alive["periodSeconds"] * alive["failureThreshold"] >= 300
        assert container["readinessProbe"]["failureThreshold"] < alive["failureThreshold"]

    def test_an_owner_that_shows_nothing_is_not_asked(self, rendered: Callable[..., Manifests], role: Role) -> None:
        (container,) = _pod(rendered(role))["containers"]
        assert ("livenessProbe" in container) == (role != "owner")
        (silent,) = _pod(rendered(role, config=self._config(role), probes={"enabled": False}))["containers"]
        assert [key for key in silent if key.endswith("Probe")] == []

    def test_metrics_are_for_those_who_are_named(self, rendered: Callable[..., Manifests], role: Role) -> None:
        config = self._config(role)
        manifests = rendered(role, config=config, monitoring=_MONITOR)
        opened = {
            port["port"]: rule.get("from")
            for rule in manifests["NetworkPolicy"]["spec"]["ingress"]
            for port in rule["ports"]
        }
        assert opened[9464] == _MONITOR["from"]
        assert set(opened) == ({9464} if role == "owner" else {5001, 9464})
        annotations = manifests["Job"]["spec"]["template"]["metadata"]["annotations"]
        assert annotations["prometheus.io/port"] == "9464"
        ports = {port["name"]: port["containerPort"] for port in _pod(manifests)["containers"][0]["ports"]}
        assert ports["status"] == 9464
        nobody = rendered(role, config=config, monitoring={"port": 9464})
        assert 9464 not in [p["port"] for r in nobody["NetworkPolicy"]["spec"]["ingress"] for p in r["ports"]]
        assert "annotations" not in rendered(role)["Job"]["spec"]["template"]["metadata"]

    def test_kubernetes_knows_every_field_of_the_job_that_is_watched(self, role: Role, tmp_path: Path) -> None:
        job = _render_here(role, config=self._config(role), monitoring=_MONITOR)["Job"]
        assert _decoded_losses(job, tmp_path) == []


def _decoded_losses(job: dict[str, Any], folder: Path) -> list[str]:
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(job))
    command = [tool("kubectl"), "set", "env", "--local", "--filename", str(path), "DECODED=yes", "--output", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return _lost(job, json.loads(done.stdout), "job")


def _lost(sent: Any, decoded: Any, where: str) -> list[str]:
    if isinstance(sent, dict):
        gone = [f"{where}.{key}" for key in sent if key not in decoded]
        return gone + [
            problem for key in sent if key in decoded for problem in _lost(sent[key], decoded[key], f"{where}.{key}")
        ]
    if isinstance(sent, list):
        pairs = zip(sent, decoded, strict=True)
        return [problem for index, (a, b) in enumerate(pairs) for problem in _lost(a, b, f"{where}[{index}]")]
    return [] if sent == decoded else [f"{where}: {sent} became {decoded}"]


@pytest.mark.parametrize("role", ["dealer", "compute"])
def test_no_two_of_dealer_and_compute_parties_share_a_node(rendered: Callable[..., Manifests], role: Role) -> None:
    (term,) = _pod(rendered(role))["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert term["topologyKey"] == "kubernetes.io/hostname"
    components = {expression["key"]: expression for expression in term["labelSelector"]["matchExpressions"]}
    assert components["app.kubernetes.io/component"]["values"] == ["dealer", "compute"]


@pytest.mark.parametrize(
    ("role", "changes", "problem"),
    [
        ("compute", {"config": ""}, "config: give this process's own TOML"),
        ("compute", {"task": ""}, "task: give what everybody agreed on"),
        ("compute", {"port": 5002}, "the config does not listen at 5002"),
        ("compute", {"tls": {"secret": ""}}, "tls.secret: name the secret"),
        ("compute", {"monitoring": {"port": 9464}}, "monitoring.port: the config's .status. does not listen at 9464"),
        ("owner", {"table": {"existingClaim": ""}}, "table.existingClaim: an owner needs"),
    ],
)
def test_what_is_missing_is_named(role: Role, changes: dict[str, Any], problem: str) -> None:
    """In the templates; where Helm is used, the schema of the values speaks first."""
    with pytest.raises(ChartError, match=problem):
        _render_here(role, **changes)


def test_the_schema_has_exactly_the_values() -> None:
    schema = json.loads((_CHART / "values.schema.json").read_text())
    values = yaml.safe_load((_CHART / "values.yaml").read_text())

    def compare(schema: dict[str, Any], values: dict[str, Any], where: str) -> None:
        assert schema["additionalProperties"] is False, where
        assert set(schema["properties"]) - {"global"} == set(values), where
        for key, value in values.items():
            if "properties" in schema["properties"][key]:
                compare(schema["properties"][key], value, f"{where}.{key}")

    compare(schema, values, "values")
    assert set(schema["properties"]["role"]["enum"]) == set(CONFIGS)
