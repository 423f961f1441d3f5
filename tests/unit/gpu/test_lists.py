"""The search of inverted lists on a GPU."""

import re
import threading

import faiss
import numpy as np
import pytest

from knn_container.index import HNSW, IVF_FLAT, IVF_PQ, IVF_RABITQ, IVF_SQ_8
from knn_container.metric import Metric
from knn_container.search import search_for

CASES = [(IVF_FLAT, metric) for metric in Metric] + [(IVF_SQ_8, Metric.L2), (IVF_PQ, Metric.L2)]


def normal_rows(n, d, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


@pytest.mark.parametrize(("kind", "metric"), CASES)
@pytest.mark.parametrize("nprobe", [1, 7, 20])
def test_a_gpu_finds_what_the_cpu_finds(fake, found, build, gpu_wins, messages, kind, metric, nprobe):
    made, queries = build(kind, metric), normal_rows(100, 16, seed=1)
    alone = search_for(faiss.clone_index(made), metric, nprobe)(queries, 10)
    search = search_for(made, metric, nprobe)
    search.speed_up(0, queries=10**6)
    before = fake.searches
    helped = search(queries, 10)
    assert fake.searches == before + 1
    np.testing.assert_array_equal(helped.rows, alone.rows)
    np.testing.assert_array_equal(helped.values, alone.values)
    assert messages()[-1].endswith("it searches for 1 queries or more.")


@pytest.mark.parametrize("shift", [0, 3000])
@pytest.mark.parametrize("metric", [Metric.L2, Metric.COSINE])
def test_a_query_alone_finds_on_a_gpu_what_it_finds_in_a_batch(found, build, gpu_wins, metric, shift):
    rows, queries = normal_rows(3000, 16) + np.float32(shift), normal_rows(60, 16, seed=2) + np.float32(shift)
    search = search_for(build(IVF_FLAT, metric, rows), metric, 5)
    search.speed_up(0, queries=10**6)
    together = search(queries, 10)
    for i in range(60):
        np.testing.assert_array_equal(search(queries[i : i + 1], 10).rows[0], together.rows[i])


def test_a_service_copies_whatever_comes(found, build, gpu_wins):
    search = search_for(build(IVF_FLAT), Metric.L2, 5)
    search.speed_up(0)
    assert search._on_card is not None


def test_a_job_of_few_queries_does_not_copy(fake, found, build):
    search_for(build(IVF_FLAT), Metric.L2, 5).speed_up(0, queries=1000)
    assert fake.copies == 0


def test_a_slower_gpu_is_left_alone(fake, found, build, messages):
    fake.pause = 0.05
    search = search_for(build(IVF_FLAT), Metric.L2, 1)
    search.speed_up(0, queries=10**6)
    before = fake.searches
    search(normal_rows(300, 16), 5)
    assert fake.searches == before
    assert re.fullmatch(
        r"Search on the CPU and on GPU 1: 256 queries .* ms and .* ms; the CPU searches\.", messages()[-1]
    )


def test_a_gpu_that_wins_with_large_batches_gets_no_small_ones(fake, found, build, monkeypatch):
    times = iter([2.0, 1.0, 2.0, 1.0, 1.0, 2.0])  # 256 and 16 queries: the GPU, 1 query: the CPU
    monkeypatch.setattr("knn_container.search.candidates._seconds", lambda work: next(times))
    search = search_for(build(IVF_FLAT), Metric.L2, 5)
    search.speed_up(0, queries=10**6)
    for count, expected in [(1, 0), (15, 0), (16, 1), (300, 1)]:
        before = fake.searches
        search(normal_rows(count, 16), 5)
        assert fake.searches - before == expected


def test_a_search_beyond_the_limits_goes_to_the_cpu(fake, found, build, gpu_wins):
    rows = normal_rows(6000, 4)
    made = build(IVF_FLAT, rows=rows, nlist=3000)
    search = search_for(made, Metric.L2, 5)
    search.speed_up(0, queries=10**6)
    for nprobe, expected in [(2048, 1), (2049, 0)]:
        before = fake.searches
        search(rows[:3], 5, nprobe)
        assert fake.searches - before == expected
    before = fake.searches
    search(rows[:3], 2048)  # and the rows fetched beyond k
    assert fake.searches == before


@pytest.mark.parametrize(
    ("kind", "options", "reason"),
    [
        (HNSW, {}, "FAISS has no IndexHNSWFlat for GPUs"),
        (IVF_RABITQ, {}, "FAISS has no IndexIVFRaBitQ for GPUs"),
        (IVF_PQ, {"rows": normal_rows(600, 20), "pq_m": 10}, "this index has 10"),
    ],
)
def test_an_index_that_no_gpu_searches_says_so(fake, found, build, messages, kind, options, reason):
    search = search_for(build(kind, **options), Metric.L2, 5)
    search.speed_up(0, queries=10**6)
    assert fake.copies == 0
    assert messages()[-1].startswith("The CPU searches: ")
    assert reason in messages()[-1]


def test_an_nprobe_beyond_the_limit_says_so(fake, found, build, messages):
    search = search_for(build(IVF_FLAT, rows=normal_rows(6000, 4), nlist=3000), Metric.L2, 2500)
    search.speed_up(0, queries=10**6)
    assert messages() == ["The CPU searches: FAISS's code for GPUs looks into 2048 lists at most, nprobe is 2500."]
    assert fake.copies == 0


@pytest.mark.parametrize("failing", ["copy", "search"])
def test_a_gpu_that_fails_in_the_trial_is_left_alone(fake, found, build, messages, failing):
    fake.fails_from[failing] = 1
    search = search_for(build(IVF_FLAT), Metric.L2, 5)
    search.speed_up(0, queries=10**6)
    assert search(normal_rows(5, 16), 5).rows.shape == (5, 5)
    (line,) = messages()
    assert line.startswith("The CPU searches: ")


def test_a_gpu_that_fails_later_is_used_no_more(fake, found, build, gpu_wins, messages):
    made, queries = build(IVF_FLAT), normal_rows(50, 16)
    search = search_for(made, Metric.L2, 5)
    search.speed_up(0, queries=10**6)
    expected = search(queries, 5)
    fake.fails_from["search"] = fake.searches + 1
    for _ in range(3):
        np.testing.assert_array_equal(search(queries, 5).rows, expected.rows)
    assert [it for it in messages() if "from now on" in it] == [
        "The CPU searches from now on: CUDA error 700 an illegal memory access was encountered"
    ]


def test_queries_whose_lists_are_empty_are_answered_from_the_others(fake, found, gpu_wins):
    quantizer = faiss.IndexFlat(2)
    quantizer.add(np.array([[1, 0], [0, 1], [-1, 0]], np.float32))
    made = faiss.IndexIVFFlat(quantizer, 2, 3, faiss.METRIC_L2)
    made.is_trained = True
    made.add(np.array([[1, 0], [0.8, 0.6]], np.float32))
    search = search_for(made, Metric.L2, 1)
    search.speed_up(0, queries=10**6)
    before = fake.searches
    found_rows = search(np.array([[1, 0], [0, 1], [-1, 0]], np.float32), 3).rows
    assert fake.searches == before + 1
    assert found_rows.tolist() == [[0, 1, -1], [1, 0, -1], [1, 0, -1]]


def test_threads_take_turns_at_a_gpu(fake, found, build, gpu_wins):
    search = search_for(build(IVF_FLAT), Metric.L2, 5)
    search.speed_up(0, queries=10**6)
    other = search_for(build(IVF_SQ_8), Metric.L2, 5)
    other.speed_up(0, queries=10**6)
    fake.pause = 0.002
    queries = normal_rows(40, 16)
    expected = [it(queries, 5).rows for it in (search, other)]
    wrong = []

    def work(number):
        for _ in range(10):
            try:
                np.testing.assert_array_equal((search, other)[number](queries, 5).rows, expected[number])
            except Exception as error:
                wrong.append(error)

    before = fake.searches
    threads = [threading.Thread(target=work, args=(i % 2,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert fake.searches == before + 60
