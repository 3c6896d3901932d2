"""What a process knows for itself alone: its name, its keys, where its peers listen, where it keeps its state.

A config is local and private; what everybody agreed on is the task (`mpcdp.task`). Both are TOML files, read by
`read_toml`: unknown keys are errors, and one error names every fault of a file. Relative paths in a config are relative
to the config's folder.
"""

import difflib
import ipaddress
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from mpcdp.errors import ConfigError, InputError

__all__ = [
    "ComputePartyConfig",
    "Config",
    "CoordinatorConfig",
    "DealerConfig",
    "LedgerLimit",
    "Name",
    "OwnerConfig",
    "Policy",
    "Section",
    "StatusConfig",
    "TlsFiles",
    "check_content",
    "load_any_config",
    "load_config",
    "read_toml",
]

_SHOWN_CHARACTERS = 60
_Model = TypeVar("_Model", bound=BaseModel)
_Config = TypeVar("_Config", bound="Config")


class Section(BaseModel):
    """A table of a TOML file: frozen, no unknown key, no silent conversion, no NaN or infinity."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


def _check_name(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", name):
        raise ValueError(
            "expected a name of at most 63 lower-case letters, digits and hyphens that begins with a letter or digit, "
            f"got {_shown(name)}"
        )
    return name


def _check_address(address: str) -> str:
    match = re.fullmatch(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})", address)
    if match is None or not 1 <= int(match[1]) <= 65535:
        raise ValueError(f'expected "host:port" with a port from 1 to 65535, got {_shown(address)}')
    return address


def _list_to_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False  # a name, whoever it may belong to


def _resolve(value: Any, info: ValidationInfo) -> Any:
    """Take a text for a path, relative to the folder of the file it stands in."""
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError(f"expected a path, got {_shown(value)}")
    folder: Path = info.context["folder"] if info.context else Path()
    return folder / value


Name = Annotated[str, AfterValidator(_check_name)]
"""The name of a process in the task."""

_Address = Annotated[str, AfterValidator(_check_address)]
_Item = TypeVar("_Item")
_Choice = Annotated[tuple[_Item, ...], BeforeValidator(_list_to_tuple)]
_FilePath = Annotated[Path, BeforeValidator(_resolve)]


class TlsFiles(Section):
    """Where this process's credentials are.

    Args:
        authority: certificate of the authority that signed everybody's certificates (PEM).
        certificate: this process's certificate (PEM); its DNS name is what the task lists.
        key: the certificate's private key (PEM), readable by this process alone.
    """

    authority: _FilePath
    certificate: _FilePath
    key: _FilePath


class LedgerLimit(Section):
    """What all tasks together may cost an owner's records; to be fixed before the first one.

    Args:
        epsilon_limit: of all tasks together; see `mpcdp.privacy.composition`.
        delta_limit: of all tasks together.
    """

    epsilon_limit: Annotated[float, Field(gt=0)]
    delta_limit: Annotated[float, Field(gt=0, le=1)]


class DataConfig(Section):
    """``[data]``: who goes over an owner's records.

    Args:
        engine: ``"local"``, the owner's process; ``"ray"``, workers of a Ray cluster of the owner's own, which all can
            read its folder of Parquet files. What is shared is the same to the last bit.
        address: of the running cluster, ``"auto"`` or ``"host:port"``; with ``"ray"`` only. None is ever started here:
            Ray listens to other machines, so its administrator decides to whom.
    """

    engine: Literal["local", "ray"] = "local"
    address: str | None = None

    @model_validator(mode="after")
    def _cluster_has_an_address(self) -> "DataConfig":
        if (self.engine == "ray") != (self.address is not None):
            raise ValueError(
                f'address: expected with engine = "ray", and only with it, got {self.address!r} with "{self.engine}"'
            )
        return self


class Policy(Section):
    """Which tasks this organisation consents to; what is left out is not restricted, except ``modules``.

    Args:
        epsilon: largest epsilon of one task.
        delta: largest delta of one task.
        owners: smallest number of owners in a task.
        minimum_owners: smallest number of owners behind a release.
        methods: kinds of ``[method]``.
        noise: who may sample the noise: ``"joint"``, ``"per-party"``.
        peers: DNS names in the certificates of everybody else who may take part.
        tasks: digests, 64 hexadecimal digits, of the tasks that were looked at.
        modules: factories of PyTorch modules, and losses of theirs, ``"package.module:function"``, whose code may be
            imported; none when left out.
    """

    epsilon: Annotated[float, Field(gt=0)] | None = None
    delta: Annotated[float, Field(gt=0, le=1)] | None = None
    owners: Annotated[int, Field(ge=1)] | None = None
    minimum_owners: Annotated[int, Field(ge=1)] | None = None
    methods: (
        _Choice[Literal["output-perturbation", "gradient-perturbation", "statistics", "update-aggregation"]] | None
    ) = None
    noise: _Choice[Literal["joint", "per-party"]] | None = None
    peers: _Choice[str] | None = None
    tasks: _Choice[Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]] | None = None
    modules: _Choice[str] = ()


class StatusConfig(Section):
    """Where a process shows how it is doing: a page, ``/status.json`` and ``/metrics``, without a password.

    Args:
        listen: ``"host:port"``; a loopback address unless `allow_remote`.
        allow_remote: whether other hosts may look, e.g. a Prometheus server; let a firewall say which.
    """

    listen: _Address
    allow_remote: bool = False

    @model_validator(mode="after")
    def _check_host(self) -> "StatusConfig":
        if not self.allow_remote and not _is_loopback(self.host):
            raise ValueError(
                f'listen: expected an address of this host alone, "127.0.0.1:{self.port}" for example, got '
                f"{_shown(self.listen)}: set allow_remote = true if others may look"
            )
        return self

    @property
    def host(self) -> str:
        """The address without its port."""
        return self.listen.rpartition(":")[0]

    @property
    def port(self) -> int:
        """The port."""
        return int(self.listen.rpartition(":")[2])


class Config(Section):
    """What every process's config says.

    Args:
        name: this process's name in the task.
        task: the task.toml that everybody agreed on.
        state: folder for what this process must remember; made when it does not exist, and never shared.
        tls: credentials.
        peers: where each peer that this process calls listens, ``"host:port"`` by name.
        status: where it shows how it is doing; nowhere when absent.
    """

    name: Name
    task: _FilePath
    state: _FilePath
    tls: TlsFiles
    peers: dict[Name, _Address]
    status: StatusConfig | None = None


class OwnerConfig(Config):
    """Config of an owner. Owners listen nowhere: they only call.

    Args:
        role: ``"owner"``.
        table: the records, CSV or Parquet.
        ledger: what this owner is willing to spend in total; no limit when absent.
        policy: which tasks this owner consents to; all when absent.
        data: who goes over the records.
    """

    role: Literal["owner"]
    table: _FilePath
    data: DataConfig = DataConfig()
    ledger: LedgerLimit | None = None
    policy: Policy | None = None


class ComputePartyConfig(Config):
    """Config of a compute party.

    Args:
        role: ``"compute"``.
        listen: ``"host:port"`` at which this process answers.
        policy: which tasks this compute party consents to; all when absent.
    """

    role: Literal["compute"]
    listen: _Address
    policy: Policy | None = None


class DealerConfig(Config):
    """Config of the dealer.

    Args:
        role: ``"dealer"``.
        listen: ``"host:port"`` at which this process answers.
    """

    role: Literal["dealer"]
    listen: _Address
    peers: dict[Name, _Address] = Field(default_factory=dict)


class CoordinatorConfig(Config):
    """Config of the coordinator.

    Args:
        role: ``"coordinator"``.
        listen: ``"host:port"`` at which this process answers.
        validation: public table with labels on which the model is judged after every round; none when absent.
    """

    role: Literal["coordinator"]
    listen: _Address
    validation: _FilePath | None = None


def load_config(path: Path, config_type: type[_Config]) -> _Config:
    """Read a process's config.

    Args:
        path: the TOML file.
        config_type: the role's config.

    Raises:
        ConfigError: the file cannot be read or is malformed; every fault is named.
    """
    return read_toml(path, config_type, ConfigError)


def load_any_config(path: Path) -> OwnerConfig | ComputePartyConfig | DealerConfig | CoordinatorConfig:
    """Read a process's config, whatever its role.

    Raises:
        ConfigError: the file cannot be read, is malformed, or names no role.
    """
    try:
        role = tomllib.loads(path.read_text(encoding="utf-8")).get("role")
    except (OSError, ValueError):
        role = "owner"  # its own error, from `load_config`, says more
    match role:
        case "owner":
            return load_config(path, OwnerConfig)
        case "compute":
            return load_config(path, ComputePartyConfig)
        case "dealer":
            return load_config(path, DealerConfig)
        case "coordinator":
            return load_config(path, CoordinatorConfig)
        case _:
            raise ConfigError(
                f'{path}: role: expected "owner", "compute", "dealer" or "coordinator", got {_shown(role)}'
            )


def read_toml(path: Path, model: type[_Model], error_type: type[InputError]) -> _Model:
    """Read a TOML file into a model.

    Args:
        path: the file.
        model: what it has to contain.
        error_type: what to raise.

    Raises:
        error_type: the file cannot be read, is no TOML, or does not fit the model. One error lists every fault as
            ``section.field: expected ..., got ...``.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise error_type(f"{path}: cannot be read ({error.strerror}); give the path of a TOML file") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise error_type(f"{path}: is not a TOML file in UTF-8: {error}") from error
    return check_content(content, model, error_type, source=str(path), folder=path.parent)


def check_content(
    content: Any, model: type[_Model], error_type: type[InputError], *, source: str, folder: Path = Path()
) -> _Model:
    """Make a model of what a TOML file would contain.

    Args:
        content: tables as dictionaries.
        model: what it has to contain.
        error_type: what to raise.
        source: where the content comes from, for the error.
        folder: what relative paths are relative to.

    Raises:
        error_type: it does not fit the model; see `read_toml`.
    """
    try:
        return model.model_validate(content, context={"folder": folder})
    except ValidationError as error:
        raise error_type("\n  ".join([f"{source}:", *_faults(error, model)])) from error


def _faults(error: ValidationError, model: type[BaseModel]) -> Iterator[str]:
    """Put each fault that pydantic found into words."""
    for fault in error.errors(include_url=False):
        where, keys = _locate(fault["loc"], model, unknown_key=fault["type"] == "extra_forbidden")
        match fault["type"]:
            case "extra_forbidden":
                near = difflib.get_close_matches(str(fault["loc"][-1]), keys, n=1)
                hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(sorted(keys))}"
                yield f"{where}: unknown key; {hint}"
            case "missing":
                yield f"{where}: expected a value, got none"
            case "value_error":
                for line in str(fault["ctx"]["error"]).splitlines():
                    yield f"{where}: {line}" if where else line
            case _:
                expected = fault["msg"].removeprefix("Input should be ").partition(" or instance of ")[0]
                expected = expected.replace("a valid dictionary", "a table")
                if expected.startswith(("greater", "less")):
                    expected = f"a number {expected}"
                yield f"{where}: expected {expected}, got {_shown(fault['input'])}"


def _locate(location: tuple[int | str, ...], model: type[BaseModel], *, unknown_key: bool) -> tuple[str, list[str]]:
    """Write a fault's place as ``section.list[2].field``, and list the keys that are known there."""
    where, models, keys = "", [model], list(_fields(model))
    for index, part in enumerate(location):
        if isinstance(part, int):
            where += f"[{part}]"
            continue
        fields = {key: annotation for candidate in models for key, annotation in _fields(candidate).items()}
        is_unknown_key = unknown_key and index == len(location) - 1
        if part == "[key]" or (fields and part not in fields and not is_unknown_key):
            continue  # pydantic's marks for "the key itself" and for the kind of a union's member
        where += f".{part}" if where else part
        keys, models = list(fields), _models_in(fields.get(part))
    return where, keys


def _fields(model: type[BaseModel]) -> dict[str, Any]:
    return {field.alias or name: field.annotation for name, field in model.model_fields.items()}


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """Find the models that a field's annotation holds, inside lists and unions too."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."
