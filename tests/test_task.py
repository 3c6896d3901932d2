"""Tasks: what is accepted, what a fault's message says, and what the digest depends on."""

import copy
import math
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpcdp.errors import ConfigError, TaskError
from mpcdp.learning.losses import HuberSvmLoss, LogisticLoss
from mpcdp.plan import make_plan
from mpcdp.privacy.accountant import gaussian_delta
from mpcdp.privacy.sensitivity import Relation
from mpcdp.task import Task, load_task
from mpcdp.transport.channel import Member

_SAMPLE = Path(__file__).parents[1] / "parties" / "task.toml"
_TEXT = _SAMPLE.read_text(encoding="utf-8")
_CONTENT = tomllib.loads(_TEXT)


@pytest.fixture
def load(tmp_path: Path) -> Callable[[str], Task]:
    def load(text: str) -> Task:
        path = tmp_path / "task.toml"
        path.write_text(text, encoding="utf-8")
        return load_task(path)

    return load


def _digest(content: dict[str, Any]) -> bytes:
    return Task.model_validate(content).digest


# -- what it says ----------------------------------------------------------------------------------------------------


def test_annotated_sample_is_valid() -> None:
    task = load_task(_SAMPLE)
    assert task.name == "breast-cancer-2024"
    assert task.schema_.dimension == 5
    assert task.record_counts == (20000, 5000, 1200)
    assert task.owner("hospital-2").record_count == 5000


def test_members_come_in_a_fixed_order_with_their_certificates() -> None:
    assert load_task(_SAMPLE).members() == (
        Member(name="coordinator", role="coordinator", certificate="coordinator.example.org"),
        Member(name="dealer", role="dealer", certificate="dealer.example.net"),
        Member(name="compute-1", role="compute", certificate="compute.university.example"),
        Member(name="compute-2", role="compute", certificate="compute.ministry.example"),
        Member(name="compute-3", role="compute", certificate="compute.charity.example"),
        Member(name="hospital-1", role="owner", certificate="hospital-1"),
        Member(name="hospital-2", role="owner", certificate="hospital-2"),
        Member(name="hospital-3", role="owner", certificate="hospital-3"),
    )


def test_a_process_finds_itself_or_hears_what_there_is() -> None:
    task = load_task(_SAMPLE)
    assert task.member("compute-2", "compute").certificate == "compute.ministry.example"
    with pytest.raises(ConfigError, match=r"no owner process 'compute-2' .*hospital-1, hospital-2, hospital-3"):
        task.member("compute-2", "owner")
    with pytest.raises(ConfigError, match="no owner 'nobody'"):
        task.owner("nobody")


def test_the_method_is_the_tasks(load: Callable[[str], Task]) -> None:
    task = load_task(_SAMPLE)
    assert isinstance(task.loss(), LogisticLoss)
    assert (task.method().dimension, task.method().rounds) == (5, 1)
    huber = load(_TEXT.replace('kind = "logistic-regression"', 'kind = "huber-svm"\nhuber_width = 0.25'))
    assert huber.loss() == HuberSvmLoss(width=0.25)


def test_per_party_noise_needs_no_dealer(load: Callable[[str], Task]) -> None:
    text = _TEXT.replace('noise = "joint" ', 'noise = "per-party" ')
    text = text[: text.index("[dealer]")] + text[text.index("[[compute_parties]]") :]
    task = load(text)
    assert task.dealer is None
    assert [member.role for member in task.members()][:2] == ["coordinator", "compute"]


# -- what is refused -------------------------------------------------------------------------------------------------


def _fault(load: Callable[[str], Task], text: str, old: str, new: str) -> str:
    """Replace one place of a task's text, and return why that is refused."""
    assert text.count(old) == 1
    with pytest.raises(TaskError) as error:
        load(text.replace(old, new))
    return str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("version = 1", "version = 2", "task.version: expected 1, got 2"),
        ('name = "breast-cancer-2024"', 'name = "Breast cancer"', "task.name: expected a name of at most 63"),
        ('kind = "logistic-regression"', 'kind = "ridge"', "model.kind: expected 'logistic-regression', 'huber-"),
        ('kind = "logistic-regression"', 'kind = "huber-svm"', "model.huber_width: expected with kind"),
        ("certificate = 1e-8 ", "huber_width = 0.5\ncertificate = 1e-8 ", "model.huber_width: expected with kind"),
        (
            "regularization = 0.01",
            "regularization = 0",
            "model.regularization: expected a number greater than 0, got 0",
        ),
        ("regularization = 0.01", "regularization = nan", "model.regularization: expected a finite number, got nan"),
        ("regularization = 0.01", "regularisation = 0.01", "model.regularisation: unknown key; did you mean regulari"),
        ("certificate = 1e-8 ", "certificate = -1e-8 ", "model.certificate: expected a number greater than 0"),
        ("epsilon = 1.0", "epsilon = 0.0", "privacy.epsilon: expected a number greater than 0, got 0.0"),
        ("epsilon = 1.0", "epsilon = 101", "privacy.epsilon: expected a number less than or equal to 100, got 101"),
        ("epsilon = 1.0", "epsilon = inf", "privacy.epsilon: expected a finite number, got inf"),
        ("epsilon = 1.0", 'epsilon = "1"', "privacy.epsilon: expected a valid number, got '1'"),
        ("delta = 1e-6", "delta = 0", "privacy.delta: expected a number greater than 0, got 0"),
        ("delta = 1e-6", "delta = 1.0", "privacy.delta: expected a number less than 1, got 1.0"),
        ("delta = 1e-6", "delta = 1e-6\nmechanism_ = 1", "privacy.mechanism_: unknown key; did you mean mechanism?"),
        ('mechanism = "gaussian"', 'mechanism = "gauss"', "privacy.mechanism: expected 'gaussian' or 'laplace'"),
        ('noise = "joint"  ', 'noise = "per-party"', "dealer: expected a [dealer] with privacy.noise"),
        ("[dealer] ", "[dealler] ", "dealler: unknown key; did you mean dealer?"),
        ("upper = 120", "upper = -5", "schema.features[0]: feature 'age': lower has to be below upper"),
        ("upper = 120", "uper = 120", "schema.features[0].uper: unknown key; did you mean upper?"),
        ('classes = ["benign", "malignant"]', 'classes = ["benign"]', "schema.label.classes: a label has at least two"),
        ("start_seconds = 60 ", "start_seconds = 0 ", "deadlines.start_seconds: expected a number greater than 0"),
        ("start_seconds = 60 ", "start_minutes = 1 ", "deadlines.start_minutes: unknown key"),
        ("minimum_owners = 2", "minimum_owners = 4", "session.minimum_owners: expected at most 3, got 4"),
        ("minimum_owners = 2", "minimum_owners = 0", "session.minimum_owners: expected a number greater than or equal"),
        (
            "record_count = 5000",
            "record_count = 1",
            "owners[1].record_count: expected a number greater than or equal to 2",
        ),
        (
            "record_count = 5000",
            "record_count = 5000.0",
            "owners[1].record_count: expected a valid integer, got 5000.0",
        ),
        ("record_count = 5000", "", "owners[1].record_count: expected a value, got none"),
        (
            'name = "hospital-2"',
            'name = "hospital-1"',
            "name: expected every name once in the whole task, got 'hospital-1'",
        ),
        (
            'name = "hospital-2"',
            'name = "compute-3"',
            "name: expected every name once in the whole task, got 'compute-3'",
        ),
        ('name = "hospital-2"', 'name = "-hospital"', "owners[1].name: expected a name of at most 63"),
        ('name = "hospital-2"', f'name = "{"h" * 64}"', "owners[1].name: expected a name of at most 63"),
        (
            '"compute.ministry.example"',
            '"compute.charity.example"',
            "certificate: expected every certificate once in the whole task, got 'compute.charity.example' 2 times",
        ),
        ('"compute.ministry.example"', '"Ministry!"', "compute_parties[1].certificate: expected the DNS name"),
        ("[coordinator]", "[organiser]", "coordinator: expected a value, got none"),
    ],
)
def test_a_fault_names_field_expectation_and_what_was_found(
    load: Callable[[str], Task], old: str, new: str, expected: str
) -> None:
    assert expected in _fault(load, _TEXT, old, new)


@pytest.mark.parametrize("count", [0, 1, 6])
def test_two_to_five_compute_parties(count: int) -> None:
    content = copy.deepcopy(_CONTENT)
    content["compute_parties"] = [{"name": f"party-{number}"} for number in range(count)]
    with pytest.raises(ValueError, match=f"expected 2 to 5 .* got {count}"):
        Task.model_validate(content)


def test_there_is_an_owner() -> None:
    content = copy.deepcopy(_CONTENT)
    content["owners"], content["session"] = [], {"minimum_owners": 1}
    with pytest.raises(ValueError, match="at least one"):
        Task.model_validate(content)


def test_a_contribution_check_needs_the_dealer(load: Callable[[str], Task]) -> None:
    text = _TEXT.replace("minimum_owners = 2", "contribution_check = true\nminimum_owners = 2")
    assert load(text).session.contribution_check
    assert load(text).digest != load(_TEXT).digest
    alone = text[: text.index("[dealer]")] + text[text.index("[[compute_parties]]") :]
    with pytest.raises(TaskError, match=r'session\.contribution_check: expected with privacy\.noise = "joint" only'):
        load(alone.replace('noise = "joint" ', 'noise = "per-party" '))


def test_every_fault_is_listed_in_one_error(load: Callable[[str], Task]) -> None:
    text = _TEXT.replace("epsilon = 1.0", "epsilon = 0.0").replace("delta = 1e-6", "delta = 2.0")
    with pytest.raises(TaskError) as error:
        load(text.replace("upper = 120", "uper = 120"))
    for field in ("privacy.epsilon", "privacy.delta", "schema.features[0].upper", "schema.features[0].uper"):
        assert f"\n  {field}: " in str(error.value)


def test_every_contradiction_is_listed_in_one_error(load: Callable[[str], Task]) -> None:
    text = _TEXT.replace('noise = "joint" ', 'noise = "per-party" ').replace("minimum_owners = 2", "minimum_owners = 9")
    with pytest.raises(TaskError) as error:
        load(text)
    for field in ("dealer", "session.minimum_owners"):
        assert f"\n  {field}: " in str(error.value)


# -- the digest ------------------------------------------------------------------------------------------------------


def test_digest_of_the_sample_is_stable(load: Callable[[str], Task]) -> None:
    digest = load_task(_SAMPLE).digest
    assert len(digest) == 32
    assert load(_TEXT).digest == digest


def test_digest_ignores_comments_and_the_writing_of_numbers(load: Callable[[str], Task]) -> None:
    stripped = re.sub(r"\s*#.*", "", _TEXT)
    for old, new in [("= 1.0", "= 1e0"), ("0.01", "1.0E-2"), ("20000", "20_000"), ("100.0", "100"), ("= 60", "= 60.0")]:
        assert old in stripped
        stripped = stripped.replace(old, new)
    assert load(stripped).digest == load(_TEXT).digest


def test_digest_ignores_whether_a_default_is_written_down(load: Callable[[str], Task]) -> None:
    text = _TEXT.replace("minimum_owners = 2", "minimum_owners = 3")
    without = text[: text.index("[deadlines]")] + text[text.index("# Who takes part") :]
    assert "minimum_owners" not in without
    written = text.replace('name = "hospital-3"', 'name = "hospital-3"\ncertificate = "hospital-3"')
    assert load(text).digest == load(without).digest == load(written).digest


@given(st.randoms(use_true_random=False))
@settings(max_examples=25)
def test_digest_ignores_the_order_of_keys(shuffler: Any) -> None:
    def shuffled(value: Any) -> Any:
        if isinstance(value, list):
            return [shuffled(item) for item in value]
        if not isinstance(value, dict):
            return value
        keys = list(value)
        shuffler.shuffle(keys)
        return {key: shuffled(value[key]) for key in keys}

    assert _digest(shuffled(_CONTENT)) == _digest(_CONTENT)


def _leaves(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _leaves(item, (*path, index))
    else:
        yield path


_TOGETHER_WITH_OTHERS = {("model", "kind"), ("privacy", "noise")}  # a test below changes them
_ONE_VALUE = {("task", "version"), ("method", "kind")}
_CHANGEABLE = [path for path in _leaves(_CONTENT) if path not in _TOGETHER_WITH_OTHERS | _ONE_VALUE]


def _other(value: Any) -> Any:
    if isinstance(value, str):
        return {"gaussian": "laplace"}.get(value, value + "x")
    return value + 1 if isinstance(value, int) else value * 0.99 + 1e-9


@pytest.mark.parametrize("path", _CHANGEABLE, ids=lambda path: ".".join(map(str, path)))
def test_digest_depends_on_every_value(path: tuple[str | int, ...]) -> None:
    changed = copy.deepcopy(_CONTENT)
    parent: Any = changed
    for part in path[:-1]:
        parent = parent[part]
    parent[path[-1]] = _other(parent[path[-1]])
    assert _digest(changed) != _digest(_CONTENT)


def test_digest_depends_on_order_where_order_matters() -> None:
    for key in ("compute_parties", "owners"):
        changed = copy.deepcopy(_CONTENT)
        changed[key].reverse()
        assert _digest(changed) != _digest(_CONTENT)
    changed = copy.deepcopy(_CONTENT)
    changed["schema"]["label"]["classes"].reverse()
    assert _digest(changed) != _digest(_CONTENT)


def test_digest_depends_on_the_loss_and_the_noise_mode() -> None:
    huber = copy.deepcopy(_CONTENT)
    huber["model"] |= {"kind": "huber-svm", "huber_width": 0.5}
    per_party = copy.deepcopy(_CONTENT)
    per_party["privacy"]["noise"] = "per-party"
    del per_party["dealer"]
    assert len({_digest(content) for content in (_CONTENT, huber, per_party)}) == 3


@given(st.floats(min_value=1e-300, max_value=100.0, exclude_min=True))
def test_digest_sees_the_last_bit_of_a_number(epsilon: float) -> None:
    changed = copy.deepcopy(_CONTENT)
    changed["privacy"]["epsilon"] = epsilon
    nudged = copy.deepcopy(changed)
    nudged["privacy"]["epsilon"] = math.nextafter(epsilon, 0)
    assert _digest(changed) != _digest(nudged)


def test_digest_follows_a_changed_copy() -> None:
    task = load_task(_SAMPLE)
    for deep in (False, True):
        digest = task.digest  # from here on it is kept
        alone = task.model_copy(update={"owners": task.owners[:1]}, deep=deep)
        assert alone.digest != digest
        again = alone.model_copy(update={"owners": task.owners}, deep=deep)
        assert (again.digest, again) == (digest, task)


# -- methods ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["task.toml", "task-gradient.toml", "task-statistics.toml"])
def test_annotated_samples_have_a_plan(name: str) -> None:
    task = load_task(_SAMPLE.with_name(name))
    plan = make_plan(task)
    assert plan.cost.delta <= task.privacy.delta
    assert plan.method == task.method_.kind
    assert all(f"{key} " in plan.describe() for key in plan.settings)
    assert plan.to_json()["settings"] == dict(plan.settings)


def test_rules_fill_in_what_a_task_leaves_out() -> None:
    task = load_task(_SAMPLE.with_name("task-gradient.toml"))
    plan = make_plan(task)
    method = task.method()
    assert plan.rounds == method.rounds >= 100
    assert {"learning_rate", "clipping_norm", "sampling_rate"} <= set(plan.settings)
    chosen = task.model_copy(
        update={
            "method_": task.method_.model_copy(
                update={"rounds": 7, "learning_rate": 0.5, "clipping_norm": 0.1, "momentum": 0.9, "averaging": False}
            )
        }
    )
    settings = make_plan(chosen).settings
    assert make_plan(chosen).rounds == 7
    assert (settings["learning_rate"], settings["clipping_norm"], settings["momentum"]) == (0.5, 0.1, 0.9)
    assert settings["averaging"] == "none"
    assert make_plan(chosen).digest != plan.digest


@pytest.mark.parametrize(
    ("sample", "old", "new", "expected"),
    [
        ("task-gradient.toml", "regularization = 0.01", "certificate = 1e-6", "model.regularization: expected with"),
        (
            "task-gradient.toml",
            "regularization = 0.01",
            "regularization = 0.01\ncertificate = 1e-6",
            "model.certificate: expected with output perturbation, and only",
        ),
        ("task-gradient.toml", 'mechanism = "gaussian"', 'mechanism = "laplace"', "privacy.mechanism: expected"),
        (
            "task-gradient.toml",
            'kind = "logistic-regression"',
            'kind = "multinomial-logistic-regression"',
            "schema.label: expected multi-class",
        ),
        ("task-gradient.toml", "# sampling_rate = 0.25", "sampling_rate = 0.0", "method.sampling_rate: expected"),
        ("task-gradient.toml", "# momentum = 0.0", "momentum = 1.0", "method.momentum: expected a number less than 1"),
        ("task.toml", 'kind = "output-perturbation"', 'kind = "output-perturbation"\nrounds = 3', "method.rounds"),
        ("task.toml", "certificate = 1e-8 ", "# certificate = 1e-8 ", "model.certificate: expected with output"),
        ("task-statistics.toml", 'kind = "ridge-regression"', 'kind = "logistic-regression"', "model.kind: expected"),
        (
            "task-statistics.toml",
            'kind = "ridge-regression"',
            'kind = "ridge-regression"\nregularization = 1.0',
            'model.regularization: expected with every method but "statistics"',
        ),
    ],
)
def test_method_and_model_have_to_fit(tmp_path: Path, sample: str, old: str, new: str, expected: str) -> None:
    text = _SAMPLE.with_name(sample).read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "task.toml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(TaskError) as raised:
        load_task(path)
    assert expected in str(raised.value)


def test_sampled_rounds_need_less_noise_and_say_what_they_assume() -> None:
    task = load_task(_SAMPLE.with_name("task-gradient.toml"))
    fixed = task.method_.model_copy(update={"rounds": 100, "learning_rate": 1.0, "clipping_norm": 0.5})
    full, sampled = (
        make_plan(task.model_copy(update={"method_": fixed.model_copy(update={"sampling_rate": rate})}))
        for rate in (None, 0.1)
    )
    assert sampled.sampling_rate == pytest.approx(0.1, abs=2**-32)
    assert sampled.noise_scale < 0.25 * full.noise_scale
    assert sampled.cost.delta <= task.privacy.delta
    assert "which of its records took part" in sampled.statement()
    assert "took part in a round" not in full.statement()


def test_minimum_records_are_those_of_the_smallest_owners_unless_said() -> None:
    task = load_task(_SAMPLE)
    assert task.minimum_records == 5000 + 1200
    stricter = task.model_copy(update={"session": task.session.model_copy(update={"minimum_records": 20_000})})
    assert stricter.minimum_records == 20_000
    assert make_plan(stricter).digest != make_plan(task).digest


def test_spending_grows_to_the_plan_s_epsilon() -> None:
    for name in ("task.toml", "task-gradient.toml"):
        plan = make_plan(load_task(_SAMPLE.with_name(name)))
        spent = [plan.spent(rounds) for rounds in range(plan.rounds + 1)]
        assert spent[0] == 0
        assert spent == sorted(spent)
        assert spent[-1] == pytest.approx(plan.cost.epsilon, rel=1e-6)


def test_a_module_is_trained_by_gradients_and_its_first_parameters_are_agreed_on(tmp_path: Path) -> None:
    text = _SAMPLE.with_name("task-gradient.toml").read_text(encoding="utf-8")
    module = 'kind = "module"\nfactory = "mpcdp.learning.modules:small_mlp"\nloss = "cross-entropy"\nseed = 3\n'
    path = tmp_path / "task.toml"
    path.write_text(re.sub(r'kind = "logistic-regression".*\n', module, text), encoding="utf-8")
    task = load_task(path)
    plan = make_plan(task)
    assert plan.dimension == 5 * 16 + 16 + 1
    assert len(str(plan.settings["first_parameters"])) == 16
    other = make_plan(task.model_copy(update={"model": task.model.model_copy(update={"seed": 4})}))
    assert other.settings["first_parameters"] != plan.settings["first_parameters"]
    path.write_text(path.read_text(encoding="utf-8").replace("seed = 3\n", ""), encoding="utf-8")
    with pytest.raises(TaskError, match="seed: expected with kind"):
        load_task(path)
    path.write_text(_SAMPLE.read_text(encoding="utf-8").replace("certificate = 1e-8 ", "certificate = 1e-8\nseed = 1 "))
    with pytest.raises(TaskError, match="seed: expected with kind"):
        load_task(path)


# -- updates ---------------------------------------------------------------------------------------------------------

_UPDATES = Path(__file__).parents[1] / "parties" / "task-updates.toml"
_UPDATES_TEXT = _UPDATES.read_text(encoding="utf-8")


def test_a_task_of_updates_has_no_table() -> None:
    task = load_task(_UPDATES)
    assert (task.method().dimension, task.method().rounds) == (1024, 10)
    with pytest.raises(TaskError, match=r"has no \[schema\]"):
        _ = task.schema_


def test_a_plan_of_updates_protects_owners_over_all_rounds() -> None:
    plan = make_plan(load_task(_UPDATES))
    assert plan.sensitivity.relation is Relation.REPLACE_OWNER
    assert plan.sensitivity.bound == 2.0
    assert "everything that one owner has is replaced. This protects owners" in plan.statement()
    assert "protects records" not in plan.statement()
    mu = math.sqrt(plan.rounds) * plan.sensitivity.bound / plan.noise_scale
    assert gaussian_delta(mu=mu, epsilon=4.0) == pytest.approx(1e-6, rel=1e-3)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('kind = "update"\n', 'kind = "logistic-regression"\n', 'model.kind: expected "update" with the method'),
        ('kind = "update-aggregation"', 'kind = "statistics"', 'model.kind: expected "update" with the method'),
        ("coordinates = 1024", "regularization = 0.1", "model.coordinates: expected with kind"),
        ("coordinates = 1024", "coordinates = 9\nseed = 1", 'model.seed: expected none with kind = "update", got 1'),
        ("rounds = 10 ", "momentum = 0.5 ", "method.rounds: expected a value"),
        ("rounds = 10 ", "rounds = 10\nmomentum = 0.5 ", "method.momentum: expected none"),
        ("clipping_norm = 1.0", "", "method.clipping_norm: expected a value"),
        ('mechanism = "gaussian"', 'mechanism = "laplace"', 'privacy.mechanism: expected "gaussian"'),
        (
            'name = "hospital-2"\nrecord_count = 1',
            'name = "hospital-2"\nrecord_count = 2',
            "owners[1].record_count: expected 1 with the method",
        ),
        (
            "[deadlines]",
            '[schema]\nlabel = { column = "y", classes = ["a", "b"] }\n'
            'features = [{ name = "x", lower = 0, upper = 1 }]\n[deadlines]',
            "schema: expected none",
        ),
    ],
)
def test_a_fault_in_a_task_of_updates_is_named(load: Callable[[str], Task], old: str, new: str, expected: str) -> None:
    assert expected in _fault(load, _UPDATES_TEXT, old, new)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("regularization = 0.01", "regularization = 0.01\ncoordinates = 5", "model.coordinates: expected with kind"),
        (_TEXT[_TEXT.index("[schema]") : _TEXT.index("[deadlines]")], "", "schema: expected a value, got none"),
    ],
)
def test_a_task_with_tables_has_a_schema_and_no_coordinates(
    load: Callable[[str], Task], old: str, new: str, expected: str
) -> None:
    assert expected in _fault(load, _TEXT, old, new)
