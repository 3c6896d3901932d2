"""Policies: a task outside one is refused with every reason at once, before anything of it is carried out."""

import copy
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from mpcdp.config import ComputePartyConfig, OwnerConfig, Policy, load_any_config, load_config
from mpcdp.errors import ConfigError, PolicyError, RefusedError
from mpcdp.local_network import create_network
from mpcdp.task import Task, check_policy, load_task

_PARTIES = Path(__file__).parents[1] / "parties"
_SAMPLE = tomllib.loads((_PARTIES / "task.toml").read_text(encoding="utf-8"))


def _task(**sections: dict[str, Any]) -> Task:
    content = copy.deepcopy(_SAMPLE)
    for section, values in sections.items():
        content[section] |= values
    return Task.model_validate(content)


def _module_task(factory: str) -> dict[str, Any]:
    content = copy.deepcopy(_SAMPLE)
    content["model"] = {
        "kind": "module",
        "regularization": 0.01,
        "factory": factory,
        "loss": "cross-entropy",
        "seed": 1,
    }
    content["method"] = {"kind": "gradient-perturbation"}
    return content


def _reasons(task: Task, **policy: Any) -> list[str]:
    with pytest.raises(PolicyError) as refusal:
        check_policy(Policy.model_validate(policy), task, name="hospital-1")
    first, *reasons = str(refusal.value).split("\n  ")
    assert "hospital-1" in first
    assert task.name in first
    return reasons


def test_no_policy_allows_every_task() -> None:
    check_policy(None, _task(), name="hospital-1")
    check_policy(Policy(), _task(), name="hospital-1")


@pytest.mark.parametrize(("role", "name"), [("owner", "hospital-1"), ("compute", "compute-1")])
def test_the_samples_allow_the_sample_task(role: str, name: str) -> None:
    config = load_any_config(_PARTIES / role / f"{role}.toml")
    assert isinstance(config, OwnerConfig | ComputePartyConfig)
    policy = config.policy
    assert policy is not None
    check_policy(policy, _task(), name=name)


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ({"epsilon": 0.99}, "policy.epsilon: at most 0.99 per task, the task asks 1"),
        ({"delta": 9e-7}, "policy.delta: at most 9e-07 per task, the task asks 1e-06"),
        ({"owners": 4}, "policy.owners: at least 4, the task has 3"),
        ({"minimum_owners": 3}, "policy.minimum_owners: at least 3 behind a release, the task is content with 2"),
        ({"methods": ["statistics"]}, 'policy.methods: only statistics, the task has "output-perturbation"'),
        ({"noise": ["per-party"]}, 'policy.noise: only per-party, the task has "joint"'),
        ({"noise": []}, 'policy.noise: none, the task has "joint"'),
        ({"tasks": ["0" * 64]}, f"policy.tasks: the task has digest {_task().digest.hex()}, not listed"),
    ],
)
def test_each_bound_refuses_for_its_reason(policy: dict[str, Any], words: str) -> None:
    assert _reasons(_task(), **policy) == [words]


@pytest.mark.parametrize(
    "policy",
    [
        {"epsilon": 1.0, "delta": 1e-6, "owners": 3, "minimum_owners": 2},
        {"methods": ["output-perturbation"], "noise": ["joint"], "tasks": ["0" * 64, _task().digest.hex()]},
    ],
)
def test_what_meets_a_bound_exactly_is_allowed(policy: dict[str, Any]) -> None:
    check_policy(Policy.model_validate(policy), _task(), name="hospital-1")


def test_everybody_else_has_to_be_listed_by_certificate() -> None:
    everybody = [member.certificate for member in _task().members() if member.name != "hospital-1"]
    check_policy(Policy(peers=tuple(everybody)), _task(), name="hospital-1")
    for missing in _task().members():
        if missing.name != "hospital-1":
            (reason,) = _reasons(_task(), peers=[name for name in everybody if name != missing.certificate])
            assert reason == (
                f"policy.peers: {missing.role} {missing.name} has the certificate {missing.certificate}, not listed"
            )


def test_every_reason_is_named_at_once() -> None:
    reasons = _reasons(
        _task(), epsilon=0.5, delta=1e-9, owners=9, minimum_owners=9, methods=[], noise=[], peers=[], tasks=[]
    )
    fields = [reason.partition(":")[0].removeprefix("policy.") for reason in reasons]
    assert fields == ["epsilon", "delta", "owners", "minimum_owners", "methods", "noise", *["peers"] * 7, "tasks"]


def test_modules_are_refused_unless_listed() -> None:
    task = Task.model_validate(_module_task("a.b:c"))
    assert _reasons(task) == ['policy.modules: none, the task would import "a.b:c"']
    assert _reasons(task, modules=["a.b:d", "a:b"]) == [
        'policy.modules: only a.b:d, a:b, the task would import "a.b:c"'
    ]
    check_policy(Policy(modules=("a.b:c",)), task, name="hospital-1")


def test_losses_that_a_task_names_are_code_as_well() -> None:
    content = _module_task("a.b:c")
    content["model"]["loss"] = "d:e"
    task = Task.model_validate(content)
    assert _reasons(task, modules=["a.b:c"]) == ['policy.modules: only a.b:c, the task would import "d:e"']
    assert len(_reasons(task)) == 2
    check_policy(Policy(modules=("a.b:c", "d:e")), task, name="hospital-1")


@pytest.mark.parametrize("policy", ["tasks = ['3b1f']", "noise = ['none']", "epsilon = 0", "owner = 3", "peers = 'a'"])
def test_a_policy_with_faults_is_no_policy(tmp_path: Path, policy: str) -> None:
    text = (_PARTIES / "compute" / "compute.toml").read_text(encoding="utf-8")
    path = tmp_path / "compute.toml"
    path.write_text(text[: text.index("[policy]")] + f"[policy]\n{policy}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"policy\."):
        load_config(path, ComputePartyConfig)


def test_it_is_a_refusal() -> None:
    assert issubclass(PolicyError, RefusedError)
    assert PolicyError.exit_code == 3


def test_a_process_refuses_before_the_tasks_code_runs_or_anybody_is_called(tmp_path: Path) -> None:
    """A real process: its peers' ports are closed, so a call would end it with exit code 4; importing leaves a mark."""
    import tomli_w

    (tmp_path / "innocent_looking.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w').close()\n")
    (tmp_path / "task.toml").write_bytes(tomli_w.dumps(_module_task("innocent_looking:make")).encode())
    create_network(tmp_path / "net", tmp_path / "task.toml")
    config = tmp_path / "net" / "compute-1" / "compute.toml"
    config.write_text(config.read_text() + "\n[policy]\nepsilon = 0.5\n")
    command = [sys.executable, "-m", "parties.compute", "--config", str(config)]
    root = str(Path(__file__).parents[1])
    environment = {"PYTHONPATH": f"{tmp_path}:{root}"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environment)
    assert done.returncode == 3, done.stderr
    assert "PolicyError" in done.stderr
    for reason in ("policy.epsilon: at most 0.5", "policy.modules: none"):
        assert reason in done.stderr
    assert not (tmp_path / "mark").exists()
    assert not (tmp_path / "net" / "compute-1" / "state" / "party.db").exists()
    assert load_task(tmp_path / "task.toml").model.factory == "innocent_looking:make"
