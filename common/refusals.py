"""Calls that Milvus should refuse: who does, why, and whether it does at all."""

from collections.abc import Callable

from common.display import expected_error, quiet_pymilvus, say

from pymilvus import MilvusException


def refusal(call: Callable, *args: object, **options: object) -> tuple[str, str] | None:
    """Who refuses a call of pymilvus, and why; None where it goes through.

    Who is "pymilvus", which sends nothing then, or "Milvus".
    """
    try:
        with quiet_pymilvus():
            call(*args, **options)
    except MilvusException as error:
        # What Milvus answers is a plain MilvusException; pymilvus' own errors are subclasses.
        who = "Milvus" if type(error) is MilvusException else "pymilvus"
        return who, error.message.split(": invalid parameter[")[0]
    return None


def provoke(title: str, call: Callable[..., object], *args: object, **options: object):
    """Make a call that Milvus should refuse; show and return its error, or say that it did not.

    `title` says what is tried, as in "dropping an aliased collection".
    """
    try:
        with quiet_pymilvus():
            call(*args, **options)
    except MilvusException as error:
        expected_error(title, error)
        return error
    say(f"This Milvus allows it: {title}.")
    return None
