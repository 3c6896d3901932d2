"""Credentials are checked before anything is connected, and keys are kept."""

import datetime
import os
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from network_worlds import raises, write_credentials

from mpcdp.config import TlsFiles
from mpcdp.errors import ConfigError
from mpcdp.transport.tls import Authority, Credentials, load_credentials, subject_names, write_private

_NAME = "owner-0.example.org"
_PAST = datetime.timedelta(minutes=-1)


class TestLoading:
    def test_good_credentials_are_loaded(self, tmp_path: Path) -> None:
        files = write_credentials(tmp_path / "good", _NAME)
        credentials = load_credentials(files, name=_NAME)
        assert credentials.certificate == files.certificate.read_bytes()
        assert credentials.authority == files.authority.read_bytes()
        assert credentials.key == files.key.read_bytes()

    @pytest.mark.parametrize("field", ["authority", "certificate", "key"])
    def test_a_missing_file_is_named(self, tmp_path: Path, field: str) -> None:
        files = write_credentials(tmp_path / "good", _NAME)
        getattr(files, field).unlink()
        with raises(ConfigError, f"tls.{field}", str(getattr(files, field)), "No such file", "mpcdp network new"):
            load_credentials(files, name=_NAME)

    @pytest.mark.parametrize("field", ["authority", "certificate", "key"])
    def test_a_file_of_another_kind_is_named(self, tmp_path: Path, field: str) -> None:
        files = write_credentials(tmp_path / "good", _NAME)
        getattr(files, field).write_bytes(b"not PEM")
        with raises(ConfigError, f"tls.{field}", str(getattr(files, field)), "PEM"):
            load_credentials(files, name=_NAME)

    def test_an_encrypted_key_is_refused(self, tmp_path: Path) -> None:
        files = write_credentials(tmp_path / "good", _NAME)
        key = serialization.load_pem_private_key(files.key.read_bytes(), password=None)
        encrypted = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
        files.key.write_bytes(encrypted)
        with raises(ConfigError, "tls.key", "unencrypted"):
            load_credentials(files, name=_NAME)

    def test_the_key_must_be_the_certificates(self, tmp_path: Path) -> None:
        one, other = (write_credentials(tmp_path / name, f"{name}.example.org") for name in ("owner-0", "owner-1"))
        mixed = TlsFiles(authority=one.authority, certificate=one.certificate, key=other.key)
        with raises(ConfigError, "tls.key", "is not the key of tls.certificate"):
            load_credentials(mixed, name=_NAME)

    @pytest.mark.parametrize(("mode", "private"), [(0o600, True), (0o440, True), (0o604, False), (0o660, False)])
    def test_a_key_that_others_can_use_is_refused(self, tmp_path: Path, mode: int, private: bool) -> None:
        files = write_credentials(tmp_path / "good", _NAME)
        files.key.chmod(mode)
        if private:
            load_credentials(files, name=_NAME)
        else:
            with raises(ConfigError, "tls.key", str(files.key), f"{mode:o}", "chmod 600"):
                load_credentials(files, name=_NAME)

    def test_an_expired_certificate_is_refused(self, tmp_path: Path) -> None:
        expired = Authority("tests", valid_for=_PAST)
        files = write_credentials(tmp_path / "old", _NAME, authority=expired)
        with raises(ConfigError, "tls.authority", "expired on", "new one"):
            load_credentials(files, name=_NAME)
        expired._valid_for = datetime.timedelta(days=1)
        fresh = write_credentials(tmp_path / "authority", _NAME)
        mixed = TlsFiles(authority=fresh.authority, certificate=files.certificate, key=files.key)
        with raises(ConfigError, "tls.certificate", "expired on"):
            load_credentials(mixed, name=_NAME)

    def test_a_certificate_for_another_process_is_refused(self, tmp_path: Path) -> None:
        files = write_credentials(tmp_path / "good", _NAME)
        with raises(ConfigError, "tls.certificate", _NAME, "owner-1.example.org"):
            load_credentials(files, name="owner-1.example.org")

    def test_a_certificate_of_another_authority_is_refused(self, tmp_path: Path) -> None:
        files = write_credentials(tmp_path / "mixed", _NAME, trusted=Authority("others").certificate)
        with raises(ConfigError, "tls.certificate", "not signed by tls.authority"):
            load_credentials(files, name=_NAME)

    def test_two_authorities_of_one_name_are_told_apart(self, tmp_path: Path) -> None:
        files = write_credentials(tmp_path / "mixed", _NAME, trusted=Authority("tests").certificate)
        with raises(ConfigError, "not signed"):
            load_credentials(files, name=_NAME)

    def test_the_key_is_not_shown(self) -> None:
        assert "secret" not in repr(Credentials(authority=b"a", certificate=b"c", key=b"secret"))


class TestAuthority:
    def test_certificates_are_what_they_should_be(self) -> None:
        authority = Authority("a network")
        root = x509.load_pem_x509_certificate(authority.certificate)
        certificate = x509.load_pem_x509_certificate(authority.issue(_NAME)[0])
        certificate.verify_directly_issued_by(root)
        assert root.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert list(names) == [x509.DNSName(_NAME)]
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert set(usage) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
        for entry in (root, certificate):
            key = entry.public_key()
            assert isinstance(key, ec.EllipticCurvePublicKey)
            assert key.curve.name == "secp256r1"

    def test_every_certificate_has_a_key_of_its_own(self) -> None:
        authority = Authority("a network")
        assert authority.issue(_NAME)[1] != authority.issue(_NAME)[1]

    def test_long_names_are_possible(self) -> None:
        name = "a" * 63 + "." + "b" * 63 + ".example.org"
        certificate = x509.load_pem_x509_certificate(Authority("a network with a long name" * 10).issue(name)[0])
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == [name]


class TestPrivateFiles:
    def test_nobody_else_can_read_them_whatever_the_mask(self, tmp_path: Path) -> None:
        previous = os.umask(0)
        try:
            write_private(tmp_path / "key", b"secret")
        finally:
            os.umask(previous)
        assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
        assert (tmp_path / "key").read_bytes() == b"secret"

    def test_a_key_is_never_replaced(self, tmp_path: Path) -> None:
        write_private(tmp_path / "key", b"secret")
        with pytest.raises(FileExistsError):
            write_private(tmp_path / "key", b"other")


def test_names_come_from_a_proven_certificate_only() -> None:
    names = {"peer_dns": [b"owner-0.example.org", b"localhost"]}
    assert subject_names({**names, "x509_pem_cert": [b"..."]}) == ("owner-0.example.org", "localhost")
    assert subject_names(names) == ()
    assert subject_names({"x509_pem_cert": [b"..."], "x509_common_name": [b"owner-0.example.org"]}) == ()
