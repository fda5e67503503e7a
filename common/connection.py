"""Connect to any Milvus: a file (Milvus Lite), a local server, the Compose stack, a cluster.

    with connect() as milvus:
        milvus.client.list_collections()

Where no Milvus answers, the error says what was tried, what answered and how to start one.
"""

import logging
import re
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote, urlparse

from common.capabilities import Capability, capability, is_local_server
from common.display import error_line, quiet_pymilvus, tell_tour
from common.settings import Settings, settings

import grpc
from pymilvus import MilvusClient
from pymilvus.exceptions import MilvusException

DEFAULT_PORT = 19530  # pymilvus' own, for an http address without a port

HOW_TO_START = """\
Two ways to get a Milvus:
  make server     a local server without Docker (Linux x86-64); it prints its URI
  make stack      Milvus 3.0.2 in Docker at http://localhost:19530
Then: export MILVUS_URI=<the URI>. Or unset MILVUS_URI to use Milvus Lite, which needs neither."""


class ConnectionFailed(Exception):  # noqa: N818 - it reads as a sentence where it is raised
    """No usable Milvus at the address; the message is complete and made for people."""

    exit_code = 2


@dataclass(frozen=True)
class Milvus:
    """A connected Milvus.

    Attributes:
        client: pymilvus' client, for everything.
        uri: the address: a path for Milvus Lite, otherwise a URL.
        kind: "lite", "standalone" or "cluster".
        version: as the server tells it, without the leading "v": "2.3.5-lite", "3.0.2".
        options: the keyword arguments with which `client` was made (uri, token, TLS files); make
            further clients with `MilvusClient(**milvus.options)`.
    """

    client: MilvusClient
    uri: str
    kind: str
    version: str
    options: dict[str, object]

    @property
    def label(self) -> str:
        """What to call it, as in "Milvus Lite 3.2.2" or "Milvus 2.3.5 (local server)"."""
        if self.kind == "lite":
            return f"Milvus Lite {self.version}"
        if is_local_server(self.version):
            return f"Milvus {self.version.removesuffix('-lite')} (local server)"
        return f"Milvus {self.version} ({self.kind})"

    @property
    def address(self) -> str:
        """The URI as it may be printed: without the password that it can carry."""
        return _without_password(self.uri)

    def can(self, feature: str) -> Capability:
        """Whether this Milvus has a feature of the capability table; `.reason` says why not.

        Raises:
            UnknownFeatureError: the table has no such feature.
        """
        return capability(feature, self.kind, self.version)


@contextmanager
def connect(
    uri: str | Path | None = None,
    *,
    token: str | None = None,
    db_name: str | None = None,
    timeout: float | None = None,
    **tls: str,
) -> Iterator[Milvus]:
    """Connect, yield a `Milvus`, and close the connection at the end.

    Args:
        uri: "http://host:19530", "https://host:19530", "file:///path/x.db" or a path that ends
            in ".db", which Milvus Lite opens or makes. None takes MILVUS_URI, or else the file
            `.milvus/milvus.db` of the project.
        token: "user:password" or an API key. None takes MILVUS_TOKEN.
        db_name: the database. None takes MILVUS_DB_NAME, or else the default database.
        timeout: seconds within which Milvus must answer. None takes MILVUS_TIMEOUT.
        tls: certificates as `MilvusClient` names them (server_pem_path, server_name,
            ca_pem_path, client_pem_path, client_key_path); else as the settings give them.

    Raises:
        ConnectionFailed: nothing usable answered; the message says what, and what to do.
    """
    chosen = settings()
    # The token, database and certificates of the settings belong to the Milvus of the settings.
    own = chosen if uri is None else replace(Settings(), milvus_timeout=chosen.milvus_timeout)
    address = str(uri if uri is not None else chosen.milvus_uri)
    options = {
        "token": own.milvus_token if token is None else token,
        "db_name": own.milvus_db_name if db_name is None else db_name,
        **(tls or _tls_options(own)),
    }
    options = {name: value for name, value in options.items() if value}
    seconds = chosen.milvus_timeout if timeout is None else timeout
    path = lite_path(address)
    if path is None:
        client, uri_text = _connect_server(address, options, seconds), address
    else:
        client, uri_text = _open_lite(path, options), str(path)
    try:
        milvus = _describe(client, uri_text, options, seconds)
        tell_tour("milvus", label=milvus.label, uri=milvus.address)
        yield milvus
    finally:
        client.close()
        if path is not None:
            _close_lite(path)


def lite_path(uri: str) -> Path | None:
    """The path that `uri` names, or None where it names a server.

    Raises:
        ConnectionFailed: neither a URL that pymilvus knows nor a path that ends in ".db".
    """
    scheme = uri.partition(":")[0].lower() if "://" in uri or uri.startswith("unix:") else ""
    refused = f"cannot connect to {_without_password(uri)!r}"
    if scheme in ("http", "https", "tcp"):
        try:
            _ = urlparse(uri).port
        except ValueError as error:
            raise ConnectionFailed(
                f"{refused}: it is no valid URL. An address looks like http://localhost:19530."
            ) from error
        return None
    if scheme == "unix":
        return None
    if scheme == "file":
        parts = urlparse(uri)
        if parts.netloc not in ("", "localhost"):
            raise ConnectionFailed(
                f"{refused}: file:// takes a whole path, which begins with a third slash. "
                "Write a relative path without file://."
            )
        path = Path(unquote(parts.path))
    elif scheme:
        raise ConnectionFailed(
            f"{refused}: {scheme}:// is no scheme of Milvus. Use http://, "
            "https://, or a path that ends in .db for Milvus Lite."
        )
    else:
        path = Path(uri).expanduser()
    if path.suffix != ".db":
        raise ConnectionFailed(
            f"{refused}: a path for Milvus Lite ends in .db, "
            "the address of a server begins with http:// or https://."
        )
    # One name for each folder: two names for one would open it twice, which Milvus Lite refuses.
    return path.resolve()


def _tls_options(chosen: Settings) -> dict[str, str]:
    return {
        "server_pem_path": chosen.milvus_server_pem,
        "server_name": chosen.milvus_server_name,
        "ca_pem_path": chosen.milvus_ca_pem,
        "client_pem_path": chosen.milvus_client_pem,
        "client_key_path": chosen.milvus_client_key,
    }


def _connect_server(uri: str, options: dict[str, object], seconds: float) -> MilvusClient:
    if not uri.startswith("unix:"):
        _knock(uri, seconds)
    try:
        with quiet_pymilvus():
            # A channel of its own: a shared one keeps the TLS settings of whoever came first.
            return MilvusClient(uri, timeout=seconds, dedicated=True, **options)
    except OSError as error:  # of a certificate's file
        raise ConnectionFailed(
            f"cannot connect to Milvus at {_without_password(uri)}: cannot read "
            f"{error.filename} ({error.strerror}). MILVUS_SERVER_PEM and its like name the files."
        ) from error
    except MilvusException as error:
        raise ConnectionFailed(
            f"cannot connect to Milvus at {_without_password(uri)}: "
            f"{_why(error, options, uri, seconds)}"
        ) from error


def _knock(uri: str, seconds: float) -> None:
    """See whether anything listens there at all: pymilvus would say the same of any failure."""
    parts = urlparse(uri)
    host = parts.hostname or "localhost"
    port = parts.port or (443 if parts.scheme == "https" else DEFAULT_PORT)
    try:
        socket.create_connection((host, port), timeout=seconds).close()
    except socket.gaierror as error:
        answer = f"the name {host!r} cannot be resolved ({error.strerror})"
    except TimeoutError:
        answer = f"{host}:{port} did not answer within {seconds:g} s"
    except OSError as error:
        answer = f"nothing listens at {host}:{port} ({error.strerror or error})"
    else:
        return
    shown = _without_password(uri)
    raise ConnectionFailed(f"cannot connect to Milvus at {shown}: {answer}.\n{HOW_TO_START}")


def _why(error: MilvusException, options: dict[str, object], uri: str, seconds: float) -> str:
    """What the server answered, and what to do, in words."""
    cause = error.__cause__ if isinstance(error.__cause__, grpc.RpcError) else None
    code, details = (cause.code(), cause.details() or "") if cause else (None, error.message)
    is_tls = re.search("handshake|ssl|verification check", details, re.IGNORECASE)
    # gRPC puts the address and the names of its own parts before what happened.
    details = re.sub(r"^failed to connect to all addresses; last error: \w+: \S+ ", "", details)
    details = re.sub(r"^Tls handshake .*OPENSSL_internal:", "", details).removesuffix(": OK")
    if code == grpc.StatusCode.UNAUTHENTICATED:
        if options.get("token") or urlparse(uri).username:
            return f"it refused the user or the password ({details}). Check MILVUS_TOKEN."
        return f"it asks for a user ({details}). Set MILVUS_TOKEN=user:password."
    if code == grpc.StatusCode.DEADLINE_EXCEEDED:
        return (
            f"something listens there, but it did not answer within {seconds:g} s. Is it a "
            "Milvus, and has it finished starting?"
        )
    if is_tls:
        return (
            f"TLS failed ({details}). Does the server speak TLS at this port? Then check "
            "MILVUS_SERVER_PEM (or MILVUS_CA_PEM and the client's files) and MILVUS_SERVER_NAME."
        )
    if "connect failed" in details or "Connection refused" in details:
        return f"nothing listens there ({details}).\n{HOW_TO_START}"
    if code == grpc.StatusCode.UNAVAILABLE:
        return (
            f"something listens there but does not speak plain gRPC ({details}). A Milvus with "
            "TLS wants https://; a port of another service is none of Milvus (default: 19530)."
        )
    if code == grpc.StatusCode.UNIMPLEMENTED:
        return f"what listens there is no Milvus ({details}). Milvus' port is 19530 by default."
    return f"{details or error.message}. Is it a Milvus, and has it finished starting?"


def _describe(client: MilvusClient, uri: str, options: dict[str, object], seconds: float) -> Milvus:
    try:
        with quiet_pymilvus():
            version = client.get_server_version(timeout=seconds).removeprefix("v")
            mode = client.get_server_version(detail=True, timeout=seconds)["deploy_mode"]
            client.list_collections(timeout=seconds)
    except (MilvusException, grpc.RpcError) as error:
        name, said = options.get("db_name") or urlparse(uri).path.strip("/"), error_line(error)
        if name and "database" in said:
            raise ConnectionFailed(
                f"there is no database {name!r} at {_without_password(uri)}: create it with "
                "client.create_database(), or correct MILVUS_DB_NAME."
            ) from error
        raise ConnectionFailed(
            f"the Milvus at {_without_password(uri)} does not answer as it should: {said}"
        ) from error
    kinds = {"embedded": "lite", "STANDALONE": "standalone"}
    kind = kinds.get(mode, "cluster")
    return Milvus(client, uri, kind, version.removeprefix("milvus_lite-"), {"uri": uri, **options})


def _without_password(uri: str) -> str:
    """`uri` as it may be printed: without the password or key that a URL can carry."""
    match = re.search("://(.*)@", uri)
    if match is None:
        return uri
    user, colon, _ = match[1].partition(":")
    # A user without a password is an API key.
    return uri.replace(f"{match[1]}@", f"{user}:***@" if colon else "***@")


# Milvus Lite: one engine for each path in this process, closed with its last connection.
_open_paths: Counter[Path] = Counter()
_open_lock = threading.Lock()


def _open_lite(path: Path, options: dict[str, object]) -> MilvusClient:
    _check_lite_path(path)
    with _open_lock:
        with quiet_pymilvus(), _lite_start_errors() as errors:
            try:
                client = MilvusClient(str(path), **options)
            except MilvusException as error:
                reason = errors[-1] if errors else error
                raise ConnectionFailed(f"cannot open {path}: {_why_not_lite(reason)}") from reason
        _open_paths[path] += 1
        return client


def _check_lite_path(path: Path) -> None:
    """Refuse what is no database before Milvus Lite writes its own files into it."""
    if path.is_file():
        raise ConnectionFailed(
            f"cannot open {path}: it is a file and no database of Milvus Lite 3, which is a "
            "folder. (Milvus Lite 2 kept one file; its data must be exported with that version.)"
        )
    if path.is_dir() and any(path.iterdir()) and not (path / "collections").is_dir():
        raise ConnectionFailed(
            f"cannot open {path}: the folder holds something else than a database of Milvus Lite."
        )
    if path == Path(settings().milvus_uri).resolve():
        path.parent.mkdir(parents=True, exist_ok=True)
    if not path.parent.is_dir():
        raise ConnectionFailed(f"cannot open {path}: there is no folder {path.parent}.")


def _why_not_lite(reason: BaseException) -> str:
    if "another process" in str(reason):
        return (
            "another process has it open, and Milvus Lite takes one at a time. Stop that process, "
            "choose another path, or use a server (make server)."
        )
    if "milvus-lite is required" in str(reason):
        return "Milvus Lite is not installed: pip install milvus-lite (not on native Windows)."
    return f"{type(reason).__name__}: {reason}"


@contextmanager
def _lite_start_errors() -> Iterator[list[BaseException]]:
    """Collect the errors that Milvus Lite logs, tells nobody, and turns into "open failed"."""
    errors: list[BaseException] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.exc_info and record.exc_info[1]:
                errors.append(record.exc_info[1])

    logger, collector = logging.getLogger("milvus_lite.server_manager"), Collector()
    before = logger.propagate, logger.level
    logger.propagate = False
    logger.setLevel(logging.ERROR)  # also where the loggers above it are silenced
    logger.addHandler(collector)
    try:
        yield errors
    finally:
        logger.removeHandler(collector)
        logger.propagate = before[0]
        logger.setLevel(before[1])


def _close_lite(path: Path) -> None:
    with _open_lock:
        _open_paths[path] -= 1
        if _open_paths[path] > 0:
            return
        del _open_paths[path]
        from milvus_lite.server_manager import server_manager_instance

        server_manager_instance.release_server(str(path))
