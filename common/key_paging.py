"""Every row of a collection once, page by page in the order of the primary keys.

    for rows in pages_by_key(milvus, "papers", key="id", is_text=False):
        ...

One query gives at most 16,384 rows, and `offset` counts rows that may come and go meanwhile. So
each page asks for the keys above the last one that it saw. A row is read as of the moment of its
page; a key is never read twice; and a row that is there all the time is read, whatever else is
inserted and deleted meanwhile.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from common.capabilities import release
from common.filters import where
from common.row_counts import count_now

from pymilvus import MilvusException

MOST_ROWS = 16_384  # of one query
_SMALLEST = -(2**63)  # cannot be named in a filter of the 2.3 line
_SHORT = 0.1  # of the rows that were asked for, and less: the end is near
_TOO_MUCH = ("larger than max", "maxoutputsize", "output size", "exceed")


class PagesOutOfOrder(RuntimeError):  # noqa: N818 - it reads as a sentence where it is raised
    """A Milvus gave a page whose keys are not above the last one: rows would get lost."""

    exit_code = 1


def ordering(milvus: Any) -> dict[str, str]:
    """What a query must say to get the smallest keys first.

    Servers before 2.4 answer a query with a limit in the order of keys, at the consistency level
    that it names. Milvus Lite and later servers order for what says that it is an iterator; for
    that pymilvus sends no consistency level: it is then the collection's own, so that a Strong
    read must come first for the pages to hold what was written before.
    """
    if milvus.kind != "lite" and release(milvus.version) < (2, 4, 0):
        return {"consistency_level": "Strong"}
    return {"iterator": "True", "reduce_stop_for_best": "True"}


def pages_by_key(
    milvus: Any,
    collection: str,
    *,
    key: str,
    after: int | str | None = None,
    condition: str = "",
    partition: str = "",
    output_fields: Sequence[str] = ("*",),
    page_rows: int = 1000,
    timeout: float = 60.0,
) -> Iterator[list[dict]]:
    """The rows, in pages that are never empty; what was written before the first is in them.

    Somebody who writes ever larger keys cannot keep this going for ever: it ends after two pages
    in a row with less than a tenth of the rows that were asked for, or with an empty one. A short
    page alone is no end: a server counts keys that were inserted twice before it drops one.

    The next page is asked for when it is wanted. `send()` takes the number of rows of the next
    page; a page that is too large for one message is asked for again at half the size.

    Args:
        milvus: a connected `common.connection.Milvus`.
        collection: its name; it is loaded.
        key: the field that is the primary key.
        after: begin with the first key above this one.
        condition: a filter; all rows without one.
        partition: one partition; all without.
        output_fields: as in `client.query()`; the key comes in any case.
        page_rows: rows of a page, up to 16,384.
        timeout: seconds for one page.

    Raises:
        PagesOutOfOrder: keys did not come in order.
    """
    options = {**ordering(milvus), "timeout": timeout, "output_fields": list(output_fields)}
    options["partition_names"] = [partition] if partition else None
    if "iterator" in options:
        count_now(milvus.client, collection, timeout=timeout)  # Strong: waits for all writes
    short = 0
    while True:
        parts = [text for text in (_above(key, after), condition and f"({condition})") if text]
        ask = partial(milvus.client.query, collection, filter=" and ".join(parts), **options)
        rows, page_rows = _page(ask, page_rows)
        if not rows:
            return
        check_order([row[key] for row in rows], after)
        after = rows[-1][key]
        asked = min(page_rows, MOST_ROWS)
        short = short + 1 if len(rows) < _SHORT * asked else 0
        wanted = yield rows
        rows = None  # or two pages would be in memory while the next one comes
        page_rows = wanted or page_rows
        if short == 2:
            return


def _page(ask: Callable[..., list[dict]], page_rows: int) -> tuple[list[dict], int]:
    """One page, halved until it fits into a message; the rows and the size that fitted."""
    while True:
        try:
            return ask(limit=min(page_rows, MOST_ROWS)), page_rows
        except MilvusException as error:
            if page_rows == 1 or not any(text in str(error).lower() for text in _TOO_MUCH):
                raise
            page_rows = max(1, page_rows // 2)


def check_order(keys: Sequence[int | str], after: int | str | None) -> None:
    """Raise PagesOutOfOrder unless the keys grow from one to the next, from `after` on."""
    last = after
    for key in keys:
        if last is not None and key <= last:
            raise PagesOutOfOrder(
                f"Milvus gave the key {key!r} after {last!r}: the pages of this Milvus are not "
                "in the order of keys, so that reading on would lose rows. Nothing is complete."
            )
        last = key


def _above(key: str, after: int | str | None) -> str:
    if after is None:
        return ""
    if after == _SMALLEST:
        return f"{key} >= {_SMALLEST + 1}"
    return str(where(f"{key} > {{after}}", after=after))
