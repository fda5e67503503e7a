"""The plumbing that is not the lesson.

Import it before pymilvus: at its import pymilvus reads MILVUS_URI, for its old ORM API, and fails
unless that is the address of a server. Here it may be a path as well, which Milvus Lite opens. In
that case pymilvus is imported now, with the variable hidden from it.
"""

import os

from common.settings import Settings

# gRPC looks at its import: errors come to us as exceptions, so it needs no log of its own.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")


def _import_pymilvus_without_uri() -> None:
    before = os.environ.get("MILVUS_URI")
    # Empty and not absent: pymilvus would read an absent one from .env.
    os.environ["MILVUS_URI"] = ""
    try:
        import pymilvus  # noqa: F401
    finally:
        del os.environ["MILVUS_URI"]
        if before is not None:
            os.environ["MILVUS_URI"] = before


def _uri_is_a_path() -> bool:
    chosen = Settings.chosen("MILVUS_URI")
    return bool(chosen) and not chosen.startswith(("http://", "https://", "tcp://"))


if _uri_is_a_path():
    _import_pymilvus_without_uri()
