"""Throwaway TLS certificates: an authority, a server certificate and a client certificate.

For lessons and tests. In production certificates come from an authority that your clients
already trust (cert-manager on Kubernetes, or the one of your company).
"""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAYS_VALID = 30


def make_certificates(folder: Path) -> None:
    """Write `ca.pem`, `server.pem`, `server.key`, `client.pem` and `client.key` into `folder`.

    Both certificates are signed by the authority; the server's is for `localhost` and 127.0.0.1.
    `server.pem` holds the server certificate followed by the authority's, which is what a client
    of Milvus trusts by `server_pem_path`. Certificates that are there and still valid for a day
    are kept, so that a restarted server is the one its clients know.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if _still_valid(folder / "client.pem"):
        return
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = _sign("milvus-test throwaway authority", authority_key, None, authority_key)
    pem = serialization.Encoding.PEM
    authority_pem = authority.public_bytes(pem)
    (folder / "ca.pem").write_bytes(authority_pem)
    for name, usage in (
        ("server", ExtendedKeyUsageOID.SERVER_AUTH),
        ("client", ExtendedKeyUsageOID.CLIENT_AUTH),
    ):
        key = ec.generate_private_key(ec.SECP256R1())
        subject = "localhost" if name == "server" else "milvus-test client"
        certificate = _sign(subject, key, authority, authority_key, usage)
        key_file = folder / f"{name}.key"
        key_file.touch(mode=0o600)
        key_file.write_bytes(
            key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        (folder / f"{name}.pem").write_bytes(certificate.public_bytes(pem) + authority_pem)


def _still_valid(path: Path) -> bool:
    if not path.is_file():
        return False
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    return certificate.not_valid_after_utc > datetime.now(UTC) + timedelta(days=1)


def _sign(
    subject: str,
    key: ec.EllipticCurvePrivateKey,
    authority: x509.Certificate | None,
    authority_key: ec.EllipticCurvePrivateKey,
    usage: x509.ObjectIdentifier | None = None,
) -> x509.Certificate:
    """A certificate for `key`; without `authority` and `usage`, that of an authority itself."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(authority.subject if authority else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=DAYS_VALID))
        .add_extension(x509.BasicConstraints(ca=authority is None, path_length=None), True)
    )
    if usage is not None:
        names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), False)
        builder = builder.add_extension(x509.SubjectAlternativeName(names), False)
    return builder.sign(authority_key, hashes.SHA256())
