"""The order of neighbours under each metric, and answers with fewer of them than k."""

import json

import numpy as np
import pytest

LINES = "application/jsonlines; verbose=true"


def ask(client, body, accept=LINES, content_type="text/csv"):
    response = client.post("/invocations", data=body, content_type=content_type, headers={"Accept": accept})
    assert response.status_code == 200, response.get_data()
    return response


@pytest.mark.parametrize(
    ("metric", "query", "values", "labels"),
    [
        # Products of the rows (1, 0), (0, 2), (3, 4) and (-1, 0) with the query.
        ("INNER_PRODUCT", "2,1", [2, 2, 10], [20, 10, 30]),
        ("INNER_PRODUCT", "-1,0", [-1, 0, 1], [10, 20, 40]),
        # Cosines: 3/5, 4/5 and so on; lengths do not matter.
        ("COSINE", "2,0", [0, 0.6, 1], [20, 30, 10]),
        ("COSINE", "0,-3", [-0.8, 0, 0], [30, 40, 10]),
        ("COSINE", "0,0", [0, 0, 0], [30, 20, 10]),
    ],
)
def test_similarities_ascend_so_that_the_best_is_last(serve_rows, metric, query, values, labels):
    client = serve_rows([[1, 0], [0, 2], [3, 4], [-1, 0]], [10, 20, 30, 40], index_metric=metric)
    answer = ask(client, query).get_json(force=True)
    assert np.array_equal(np.float32(answer["distances"]), np.float32(values))
    assert answer["labels"] == labels


@pytest.fixture
def check(recordio, parse):
    """Compares the answers to (n, d) queries with what is expected."""

    def check_(client, queries, expected):
        answers = parse(ask(client, recordio.rows(queries), content_type="application/x-recordio-protobuf"))
        np.testing.assert_array_equal([answer["predicted_label"][0] for answer in answers], expected.predicted)
        np.testing.assert_array_equal([answer["labels"] for answer in answers], expected.labels)
        distances = np.array([answer["distances"] for answer in answers]).astype(np.float32)
        np.testing.assert_array_equal(distances, expected.distances)

    return check_


@pytest.mark.parametrize("metric", ["L2", "INNER_PRODUCT", "COSINE"])
def test_verbose_answers_are_those_of_numpy(serve_rows, digits, expect, check, metric):
    rows, labels, queries = digits.train_rows[:300], digits.train_labels[:300], digits.test_rows[:50]
    client = serve_rows(rows, labels, index_metric=metric, k=7)
    check(client, queries, expect(rows, labels, queries, k=7, metric=metric))


@pytest.fixture(scope="module", params=["L2", "INNER_PRODUCT", "COSINE"])
def two_lists(request, serve_rows):
    """Eight rows near (10, 0) and two near (0, 10), in a list each, of which a query looks into one."""
    rows = [[10, i / 10] for i in range(8)] + [[0, 10], [0.1, 10]]
    return serve_rows(
        rows,
        [1] * 8 + [2, 2],
        k=5,
        index_type="faiss.IVFFlat",
        index_metric=request.param,
        faiss_index_ivf_nlists=2,
        _faiss_index_nprobe=1,
    )


@pytest.mark.parametrize(
    "accept", ["application/json", "application/jsonlines", "application/x-recordio-protobuf", "text/csv"]
)
def test_a_row_with_fewer_neighbours_than_k_has_those_that_there_are(two_lists, parse, accept):
    response = ask(two_lists, "0,11\n11,0\n0,9\n", f"{accept}; verbose=true")
    answers = parse(response)
    assert [answer["labels"].tolist() for answer in answers] == [[2, 2], [1] * 5, [2, 2]]
    assert [len(answer["distances"]) for answer in answers] == [2, 5, 2]
    assert [answer["predicted_label"].tolist() for answer in answers] == [[2], [1], [2]]
    for answer in answers:
        assert np.all(np.diff(answer["distances"]) >= 0)
        assert np.isfinite(answer["distances"]).all()
        assert np.abs(answer["distances"]).max() < 1000


@pytest.mark.parametrize("index_type", ["faiss.IVFFlat", "faiss.IVFPQ"])
def test_with_every_list_probed_an_answer_has_k_neighbours(serve_rows, digits, index_type):
    options = {"faiss_index_pq_m": 8} if index_type == "faiss.IVFPQ" else {}
    client = serve_rows(
        digits.train_rows[:400],
        digits.train_labels[:400],
        k=300,
        index_type=index_type,
        faiss_index_ivf_nlists=4,
        _faiss_index_nprobe=4,
        **options,
    )
    query = ",".join(map(str, digits.test_rows[0]))
    answer = json.loads(ask(client, query).get_data())
    assert len(answer["labels"]) == len(answer["distances"]) == 300


def test_probing_every_list_of_ivfflat_is_an_exact_search(serve_rows, digits, expect, check):
    rows, labels, queries = digits.train_rows[:400], digits.train_labels[:400], digits.test_rows[:50]
    client = serve_rows(rows, labels, k=5, index_type="faiss.IVFFlat", faiss_index_ivf_nlists=8, _faiss_index_nprobe=8)
    check(client, queries, expect(rows, labels, queries, k=5))


def test_the_default_number_of_lists_is_the_root_of_the_rows(serve_rows, digits, recordio, parse):
    """400 rows make 20 lists, of which 5 are probed: most true neighbours are found, and never all rows."""
    client = serve_rows(digits.train_rows[:400], digits.train_labels[:400], k=400, index_type="faiss.IVFFlat")
    answers = parse(ask(client, recordio.rows(digits.test_rows[:20]), content_type="application/x-recordio-protobuf"))
    found = [len(answer["labels"]) for answer in answers]
    assert min(found) >= 5
    assert max(found) < 400


def test_codes_that_do_not_divide_the_dimension_are_made_to_by_columns_of_zeros(serve_rows, digits, recordio):
    """With 3 codes, rows of 4 columns are answered as rows of 6 whose last two are zero."""
    rows, queries = digits.train_rows[:300, 20:24], digits.test_rows[:20, 20:24]
    options = {"index_type": "faiss.IVFPQ", "faiss_index_pq_m": 3, "faiss_index_ivf_nlists": 2, "k": 5}
    answers = [
        ask(
            serve_rows(np.pad(rows, pad), digits.train_labels[:300], **options),
            recordio.rows(np.pad(queries, pad)),
            content_type="application/x-recordio-protobuf",
        ).get_data()
        for pad in (((0, 0), (0, 0)), ((0, 0), (0, 2)))
    ]
    assert answers[0] == answers[1]
