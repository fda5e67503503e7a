"""Tables and charts of a comparison of indexes say what was measured."""

from pathlib import Path
from types import SimpleNamespace

from common.index_choices import Choice
from common.index_report import (
    Built,
    Measured,
    answer_text,
    draw_indexes,
    first_part,
    objection,
    show_built,
)
from common.index_trial import SearchFigures
from common.indexes import check_build_params, memory_bytes
from common.measuring import Latencies, Spread
from common.settings import settings

import numpy as np
import pytest

HNSW = Choice("HNSW", {"M": 16}, ({"ef": 10}, {"ef": 40}))
LITE = SimpleNamespace(kind="lite", label="Milvus Lite 3.2.2")
SERVER = SimpleNamespace(kind="standalone", label="Milvus 3.0.2")


def built(file: int | None) -> Built:
    told = {"index_type": "HNSW", "params": {"M": 16}, "indexed_rows": 2000, "state": "Finished"}
    return Built(HNSW, told, 1.5, memory_bytes("HNSW", 2000, 8, {"M": 16}), file)


def test_what_was_built(capsys: pytest.CaptureFixture[str]) -> None:
    show_built(LITE, [built(12_300)])
    shown = " ".join(capsys.readouterr().out.split())
    computed = memory_bytes("HNSW", 2000, 8, {"M": 16}).bytes / 1000
    assert f"HNSW M=16 2000 1.50 s {computed:.1f} kB 12.3 kB" in shown
    assert "computed size can be checked" in shown
    show_built(SERVER, [built(None)])
    shown = " ".join(capsys.readouterr().out.split())
    assert f"HNSW M=16 2000 1.50 s {computed:.1f} kB –" in shown
    assert "computed from the layout" in shown


def test_charts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUT_DIR", str(tmp_path))
    settings.cache_clear()
    try:
        times = Latencies((0.001,), first=0.01)
        measured = [
            Measured(HNSW, params, SearchFigures(np.array([share]), times, Spread((100.0,)), 0))
            for params, share in zip(HNSW.searches, (0.9, 1.0), strict=True)
        ]
        draw_indexes(LITE, [built(12_300)], measured, 10, "lite")
        draw_indexes(SERVER, [built(None)], measured, 10, "server")
    finally:
        monkeypatch.undo()
        settings.cache_clear()
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {f"{e}_{what}.png" for e in ("lite", "server") for what in ("recall", "sizes")}


def test_what_a_server_says() -> None:
    long = "failed to search: out of range in json: ef(5) should be larger than k(10)"
    assert answer_text(("Milvus", f"{long}: service internal error: UnknownError")) == (
        "ef(5) should be larger than k(10)"
    )
    assert answer_text(("Milvus", "M out of range")) == "M out of range"
    faiss = (
        "Error in virtual void faiss::IndexIVF::search() at x.cpp:338: Error: 'nprobe > 0' failed"
    )
    assert answer_text(("Milvus", faiss)) == "'nprobe > 0' failed"
    assert answer_text(None) == "takes it silently"


def test_objections() -> None:
    assert objection(check_build_params, "HNSW", {"M": 16}) == "fine"
    assert "from 2 to 2,048" in objection(check_build_params, "HNSW", {"M": 1}, dimension=8)
    first = first_part(objection(check_build_params, "HNSW", {"M": 1}))
    assert first == "HNSW: M=1 must be a whole number from 2 to 2,048"
    assert first_part("fine") == "fine"
    assert first_part("Do this. And that.") == "Do this"
