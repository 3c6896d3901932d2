"""Configs: what is accepted, and what a fault's message says."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mpcdp.config import (
    ComputePartyConfig,
    Config,
    CoordinatorConfig,
    DealerConfig,
    OwnerConfig,
    load_config,
)
from mpcdp.errors import ConfigError

_PARTIES = Path(__file__).parents[1] / "parties"
_OWNER = (_PARTIES / "owner" / "owner.toml").read_text(encoding="utf-8")


@pytest.fixture
def refusal(tmp_path: Path) -> Callable[[str], str]:
    """Load an owner's config from a text that is wrong; return what is said about it."""

    def load(text: str) -> str:
        path = tmp_path / "owner.toml"
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError) as error:
            load_config(path, OwnerConfig)
        assert str(path) in str(error.value)
        return str(error.value)

    return load


@pytest.mark.parametrize(
    ("role", "config_type"),
    [
        ("owner", OwnerConfig),
        ("compute", ComputePartyConfig),
        ("dealer", DealerConfig),
        ("coordinator", CoordinatorConfig),
    ],
)
def test_annotated_samples_are_valid(role: str, config_type: type[Config]) -> None:
    path = _PARTIES / role / f"{role}.toml"
    config = load_config(path, config_type)
    assert config.name in path.read_text(encoding="utf-8")
    # Relative paths are relative to the config's folder, wherever the process was started.
    assert config.task == path.parent / "../task.toml"
    assert config.tls.key == path.parent / f"{config.name}.key"
    assert config.state == path.parent / "state"


def test_owner_sample() -> None:
    config = load_config(_PARTIES / "owner" / "owner.toml", OwnerConfig)
    assert config.peers["compute-2"] == "compute.ministry.example:5001"
    assert config.ledger is not None
    assert (config.ledger.epsilon_limit, config.ledger.delta_limit) == (4.0, 1e-5)
    assert not hasattr(config, "listen")


def test_absolute_paths_stay(tmp_path: Path) -> None:
    path = tmp_path / "owner.toml"
    path.write_text(_OWNER.replace('"table.csv"', '"/data/table.csv"'), encoding="utf-8")
    assert load_config(path, OwnerConfig).table == Path("/data/table.csv")


def test_a_limit_is_optional(tmp_path: Path) -> None:
    path = tmp_path / "owner.toml"
    path.write_text(_OWNER[: _OWNER.index("[ledger]")], encoding="utf-8")
    assert load_config(path, OwnerConfig).ledger is None


def test_configs_cannot_be_changed() -> None:
    config = load_config(_PARTIES / "owner" / "owner.toml", OwnerConfig)
    with pytest.raises(ValueError, match="frozen"):
        config.name = "other"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('role = "owner"', 'role = "compute"', "role: expected 'owner', got 'compute'"),
        ('name = "hospital-1"', 'name = "Hospital 1"', "name: expected a name of at most 63 lower-case letters"),
        ('name = "hospital-1"', f'name = "{"h" * 64}"', "name: expected a name of at most 63 lower-case letters"),
        ('name = "hospital-1"', "name = 1", "name: expected a valid string, got 1"),
        ('table = "table.csv"', "", "table: expected a value, got none"),
        ('table = "table.csv"', 'table = ""', "table: expected a path, got ''"),
        ('table = "table.csv"', "table = 3", "table: expected a path, got 3"),
        ('table = "table.csv"', 'tabel = "table.csv"', "tabel: unknown key; did you mean table?"),
        (
            'state = "state"',
            'state = "state"\nlisten = "0.0.0.0:1"',
            "listen: unknown key; expected one of data, ledger, name",
        ),
        ('key = "hospital-1.key"', 'keys = "hospital-1.key"', "tls.keys: unknown key; did you mean key?"),
        (':5001"\ncompute-1', '"\ncompute-1', 'peers.coordinator: expected "host:port"'),
        (':5001"\ncompute-1', ':70000"\ncompute-1', 'peers.coordinator: expected "host:port"'),
        (':5001"\ncompute-1', ':0"\ncompute-1', "with a port from 1 to 65535"),
        ("compute-1 =", "Compute_1 =", "peers.Compute_1: expected a name"),
        ("epsilon_limit = 4.0", "epsilon_limit = -1", "ledger.epsilon_limit: expected a number greater than 0, got -1"),
        ("epsilon_limit = 4.0", "epsilon_limit = inf", "ledger.epsilon_limit: expected a finite number, got inf"),
        ("epsilon_limit = 4.0", 'epsilon_limit = "4"', "ledger.epsilon_limit: expected a valid number, got '4'"),
        ("epsilon_limit = 4.0", "epsilon_limit = true", "ledger.epsilon_limit: expected a valid number, got True"),
        ("delta_limit = 1e-5", "", "ledger.delta_limit: expected a value, got none"),
        ("[ledger]", "[leger]", "leger: unknown key; did you mean ledger?"),
        ("[tls]", "[[tls]]", "tls: expected a table, got [{"),
    ],
)
def test_a_fault_names_field_expectation_and_what_was_found(
    refusal: Callable[[str], str], old: str, new: str, expected: str
) -> None:
    assert _OWNER.count(old) == 1
    assert expected in refusal(_OWNER.replace(old, new))


def test_every_fault_is_listed_in_one_error(refusal: Callable[[str], str]) -> None:
    text = _OWNER.replace("epsilon_limit = 4.0", "epsilon_limit = 0").replace('table = "', 'tabel = "')
    message = refusal(text)
    for fault in ("ledger.epsilon_limit:", "tabel:", "table:"):
        assert f"\n  {fault}" in message


def test_no_toml_is_named_as_such(refusal: Callable[[str], str]) -> None:
    assert "is not a TOML file" in refusal("role = owner")


def test_other_encodings_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "owner.toml"
    path.write_bytes(_OWNER.encode("utf-16"))
    with pytest.raises(ConfigError, match="UTF-8"):
        load_config(path, OwnerConfig)


@pytest.mark.parametrize("name", ["absent.toml", "."])
def test_unreadable_files_are_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / name, OwnerConfig)
