import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import __main__ as command
from benchmarks import exact, grid, ingest, job, readme, results, server, serving
from benchmarks.bench import Line
from benchmarks.data import Source
from benchmarks.figures import Figures, interleave, percentile, recall
from benchmarks.load import parse
from benchmarks.plots import Curve, Panel, draw
from benchmarks.programs import BenchmarkError, NotMeasured
from benchmarks.records import Frames, csv_lines, write_csv
from knn_container.formats.recordio import read_batches

ROOT = Path(__file__).parents[2]


def figures(**medians):
    return {title: {"median": median} for title, median in medians.items()}


def test_figures_are_the_median_and_the_extremes():
    assert Figures.of([5.0, 1.0, 3.0]) == Figures(median=3.0, low=1.0, high=5.0, rounds=3)


@pytest.mark.parametrize(("share", "expected"), [(50, 50), (99, 99), (99.1, 100), (100, 100), (0, 1)])
def test_percentile_is_the_nearest_rank(share, expected):
    assert percentile(range(100, 0, -1), share) == expected


def test_each_round_has_all_in_an_order_that_rotates():
    asked = []
    entrants = {name: (lambda turn, name=name: asked.append((turn, name)) or float(turn)) for name in "abc"}
    found, lost = interleave(entrants, seconds=0, least=3, clock=iter(range(100)).__next__)
    assert [name for _, name in asked] == list("abcbcacab")
    assert found == {name: [0.0, 1.0, 2.0] for name in "abc"}
    assert lost == {}


def test_rounds_end_with_the_time_but_not_before_the_least():
    found, _ = interleave({"a": float}, seconds=5, least=2, clock=iter([0, 1, 4, 6, 9]).__next__)
    assert len(found["a"]) == 4
    found, _ = interleave({"a": float}, seconds=1e9, least=2, most=7)
    assert len(found["a"]) == 7


def test_who_fails_is_out_and_the_others_go_on():
    def fail(turn):
        if turn:
            raise NotMeasured("no memory")
        return 1.0

    found, lost = interleave({"a": float, "b": fail}, seconds=0, least=3)
    assert found == {"a": [0.0, 1.0, 2.0]}
    assert lost == {"b": "no memory"}


def test_recall_counts_ties_by_distance_and_nothing_twice():
    rows = np.array([[0], [1], [-1], [5], [9]], np.float32)
    queries = np.zeros((1, 1), np.float32)
    true = np.array([[0, 1]])
    assert recall(rows, queries, np.array([[0, 2]]), true) == 1.0  # row 2 is as near as row 1
    assert recall(rows, queries, np.array([[0, 3]]), true) == 0.5
    assert recall(rows, queries, np.array([[0, 0]]), true) == 0.5
    assert recall(rows, queries, np.array([[-1, -1]]), true) == 0.0


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.01234, "0.012"), (0.123, "0.123"), (0.9999, "1.00"), (1.234, "1.23"), (9.996, "10.0"),
     (12.34, "12.3"), (99.96, "100"), (1234.5, "1,234")],
)  # fmt: skip
def test_numbers_have_three_digits(value, text):
    assert readme.number(value) == text


def test_times_have_the_unit_that_suits_them():
    assert [readme.span(it) for it in (0.0123, 2.5)] == ["12.3 ms", "2.50 s"]


def test_a_part_goes_between_its_markers_alone(tmp_path):
    text = "a\n<!-- begin benchmark: x -->\nold\n<!-- end benchmark: x -->\nb\n<!-- begin benchmark: y -->\n"
    path = tmp_path / "README.md"
    path.write_text(text)
    readme.write({"x": "| new |\n"}, path)
    assert path.read_text() == text.replace("old", "| new |")


def test_a_part_without_a_place_is_an_error_and_changes_nothing(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(text := "<!-- begin benchmark: x -->\n<!-- end benchmark: x -->\n")
    with pytest.raises(BenchmarkError, match="0 places for the benchmark 'y'"):
        readme.write({"x": "new", "y": "new"}, path)
    assert path.read_text() == text


def test_the_readme_has_a_place_for_every_section():
    readme.check([command.GOALS, *command.SECTIONS])


def test_results_keep_the_other_sections(tmp_path):
    path = tmp_path / "new" / "results.json"
    results.save("exact", {"seconds": [0.123456, 2]}, path)
    assert results.save("grid", {"cells": 1}, path) == {"exact": {"seconds": [0.1235, 2]}, "grid": {"cells": 1}}
    results.save("grid", {"cells": 2}, path)
    assert results.load(path) == {"exact": {"seconds": [0.1235, 2]}, "grid": {"cells": 2}}
    assert results.load(tmp_path / "none.json") == {}


def test_goals_are_met_not_met_or_not_measured():
    lines = [Line("a", "1 s", "3 s", 3.0, "2.00x", True), Line("b", "9 s", "", None, "under 4.00 s", False)]
    lines.append(Line("c", "not measured: no wrk", "", None, "2.00x", None))
    assert command.goals(lines).splitlines()[2:] == [
        "| a | 1 s | 3 s | 3.00x | 2.00x | met |",
        "| b | 9 s |  |  | under 4.00 s | **not met** |",
        "| c | not measured: no wrk |  |  | 2.00x |  |",
    ]


@pytest.mark.parametrize(("kind", "columns"), [("uniform", 7), ("clustered", 7), ("covertype", 54), ("fashion", 784)])
def test_tables_are_the_same_every_time(kind, columns):
    one, other = (Source().table(kind, 300, columns, 20) for _ in range(2))
    assert one.rows.shape == (300, columns)
    assert one.queries.shape == (20, columns)
    assert len(one.labels) == 300
    assert len(one.truth) == 20
    assert one.rows.dtype == one.queries.dtype == np.float32
    assert np.array_equal(one.rows, other.rows)
    assert np.array_equal(one.labels, other.labels)
    assert not np.array_equal(one.rows, Source().table(kind, 300, columns, 20, seed=1).rows)


def test_covertype_has_whole_numbers_and_two_ones():
    rows = Source().table("covertype", 500, 54, 1).rows
    assert np.array_equal(rows, np.rint(rows))
    assert set(np.unique(rows[:, 10:])) == {0, 1}
    assert (rows[:, 10:14].sum(axis=1) == 1).all()
    assert (rows[:, 14:].sum(axis=1) == 1).all()


def test_real_tables_take_the_place_of_made_ones(tmp_path):
    random = np.random.default_rng(0)
    features = random.integers(0, 1000, (40, 54)).astype(np.int16)
    np.savez(tmp_path / "covertype-small.npz", X=features, y=np.arange(40, dtype=np.int8))
    source = Source(tmp_path)
    made = source.table("covertype", 100, 54, 10)
    assert made.rows.shape == (100, 54)
    original = features[made.labels.astype(int)]
    assert np.array_equal(made.rows[:, 10:], original[:, 10:])
    assert np.abs(made.rows - original).max() == 3
    assert source.name("covertype") == "Covertype, resampled with jitter"
    assert source.name("fashion") == "Fashion-MNIST-like"


@pytest.mark.parametrize("dtype", ["<f4", "<f8"])
def test_frames_are_what_training_reads(tmp_path, dtype):
    features = np.array([[1.5, -2.0, 3.25], [0.0, 1e9, -4.0]], np.float32)
    labels = np.array([3.0, -1.0], np.float32)
    Frames(3, dtype).write(tmp_path / "rows.pbr", features, labels)
    with (tmp_path / "rows.pbr").open("rb") as file:
        (batch,) = read_batches(file, 10, None)
    assert np.array_equal(batch.features, features)
    assert np.array_equal(batch.labels, labels)


def test_csv_has_the_label_first_and_no_needless_points(tmp_path):
    features, labels = np.array([[1.0, -0.5], [2e6, 0.1]], np.float32), np.array([7.0, 1.0])
    assert csv_lines(features) == ["1,-0.5", "2000000,0.1"]
    write_csv(tmp_path / "rows.csv", features, labels)
    assert (tmp_path / "rows.csv").read_text() == "7,1,-0.5\n1,2000000,0.1\n"


def test_reads_what_wrk_measured():
    printed = (
        'Running...\n#measured {"requests": 500, "microseconds": 2000000, "p50": 1500, "p99": 9000, "failed": 2}\n'
    )
    found = parse(printed)
    assert (found.rate, found.p50, found.p99, found.failed) == (250.0, 0.0015, 0.009, 2)
    with pytest.raises(BenchmarkError, match="unable to connect"):
        parse("unable to connect\n")


def test_plots_are_the_same_for_the_same_figures(tmp_path):
    panels = [Panel("t", "x", "y", [Curve("a", [(1, 2), (10, 3)]), Curve("none", [])])]
    for name in ("one.svg", "other.svg"):
        draw(panels, tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "other.svg").read_bytes()
    assert (tmp_path / "one.svg").stat().st_size < 150_000


def test_exact_compares_with_faiss_as_it_comes():
    batch = {**figures(FAISS=0.9), **{"knn-container": {"median": 0.03}}}
    tables = [
        {"kind": kind, "name": kind, "rows": 1000, "columns": 5, "batches": {"581": batch}, "recall": {}, "built": {}}
        for kind in ("covertype", "uniform", "fashion")
    ]
    found = exact.lines({"tables": tables, "missing": {}})
    met = {(line.work, line.met) for line in found if line.ratio}
    assert met == {(f"exact, {kind} 1,000 x 5, batch of 581", True) for kind in ("covertype", "uniform", "fashion")}
    assert all(line.ratio == pytest.approx(30) for line in found if line.ratio)
    assert sum(line.met is None for line in found) == 4


def test_the_grid_shows_its_worst_cell():
    def cell(batch, ours, other):
        seconds = {"knn-container": ours, "FAISS": other}
        where = {"kind": "uniform", "rows": 1000, "columns": 4, "batch": batch, "k": 10}
        return where | {"seconds": seconds, "ratio": other / ours, "best": "FAISS"}

    found = {"cells": [cell(1, 0.001, 0.002), cell(16, 0.010, 0.008)], "missing": {}}
    (line,) = grid.lines(found)
    assert (line.ratio, line.met) == (0.8, False)
    assert line.work == "exact, the worst of 2 cells: uniform 1,000 x 4, batch of 16, k = 10"
    assert "1 is below 0.900x" in grid.report(found)


def test_requests_are_compared_at_32_connections():
    def loaded(title, connections, rate):
        return {"server": title, "connections": connections, "rate": rate, "p50": 0.01, "p99": 0.06, "failed": 0}

    entry = {
        "kind": "uniform",
        "name": "uniform",
        "rows": 10,
        "loads": [loaded(serving.OURS, 8, 1), loaded(serving.OURS, 32, 500), loaded(serving.PLAIN, 32, 100)],
        "pings": [
            {"connections": 32, "server": serving.OURS, "p50": 0.001, "p99": 0.02, "count": 9},
            {"connections": 32, "server": serving.PLAIN, "p50": 0.1, "p99": 0.2, "count": 9},
            {"connections": 128, "server": serving.OURS, "p50": 0.001, "p99": 0.06, "count": 9},
        ],
        "replay": {"rows": 10, "batches": 2, "seconds": {serving.OURS: 3.0, serving.PLAIN: 60.0}, "same": 1.0},
    }
    lines = serving.lines({"kinds": [entry], "missing": {}})
    assert [(line.ratio, line.met) for line in lines] == [
        (5.0, True), (None, False), (None, True), (None, False), (20.0, True)
    ]  # fmt: skip


def test_without_wrk_the_goals_say_so():
    entry = {"kind": "uniform", "name": "uniform", "rows": 10}
    first, replay = serving.lines({"kinds": [entry], "missing": {"wrk": "there is no wrk"}})
    assert (first.ours, first.met, replay.met) == ("not measured: there is no wrk", None, None)


def test_training_takes_the_median():
    runs = [{"seconds": it, "cpu": 1.0, "peak": 1} for it in (9.0, 3.0, 3.5)]
    (line,) = job.lines({"rows": 1, "sample": 1, "test_rows": 1, "runs": runs})
    assert (line.ours, line.met) == ("3.50 s", True)


def test_reading_csv_is_compared_with_the_faster_and_the_slimmer():
    def read(seconds, peak):
        return {"seconds": seconds, "peak": peak * 1e6}

    csv = {ingest.OURS: read(1.0, 100), "polars": read(0.9, 600), "pandas": read(2.0, 300)}
    recordio = {ingest.OURS: read(0.1, 1), "SageMaker's SDK": read(5.0, 1)}
    lines = ingest.lines(
        {
            "recordio": {"bytes": 1, "rows": 1, "readers": recordio, "missing": {"protobuf (upb) into numpy": "no"}},
            "csv": {"bytes": 127e6, "rows": 1, "readers": csv, "missing": {}},
        }
    )
    assert [(line.ours, line.met) for line in lines] == [
        ("not measured: no", None), ("100 ms", False), ("1.00 s", False), ("100 MB", True)
    ]  # fmt: skip


def test_the_second_process_counts():
    processes = [{"private": 9e6, "proportional": 1}, {"private": 90e6, "proportional": 1}]
    processes.append({"private": 19e6, "proportional": 1})
    found = {"rows": 1, "columns": 1, "index": 5e8, "starts": [1.0, 1.4, 9.0], "processes": processes}
    lines = server.lines(found | {"image": {"missing": "no Docker engine answers"}})
    assert [line.met for line in lines] == [True, True, None, None]
    lines = server.lines(found | {"image": {"base": 80e6, "size": 601e6, "starts": [1.9]}})
    assert [line.met for line in lines] == [True, True, False, True]


def test_pins_name_versions_and_hashes_alone():
    for path in (ROOT / "benchmarks" / "environments").glob("*.txt"):
        lines = [line.strip() for line in path.read_text().splitlines()]
        assert all(line.startswith("--hash=sha256:") or "==" in line for line in lines), path
        assert path.with_suffix(".in").exists(), path


def test_kept_results_render(tmp_path):
    """What stands in docs/benchmarks can be rendered by this program."""
    kept = results.load()
    parts = command.render(kept)
    assert next(iter(parts)) == command.GOALS
    assert set(parts) == {command.GOALS, *kept}
    command.plot(kept, tmp_path)
    json.dumps(kept)
