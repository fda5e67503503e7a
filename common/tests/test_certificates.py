"""The throwaway certificates: whom they are for, how long, and that TLS takes them."""

import socket
import ssl
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

from common import certificates
from common.certificates import DAYS_VALID, make_certificates

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

FILES = {"ca.pem", "server.pem", "server.key", "client.pem", "client.key"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_certificates(tmp_path / "tls")
    return tmp_path / "tls"


def read(path: Path) -> x509.Certificate:
    """The first certificate of a file."""
    return x509.load_pem_x509_certificate(path.read_bytes())


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_files(folder: Path) -> None:
    assert set(contents(folder)) == FILES
    for key in ("server.key", "client.key"):
        assert stat.S_IMODE((folder / key).stat().st_mode) == 0o600, "others could read the key"


def test_whom_they_are_for(folder: Path) -> None:
    server, client = read(folder / "server.pem"), read(folder / "client.pem")
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]
    usages = {
        server: ExtendedKeyUsageOID.SERVER_AUTH,
        client: ExtendedKeyUsageOID.CLIENT_AUTH,
    }
    for certificate, usage in usages.items():
        allowed = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert list(allowed) == [usage]


def test_the_authority_signed_both(folder: Path) -> None:
    authority = read(folder / "ca.pem")
    assert authority.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    for name in ("server.pem", "client.pem"):
        read(folder / name).verify_directly_issued_by(authority)
        chain = x509.load_pem_x509_certificates((folder / name).read_bytes())
        assert chain[1] == authority


def test_how_long_they_are_valid(folder: Path) -> None:
    now = datetime.now(UTC)
    for name in ("ca.pem", "server.pem", "client.pem"):
        certificate = read(folder / name)
        assert certificate.not_valid_before_utc < now, "a clock that is a minute late refuses it"
        left = certificate.not_valid_after_utc - now
        assert timedelta(days=DAYS_VALID - 1) < left < timedelta(days=DAYS_VALID + 1)


def test_valid_ones_are_kept(folder: Path) -> None:
    before = contents(folder)
    make_certificates(folder)
    assert contents(folder) == before


def test_expired_ones_are_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates, "DAYS_VALID", 0.5)
    make_certificates(tmp_path)
    before = contents(tmp_path)
    monkeypatch.undo()
    make_certificates(tmp_path)
    after = contents(tmp_path)
    assert not any(after[name] == before[name] for name in FILES)
    assert read(tmp_path / "client.pem").not_valid_after_utc > datetime.now(UTC) + timedelta(days=2)


def test_making_them_was_cut_short(folder: Path) -> None:
    (folder / "client.pem").unlink()  # the last one that is written
    before = contents(folder)
    make_certificates(folder)
    assert set(contents(folder)) == FILES
    assert contents(folder)["ca.pem"] != before["ca.pem"], "the authority's key is not kept"


def handshake(folder: Path, *, trusted: bool, identified: bool) -> bytes:
    """What the server echoes over TLS, where it asks for a client certificate."""
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(folder / "server.pem", folder / "server.key")
    server_side.load_verify_locations(folder / "ca.pem")
    server_side.verify_mode = ssl.CERT_REQUIRED
    client_side = ssl.create_default_context()
    if trusted:
        client_side.load_verify_locations(folder / "ca.pem")
    if identified:
        client_side.load_cert_chain(folder / "client.pem", folder / "client.key")

    def serve() -> None:
        connection, _ = listener.accept()
        try:
            with server_side.wrap_socket(connection, server_side=True) as secure:
                secure.sendall(secure.recv(5))
        except ssl.SSLError:
            connection.close()  # the client hears of it

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            with (
                socket.create_connection(listener.getsockname(), timeout=10) as plain,
                client_side.wrap_socket(plain, server_hostname="localhost") as secure,
            ):
                secure.sendall(b"hello")
                return secure.recv(5)
        finally:
            thread.join()


def test_tls_takes_them(folder: Path) -> None:
    assert handshake(folder, trusted=True, identified=True) == b"hello"


@pytest.mark.parametrize(("trusted", "identified"), [(False, True), (True, False)])
def test_without_them_tls_refuses(folder: Path, trusted: bool, identified: bool) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError)):
        handshake(folder, trusted=trusted, identified=identified)
