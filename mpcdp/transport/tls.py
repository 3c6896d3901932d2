"""Who a process is: loading its certificate, and an authority of one's own for networks that have none."""

import datetime
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mpcdp.config import TlsFiles
from mpcdp.errors import ConfigError

__all__ = [
    "Authority",
    "Credentials",
    "Inspection",
    "certificate_expiry",
    "inspect_credentials",
    "load_credentials",
    "subject_names",
    "write_private",
]

_CLOCK_SKEW = datetime.timedelta(minutes=5)
_T = TypeVar("_T")


@dataclass(frozen=True)
class Credentials:
    """What a process proves its identity with, PEM.

    Args:
        authority: certificate of whoever signs everybody's certificates.
        certificate: this process's certificate, with the chain up to the authority if there is one.
        key: its private key.
    """

    authority: bytes
    certificate: bytes
    key: bytes = field(repr=False)


def subject_names(auth_context: Mapping[str, Iterable[bytes]]) -> tuple[str, ...]:
    """Return the DNS names in the certificate that a gRPC peer proved to own; empty without a certificate."""
    if "x509_pem_cert" not in auth_context:
        return ()
    return tuple(name.decode("utf-8", "replace") for name in auth_context.get("peer_dns", ()))


def load_credentials(files: TlsFiles, *, name: str) -> Credentials:
    """Read a process's credentials and check that its peers will accept them.

    Args:
        files: where they are.
        name: DNS name that the task lists for this process.

    Raises:
        ConfigError: a file cannot be read, other users can read the key, the key is not the certificate's, or the
            certificate is expired, for another name, or not from this authority.
    """
    inspection = inspect_credentials(files, name=name)
    if inspection.credentials is None:
        raise ConfigError(inspection.problems[0])
    return inspection.credentials


@dataclass(frozen=True)
class Inspection:
    """What was found about a process's credentials.

    Args:
        credentials: if there is no problem.
        problems: each with its cure.
        ends: until when each certificate is valid, by the file and its subject; the process's own one first.
    """

    credentials: Credentials | None
    problems: tuple[str, ...]
    ends: tuple[tuple[str, datetime.datetime], ...]


def inspect_credentials(files: TlsFiles, *, name: str) -> Inspection:
    """Find everything that `load_credentials` would refuse, and when certificates end."""
    problems: list[str] = []

    def attempt(check: Callable[..., _T], *arguments: object) -> _T | None:
        try:
            return check(*arguments)
        except ConfigError as error:
            problems.append(str(error))
            return None

    authority, certificate = (
        attempt(_read, files.authority, "authority"),
        attempt(_read, files.certificate, "certificate"),
    )
    key = attempt(_read, files.key, "key")
    if key is not None:
        attempt(_check_private, files.key)
    authorities = [] if authority is None else attempt(_certificates, authority, files.authority, "authority") or []
    chain = [] if certificate is None else attempt(_certificates, certificate, files.certificate, "certificate") or []
    if authorities:
        attempt(_check_dates, authorities[0], files.authority, "authority")
    if chain:
        attempt(_check_dates, chain[0], files.certificate, "certificate")
    if chain and key is not None:
        attempt(_check_key, key, chain[0], files)
    if chain:
        attempt(_check_name, chain[0], files, name)
    if chain and authorities:
        attempt(_check_issuer, chain, authorities, files)
    ends = [(files.certificate, one) for one in chain] + [(files.authority, one) for one in authorities]
    credentials = None
    if authority is not None and certificate is not None and key is not None and not problems:
        credentials = Credentials(authority=authority, certificate=certificate, key=key)
    return Inspection(
        credentials=credentials,
        problems=tuple(problems),
        ends=tuple((f"{path} ({one.subject.rfc4514_string()})", one.not_valid_after_utc) for path, one in ends),
    )


def _check_name(certificate: x509.Certificate, files: TlsFiles, name: str) -> None:
    names = _dns_names(certificate)
    if name not in names:
        raise ConfigError(
            f"tls.certificate {files.certificate} is for {', '.join(names) or 'no name'}, but the task lists {name}: "
            "use this process's own certificate, or correct its name in the task"
        )


def _check_issuer(chain: list[x509.Certificate], authorities: list[x509.Certificate], files: TlsFiles) -> None:
    if not any(_issued(chain[0], issuer) for issuer in (*authorities, *chain[1:])):
        raise ConfigError(
            f"tls.certificate {files.certificate} is not signed by tls.authority {files.authority}: "
            "use the certificate of the authority that all processes of this task share"
        )


def certificate_expiry(files: TlsFiles) -> datetime.datetime:
    """Return when a process's certificate expires, or its authority does, if that is sooner.

    Raises:
        ConfigError: a file cannot be read.
    """
    own = _certificates(_read(files.certificate, "certificate"), files.certificate, "certificate")[0]
    authority = _certificates(_read(files.authority, "authority"), files.authority, "authority")[0]
    return min(own.not_valid_after_utc, authority.not_valid_after_utc)


def _check_private(path: Path) -> None:
    """Refuse a key that everybody can read or its group can change; a group may read it, as with mounted secrets."""
    mode = path.stat().st_mode
    if mode & 0o027:
        raise ConfigError(f"tls.key {path}: other users can use it (mode {mode & 0o777:o}); run chmod 600 on it")


def write_private(path: Path, content: bytes) -> None:
    """Write a new file that only its owner may read (0600 from the first byte on).

    Raises:
        FileExistsError: there is such a file already; keys are never replaced.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


class Authority:
    """A certificate authority for one network.

    Args:
        name: its common name; cut after 64 characters, which is all a certificate can hold.
        valid_for: for how long it and what it issues are valid.

    Guarantees:
        Keys are fresh P-256 keys; certificates name one DNS name each and serve both ends of a connection.
    """

    def __init__(self, name: str, *, valid_for: datetime.timedelta = datetime.timedelta(days=365)) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = _common_name(name)
        self._valid_for = valid_for
        self._certificate = (
            self._builder(self._subject, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(sign_certificates=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    @property
    def certificate(self) -> bytes:
        """Its certificate, PEM: what every process is given."""
        return self._certificate.public_bytes(Encoding.PEM)

    @property
    def key(self) -> bytes:
        """Its private key, PEM: whoever has it can pass for any process."""
        return _key_bytes(self._key)

    def issue(self, name: str) -> tuple[bytes, bytes]:
        """Issue a certificate for a DNS name.

        Returns:
            The certificate and its private key, PEM.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        # The name that counts is the alternative one, which is never cut.
        certificate = (
            self._builder(_common_name(name), key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(sign_certificates=False), critical=True)
            .add_extension(usage, critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(Encoding.PEM), _key_bytes(key)

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        own = self._key.public_key()
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _CLOCK_SKEW)
            .not_valid_after(now + self._valid_for)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(own), critical=False)
        )


def _common_name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])


def _key_usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _key_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _read(path: Path, field_name: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"tls.{field_name} {path} cannot be read ({error.strerror}): correct the path, or make the file with "
            "`mpcdp network new`"
        ) from None


def _certificates(data: bytes, path: Path, field_name: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError:
        raise ConfigError(f"tls.{field_name} {path} is not a certificate in PEM format: give the right file") from None


def _check_key(data: bytes, certificate: x509.Certificate, files: TlsFiles) -> None:
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigError(f"tls.key {files.key} is not an unencrypted private key in PEM format") from None
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if key.public_key().public_bytes(*form) != certificate.public_key().public_bytes(*form):
        raise ConfigError(f"tls.key {files.key} is not the key of tls.certificate {files.certificate}: use its own key")


def _check_dates(certificate: x509.Certificate, path: Path, field_name: str) -> None:
    now = datetime.datetime.now(datetime.UTC)
    if now > certificate.not_valid_after_utc:
        raise ConfigError(
            f"tls.{field_name} {path} expired on {certificate.not_valid_after_utc:%Y-%m-%d}: have a new one issued"
        )
    if now < certificate.not_valid_before_utc:
        raise ConfigError(
            f"tls.{field_name} {path} is valid only from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on: "
            "set this machine's clock"
        )


def _dns_names(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return names.value.get_values_for_type(x509.DNSName)


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
