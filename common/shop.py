"""A shop to filter in: products with every kind of field, drawn from a seed, and their vectors.

    shop = draw_shop(1_000, dimension=16, queries=20)
    load_rows(client, "lesson_shop", shop.rows("title", "price", "tags", "details"))

The vectors of one category lie together, as those of real products do; brand, price and tags tell
nothing of the vector.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from common.filters import Filter, Term, any_of, in_list, like_prefix, where
from common.vectors import Float32, exact_search, normalize

import numpy as np
from numpy.typing import NDArray
from pymilvus import DataType

CATEGORIES = ("lamp", "mug", "chair", "radio", "scarf", "clock", "vase", "kettle", "desk", "rug")
BRANDS = ("Aalto", "한빛", "O'Hara", 'Müller "M"', "Back\\Slash", "Nordlicht", "Ōtomo", "🦊 Fox")
TAGS = ("gift", "new", "outdoor", "sale")
ELECTRIC = ("lamp", "radio", "clock", "kettle")  # their details have watts and ports
MATERIALS = ("Wool", "Oak", "Steel", "Glass", "Paper")
COLOURS = ("green", "red", "white")
CHEAPEST, DEAREST = 100, 99_999  # cents
SPREAD = 0.8  # length of what is added to the centre of a category

_TEXT = {"datatype": DataType.VARCHAR, "max_length": 256}
_NUMBER = {"datatype": DataType.INT64}
_TAG = {"element_type": DataType.VARCHAR, "max_length": 16}
FIELDS: dict[str, dict[str, object]] = {
    **dict.fromkeys(("sku", "title", "brand", "category"), _TEXT),
    "cents": _NUMBER,
    "tags": {"datatype": DataType.ARRAY, "max_capacity": len(TAGS), **_TAG},
    "details": {"datatype": DataType.JSON},
    "stars": {"nullable": True, **_NUMBER},
}
"""What `schema.add_field(name, ...)` takes for each attribute of a product but its id."""


@dataclass(frozen=True)
class Product:
    """A product.

    Attributes:
        id: its row number.
        sku: the text that names it, four letters of a family and six digits; unique.
        title, brand, category: texts.
        cents: its price.
        tags: none or some of TAGS, sorted.
        details: for what is electric `watt` and `ports`, for all else `size`; for all `colour`.
        stars: 1 to 5, None for a fifth of the products, which nobody has rated.
    """

    id: int
    sku: str
    title: str
    brand: str
    category: str
    cents: int
    tags: tuple[str, ...]
    details: dict[str, object]
    stars: int | None

    @property
    def watt(self) -> int | None:
        """`details["watt"]`, None where there is none."""
        return self.details.get("watt")

    @property
    def width(self) -> int | None:
        """`details["size"]["width"]`, None where there is none."""
        return self.details.get("size", {}).get("width")

    @property
    def ports(self) -> list[str]:
        """`details["ports"]`, empty where there are none."""
        return self.details.get("ports", [])


@dataclass(frozen=True)
class Shop:
    """Products, and queries that are none of them.

    Attributes:
        products: product i has the id i.
        vectors: float32 of shape (products, dimension), of length 1.
        queries: float32 of shape (queries, dimension), of length 1.
    """

    products: tuple[Product, ...]
    vectors: Float32
    queries: Float32

    @property
    def dimension(self) -> int:
        """Components of a vector."""
        return self.vectors.shape[1]

    def rows(self, *fields: str) -> Iterator[dict[str, object]]:
        """Each product as `client.insert()` takes it: id, vector and these attributes."""
        for product, vector in zip(self.products, self.vectors, strict=True):
            values = {field: getattr(product, field) for field in fields}
            if "tags" in values:
                values["tags"] = list(product.tags)
            yield {"id": product.id, "vector": vector, **values}

    def ids(self, means: Callable[[Product], bool]) -> set[int]:
        """The products for which a function is true: what a filter should give."""
        return {product.id for product in self.products if means(product)}

    def exact(
        self, query: int, means: Callable[[Product], bool] = lambda product: True
    ) -> list[tuple[int, float]]:
        """All products for which a function is true with their COSINE to a query, best first."""
        chosen = np.array(sorted(self.ids(means)), dtype=np.int64)
        if len(chosen) == 0:
            return []
        rows, scores = exact_search(
            self.vectors[chosen], self.queries[query : query + 1], len(chosen), "COSINE"
        )
        return list(zip(chosen[rows[0]].tolist(), scores[0].tolist(), strict=True))

    def best_of_groups(self, query: int, field: str, groups: int, size: int = 1) -> list[int]:
        """The best products of the best groups, those of one value of a field: all together.

        Args:
            query: the number of the query.
            field: the attribute that makes the groups.
            groups: how many, the group of the best product first.
            size: products of each group, best first; fewer where it has no more.
        """
        members: dict[object, list[int]] = {}
        for number, _ in self.exact(query):
            members.setdefault(getattr(self.products[number], field), []).append(number)
        return [number for ids in list(members.values())[:groups] for number in ids[:size]]


@dataclass(frozen=True)
class NamedFilter:
    """A filter with what it means in Python.

    Attributes:
        name: what to call it.
        text: the expression.
        means: the same for a product.
    """

    name: str
    text: Filter | Term
    means: Callable[[Product], bool]


def selective_filters(shop: Shop) -> list[NamedFilter]:
    """Filters that few products pass, in the ways in which an index can help or not.

    They use `sku`, `cents` and `brand`. Each is true for the first product or for one of the first
    forty, but for the range of skus, which takes what there is.
    """
    some = shop.products[:40]
    skus, prices = [product.sku for product in some], [product.cents for product in some]
    families = sorted({sku[:4] for sku in skus})
    ranges = [where("cents >= {a} and cents < {b}", a=a, b=a + 20) for a in prices]
    return [
        NamedFilter("one sku", where("sku == {sku}", sku=skus[0]), lambda p: p.sku == skus[0]),
        NamedFilter("40 skus in a list", in_list("sku", skus), lambda p: p.sku in skus),
        NamedFilter(
            "40 beginnings of skus",
            any_of([like_prefix("sku", family) for family in families]),
            lambda p: p.sku[:4] in families,
        ),
        NamedFilter(
            "skus from M up to MC",
            where("sku >= {a} and sku < {b}", a="M", b="MC"),
            lambda p: "M" <= p.sku < "MC",
        ),
        NamedFilter(
            "one range of prices", ranges[0], lambda p: prices[0] <= p.cents < prices[0] + 20
        ),
        NamedFilter(
            "40 ranges of prices",
            any_of(ranges),
            lambda p: any(low <= p.cents < low + 20 for low in prices),
        ),
        NamedFilter(
            "one brand of eight", where("brand == {b}", b=BRANDS[0]), lambda p: p.brand == BRANDS[0]
        ),
    ]


def draw_shop(products: int, dimension: int, *, queries: int, seed: int = 0) -> Shop:
    """Draw products, their vectors and queries near to them.

    Args:
        products: how many, up to a million, since a sku has six digits.
        dimension: of a vector.
        queries: how many.
        seed: the same arguments give the same shop.

    Raises:
        ValueError: a number out of its range.
    """
    if not 1 <= products <= 1_000_000 or dimension < 1 or queries < 1:
        raise ValueError(
            "products must be 1 to 1,000,000, dimension and queries at least 1; they are "
            f"{products}, {dimension} and {queries}"
        )
    random = np.random.default_rng(seed)
    centres = normalize(random.standard_normal((len(CATEGORIES), dimension)))
    categories = random.integers(len(CATEGORIES), size=products + queries)
    noise = random.standard_normal((len(categories), dimension)) * SPREAD / np.sqrt(dimension)
    vectors = normalize(centres[categories] + noise)
    drawn = _products(categories[:products], random)
    return Shop(drawn, vectors[:products], vectors[products:])


def _products(categories: NDArray[np.int64], random: np.random.Generator) -> tuple[Product, ...]:
    count = len(categories)
    brands = random.integers(len(BRANDS), size=count).tolist()
    cents = random.integers(CHEAPEST, DEAREST + 1, size=count).tolist()
    tagged = (random.random((count, len(TAGS))) < 0.3).tolist()
    stars = random.integers(1, 6, size=count).tolist()
    unrated = (random.random(count) < 0.2).tolist()
    numbers = random.permutation(count).tolist()
    letters = random.integers(26, size=(count, 4)).tolist()
    products = []
    for row, category in enumerate(CATEGORIES[number] for number in categories):
        family = "".join(chr(ord("A") + letter) for letter in letters[row])
        title = f"{MATERIALS[numbers[row] % len(MATERIALS)]} {category} {row}"
        if row % 40 == 7:  # what a careless program trips over
            title = f'{category} "Limited" 100% 한정판 \\ 😀 {row}'
        products.append(
            Product(
                id=row,
                sku=f"{family}{numbers[row]:06d}",
                title=title,
                brand=BRANDS[brands[row]],
                category=category,
                cents=cents[row],
                tags=tuple(tag for tag, has in zip(TAGS, tagged[row], strict=True) if has),
                details=_details(category, numbers[row]),
                stars=None if unrated[row] else stars[row],
            )
        )
    return tuple(products)


def _details(category: str, number: int) -> dict[str, object]:
    """What only some products have; the number makes them differ."""
    details: dict[str, object] = {"colour": COLOURS[number % len(COLOURS)]}
    if category in ELECTRIC:
        ports = ["USB", "HDMI", "optical"][: number % 4]
        return details | {"watt": number % 60, "ports": ports}
    return details | {"size": {"width": 5 + number % 90, "height": 5 + number % 70}}
