"""The choice of an index by its recall and its speed."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.datasets import load_digits

from knn_container.errors import UserError
from knn_container.index import FLAT, HNSW, INDEX_TYPES, IVF_FLAT, IVF_PQ, IVF_RABITQ, SQ_8, SQ_FP16
from knn_container.metric import Metric
from knn_container.sampling import Sample
from knn_container.search import search_for
from knn_container.training import choosing, trials
from knn_container.training.choosing import Chooser

DIGITS = load_digits().data.astype(np.float32)
ROWS, OTHERS = DIGITS[:500], DIGITS[1500:]
FIGURES = ("recall", "milliseconds", "milliseconds_in_batch", "bytes", "build_seconds")


@pytest.fixture
def choose():
    def choose_(target, *, rows=ROWS, metric=Metric.L2, k=10, room=1 << 40, **options):
        sample = Sample(np.ascontiguousarray(rows), np.zeros(len(rows)), np.arange(len(rows)), None, len(rows))
        return Chooser(sample, metric, k, target, room=lambda: room, **options).choose()

    return choose_


@pytest.fixture
def slow(monkeypatch):
    """Exact search takes a second a query, so that anything else is faster."""
    timed = trials.Bench.time_exact
    monkeypatch.setattr(
        trials.Bench, "time_exact", lambda bench, room: replace(timed(bench, room), milliseconds=1000.0)
    )


@pytest.fixture
def fast(monkeypatch):
    timed = trials.Bench.time_exact
    monkeypatch.setattr(trials.Bench, "time_exact", lambda bench, room: replace(timed(bench, room), milliseconds=1e-6))


@pytest.fixture
def only(monkeypatch):
    return lambda *candidates: monkeypatch.setattr(choosing, "_CANDIDATES", candidates)


def recall_of(choice, brute_force, metric=Metric.L2, k=10):
    """The share of neighbours that rows find which the index has never seen."""
    assert choice.reduction is None
    numbers, values = brute_force(metric.value, ROWS, OTHERS, k)
    sign = -1 if metric.is_similarity else 1
    found = search_for(choice.index, metric, choice.nprobe or 1)(OTHERS, k).rows
    near = [
        dict(
            zip(*(it[0].tolist() for it in brute_force(metric.value, ROWS, query[np.newaxis], len(ROWS))), strict=True)
        )
        for query in OTHERS
    ]
    assert len(numbers) == len(OTHERS)
    hits = [
        sign * by[row] <= sign * last for by, mine, last in zip(near, found, values[:, -1], strict=True) for row in mine
    ]
    return np.mean(hits)


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize(("metric", "target"), [(Metric.L2, 0.99), (Metric.COSINE, 0.95)])
def test_rows_that_were_held_back_find_what_was_asked_for(choose, brute_force, metric, target):
    choice = choose(target, metric=metric)
    assert choice.spec.index_type != FLAT
    assert choice.index.ntotal == len(ROWS)
    assert choice.recall.value >= target
    assert recall_of(choice, brute_force, metric) >= target - 0.02


@pytest.mark.usefixtures("slow")
def test_the_table_has_every_index_and_what_was_chosen_is_the_fastest_that_reached_the_target(choose):
    table = choose(0.9).trials
    assert {line.index_type for line in table} == set(INDEX_TYPES)
    measured = [line for line in table if line.left_out is None]
    assert all(getattr(line, name) is not None for line in measured for name in FIGURES)
    assert {line.rows for line in table} == {len(ROWS)}
    assert table[0].index_type == FLAT
    assert table[0].recall == 1.0
    assert all(line.reached == (line.recall >= 0.9) for line in measured)
    (chosen,) = [line for line in table if line.chosen]
    # All lists at once are measured before fewer, and not taken.
    usual = [line for line in measured if line.reached and (line.nlist is None or line.nprobe != line.nlist)]
    assert chosen.milliseconds == min(line.milliseconds for line in usual)
    lists = [line for line in table if line.index_type == IVF_FLAT and line.nlist == int(len(ROWS) ** 0.5)]
    assert [line.nprobe for line in lists] == [1, 2, 3, 4, 6, 8, 12, 16, 22][: len(lists)]
    assert all(line.recall < 0.9 for line in lists[:-1])


@pytest.mark.usefixtures("slow")
def test_some_of_many_rows_rank_the_candidates_and_all_rows_decide(monkeypatch, choose, brute_force):
    monkeypatch.setattr(choosing, "_TRIAL_ROWS", 300)
    monkeypatch.setattr(choosing, "_TRIAL_NUMBERS", 1)
    choice = choose(0.95)
    (chosen,) = [line for line in choice.trials if line.chosen]
    assert chosen.rows == choice.index.ntotal == len(ROWS)
    assert {line.index_type for line in choice.trials if line.rows == 300} == set(INDEX_TYPES[1:])
    first = next(line for line in choice.trials[1:] if line.rows == len(ROWS))
    reached = [line for line in choice.trials if line.rows == 300 and line.reached]
    reached = [line for line in reached if line.nlist is None or line.nprobe != line.nlist]
    assert first.index_type == min(reached, key=lambda line: line.milliseconds).index_type
    assert recall_of(choice, brute_force) >= 0.92


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("trial_rows", [300, 5000])
def test_exact_search_stays_where_nothing_is_faster(monkeypatch, choose, trial_rows):
    monkeypatch.setattr(choosing, "_TRIAL_ROWS", trial_rows)
    monkeypatch.setattr(choosing, "_TRIAL_NUMBERS", 1)
    choice = choose(0.5)
    assert (choice.spec.index_type, choice.nprobe, choice.recall) == (FLAT, None, None)
    assert [line.index_type for line in choice.trials if line.chosen] == [FLAT]
    assert len(choice.trials) >= len(INDEX_TYPES)


@pytest.mark.usefixtures("slow")
def test_of_a_target_of_1_nothing_but_exact_search_is_sure(choose, only):
    only((SQ_FP16, 0), (HNSW, 0))
    choice = choose(1.0)
    assert choice.spec.index_type == FLAT
    assert [(line.index_type, line.recall) for line in choice.trials[:2]] == [(FLAT, 1.0), (SQ_FP16, 1.0)]


@pytest.mark.usefixtures("slow")
def test_a_target_that_nothing_reaches_ends_in_exact_search(monkeypatch, choose, only):
    monkeypatch.setattr(choosing, "_COARSE_TARGET", 1)
    only((IVF_PQ, 1), (IVF_RABITQ, 1), (SQ_8, 0))
    choice = choose(0.9999)
    assert choice.spec.index_type == FLAT
    np.testing.assert_array_equal(choice.index.reconstruct_n(0, len(ROWS)), ROWS)
    # Where all lists together do not find enough, fewer are not tried.
    assert [(it.index_type, it.nprobe, it.reached) for it in choice.trials[1:]] == [
        (IVF_PQ, 22, False),
        (IVF_RABITQ, 22, False),
        (SQ_8, None, False),
    ]


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"room": 1000}, "bytes of memory"),
        ({"rows": ROWS * np.float32(1e30)}, "takes features of a magnitude up to"),
    ],
    ids=["memory", "magnitude"],
)
def test_what_cannot_be_built_is_left_out_and_the_table_says_why(choose, options, why):
    choice = choose(0.5, **options)
    assert choice.spec.index_type == FLAT
    assert {line.index_type for line in choice.trials} == set(INDEX_TYPES)
    assert all(why in line.left_out for line in choice.trials[1:])


def test_features_that_not_even_exact_search_takes_are_refused(choose, monkeypatch):
    def refuse(*_):
        raise UserError("too large")

    monkeypatch.setattr(choosing.index, "build", refuse)
    with pytest.raises(UserError, match="too large"):
        choose(0.9)


@pytest.mark.usefixtures("slow")
def test_what_would_take_too_long_is_left_out(monkeypatch, choose):
    monkeypatch.setattr(choosing, "_LONGEST_TRIAL", 0)
    assert all("the trial had taken" in line.left_out for line in choose(0.5).trials[1:])
    monkeypatch.undo()
    monkeypatch.setattr(choosing, "_TRIAL_ROWS", 300)
    monkeypatch.setattr(choosing, "_TRIAL_NUMBERS", 1)
    monkeypatch.setattr(choosing, "_LONGEST_BUILD", -1)
    monkeypatch.setattr(trials.Bench, "time_exact", lambda *_: trials.Trial(FLAT, len(ROWS), milliseconds=1000.0))
    table = choose(0.5).trials
    assert [line.index_type for line in table if line.rows == len(ROWS) and not line.left_out] == [FLAT]
    assert any("s to build" in (line.left_out or "") for line in table)


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize("looks", [0, 1, 3])
def test_a_job_that_is_to_end_takes_the_best_so_far(choose, looks):
    left = [looks]

    def stopped():
        left[0] -= 1
        return left[0] < 0

    choice = choose(0.5, stopped=stopped)
    assert choice.index.ntotal == len(ROWS)
    assert sum(line.chosen for line in choice.trials) == 1
    assert len(choice.trials) < len(INDEX_TYPES)


def test_a_single_row_has_nobody_to_be_found_by(choose):
    choice = choose(0.9, rows=ROWS[:1], k=1)
    assert (choice.spec.index_type, len(choice.trials)) == (FLAT, 1)


@pytest.mark.usefixtures("slow")
@pytest.mark.parametrize("metric", [Metric.COSINE, Metric.INNER_PRODUCT])
def test_product_quantisation_is_for_l2_alone(choose, metric):
    assert {line.index_type for line in choose(0.5, metric=metric).trials} == set(INDEX_TYPES) - {IVF_PQ}


@pytest.mark.usefixtures("slow")
def test_rows_are_rotated_or_padded_as_the_index_wants_them_but_not_if_they_are_reduced(choose, only):
    rows = ROWS[:, :50]
    only((IVF_RABITQ, 1))
    assert choose(0.1, rows=rows).reduction.target == 50
    assert choose(0.1, rows=rows, reduced=True).reduction is None
    only((IVF_PQ, 1))
    assert choose(0.1, rows=rows).index.d == 72  # m = 24
    assert choose(0.1, rows=rows, reduced=True).index.d == 50  # m = 2
