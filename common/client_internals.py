"""What pymilvus keeps to itself: how it reads an address, its channels, how often it repeats."""

import inspect
from typing import NamedTuple

from pymilvus import MilvusClient
from pymilvus.client.connection_manager import ConnectionConfig, ConnectionManager
from pymilvus.decorators import retry_on_rpc_failure


class Address(NamedTuple):
    """What the URI of a server says."""

    at: str
    encrypts: bool
    token: str | None
    database: str | None


class Channels(NamedTuple):
    """The gRPC channels of this process to one address."""

    shared: int
    clients: int  # on the shared ones
    dedicated: int


def read_address(uri: str) -> Address:
    """Read the URI of a server as pymilvus does; nothing is connected."""
    config = ConnectionConfig.from_uri(uri)
    encrypts = config.get_handler_kwargs().get("secure", False)
    return Address(config.address, encrypts, config.token or None, config.db_name or None)


def channels(client: MilvusClient) -> Channels:
    """The channels that are open now to the address of `client`."""
    every = ConnectionManager.get_instance().get_stats()["connections"]
    here = [channel for channel in every if channel["address"] == client._config.address]
    shared = [channel for channel in here if not channel["dedicated"]]
    clients = sum(channel["client_count"] for channel in shared)
    return Channels(len(shared), clients, len(here) - len(shared))


def retry_rule() -> tuple[int, float]:
    """How often pymilvus repeats a call without timeout=, and the seconds it waits in between."""
    rule = {n: p.default for n, p in inspect.signature(retry_on_rpc_failure).parameters.items()}
    first, factor = rule["initial_back_off"], rule["back_off_multiplier"]
    waits = [min(first * factor**n, rule["max_back_off"]) for n in range(rule["retry_times"])]
    return len(waits), sum(waits)
