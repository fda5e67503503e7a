"""The shop: what lessons on filters rely on."""

import re
from collections import Counter

from common.shop import BRANDS, CATEGORIES, ELECTRIC, TAGS, draw_shop, selective_filters

import numpy as np
import pytest

SHOP = draw_shop(2_000, 16, queries=30)


def test_the_same_seed_gives_the_same_shop() -> None:
    again = draw_shop(2_000, 16, queries=30)
    assert again.products == SHOP.products
    assert np.array_equal(again.vectors, SHOP.vectors)
    assert np.array_equal(again.queries, SHOP.queries)
    assert draw_shop(2_000, 16, queries=30, seed=1).products != SHOP.products


def test_vectors_and_queries() -> None:
    assert (SHOP.vectors.shape, SHOP.queries.shape, SHOP.dimension) == ((2_000, 16), (30, 16), 16)
    for vectors in (SHOP.vectors, SHOP.queries):
        assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(len(vectors)), abs=1e-5)


def test_products_of_a_category_lie_together_and_brands_do_not() -> None:
    def share_of_neighbours(attribute: str) -> float:
        values = np.array([getattr(product, attribute) for product in SHOP.products])
        cosines = SHOP.vectors @ SHOP.vectors.T
        np.fill_diagonal(cosines, -2)
        return float((values[cosines.argmax(axis=1)] == values).mean())

    assert share_of_neighbours("category") > 0.6
    assert share_of_neighbours("brand") == pytest.approx(1 / len(BRANDS), abs=0.05)


def test_every_value_of_every_field_is_there() -> None:
    products = SHOP.products
    assert [product.id for product in products] == list(range(2_000))
    assert all(re.fullmatch(r"[A-Z]{4}\d{6}", product.sku) for product in products)
    assert len({product.sku for product in products}) == 2_000
    assert {product.category for product in products} == set(CATEGORIES)
    assert {product.brand for product in products} == set(BRANDS)
    assert {tag for product in products for tag in product.tags} == set(TAGS)
    assert Counter(len(product.tags) for product in products).keys() == {0, 1, 2, 3, 4}
    assert {product.stars for product in products} == {1, 2, 3, 4, 5, None}
    assert min(product.cents for product in products) >= 100
    assert sum('"' in product.title for product in products) == 50
    for product in products:
        electric = product.category in ELECTRIC
        keys = {"watt", "ports"} if electric else {"size"}
        assert product.details.keys() == {"colour", *keys}
        assert (product.watt is not None, product.width is None) == (electric, electric)
        assert not product.ports or product.ports == product.details["ports"]
    assert {len(product.ports) for product in products} == {0, 1, 2, 3}


def test_rows_have_what_was_asked_for() -> None:
    first, *_ = rows = list(SHOP.rows("title", "tags"))
    assert len(rows) == 2_000
    assert first.keys() == {"id", "vector", "title", "tags"}
    assert first["title"] == SHOP.products[0].title
    assert first["tags"] == list(SHOP.products[0].tags)
    assert np.array_equal(first["vector"], SHOP.vectors[0])


def test_ids_and_exact_answers() -> None:
    def cheap(product: object) -> bool:
        return product.cents < 20_000

    ids = SHOP.ids(cheap)
    assert ids == {product.id for product in SHOP.products if product.cents < 20_000}
    found = SHOP.exact(3, cheap)
    cosines = SHOP.vectors @ SHOP.queries[3]
    assert [number for number, _ in found[:20]] == [
        row for row in np.argsort(-cosines).tolist() if row in ids
    ][:20]
    assert {number for number, _ in found} == ids
    assert [score for _, score in found] == pytest.approx(
        [cosines[number] for number, _ in found], abs=1e-5
    )
    assert len(SHOP.exact(0)) == 2_000
    assert SHOP.exact(0, lambda product: False) == []


def test_best_of_groups() -> None:
    order = np.argsort(-(SHOP.vectors @ SHOP.queries[2])).tolist()
    brands = list(dict.fromkeys(SHOP.products[number].brand for number in order))
    best = SHOP.best_of_groups(2, "brand", 3)
    assert [SHOP.products[number].brand for number in best] == brands[:3]
    assert best[0] == order[0]
    two = SHOP.best_of_groups(2, "brand", 3, 2)
    assert two[::2] == best
    for first, second in zip(two[::2], two[1::2], strict=True):
        same = [n for n in order if SHOP.products[n].brand == SHOP.products[first].brand]
        assert [first, second] == same[:2]
    assert len(SHOP.best_of_groups(2, "brand", 100, 5_000)) == 2_000


def test_selective_filters_let_few_products_through() -> None:
    found = {each.name: SHOP.ids(each.means) for each in selective_filters(SHOP)}
    assert found["one sku"] == {0}
    assert found["40 skus in a list"] == set(range(40))
    assert found["40 beginnings of skus"] >= set(range(40))
    assert 0 in found["one range of prices"] <= found["40 ranges of prices"]
    assert found["one brand of eight"]
    shares = [len(ids) / 2_000 for ids in found.values()]
    assert max(shares) < 0.2


@pytest.mark.parametrize("numbers", [(0, 4, 1), (1_000_001, 4, 1), (5, 0, 1), (5, 4, 0)])
def test_numbers_out_of_range(numbers: tuple[int, int, int]) -> None:
    products, dimension, queries = numbers
    with pytest.raises(ValueError, match="products must be 1 to 1,000,000"):
        draw_shop(products, dimension, queries=queries)
