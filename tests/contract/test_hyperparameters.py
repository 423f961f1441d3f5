"""Each hyperparameter that is refused, in the words of the failure file."""

import json

import pytest

CSV = b"1,0,0,0,0\n2,1,1,1,1\n3,2,2,2,2\n"
PQ = {"index_type": "faiss.IVFPQ", "faiss_index_pq_m": "2"}
REFUSED = [
    ({"k": None}, ["Missing required hyperparameter: k"]),
    ({"k": "0"}, ["Hyperparameter k: 0 is not in [1, 1024]"]),
    ({"k": "-1"}, ["Hyperparameter k: -1 is not in [1, 1024]"]),
    ({"k": "1025"}, ["Hyperparameter k: 1025 is not in [1, 1024]"]),
    ({"k": "2.5"}, ["Hyperparameter k: could not parse value '2.5'"]),
    ({"k": "ten"}, ["Hyperparameter k: could not parse value 'ten'"]),
    ({"k": ""}, ["Hyperparameter k: could not parse value ''"]),
    ({"predictor_type": None}, ["Missing required hyperparameter: predictor_type"]),
    ({"predictor_type": "Classifier"}, ["Hyperparameter predictor_type: Classifier is not in [classifier, regressor]"]),
    ({"sample_size": None}, ["Missing required hyperparameter: sample_size"]),
    ({"sample_size": "0"}, ["Hyperparameter sample_size: 0 is not in [1, +inf)"]),
    ({"sample_size": "all"}, ["Hyperparameter sample_size: could not parse value 'all'"]),
    ({"feature_dim": "0"}, ["Hyperparameter feature_dim: 0 is not in"]),
    ({"feature_dim": "four"}, ["Hyperparameter feature_dim: could not parse value 'four'"]),
    ({"dimension_reduction_type": "pca"}, ["Hyperparameter dimension_reduction_type: pca is not in"]),
    ({"dimension_reduction_target": "2"}, ["'dimension_reduction_target' should only be set when"]),
    ({"dimension_reduction_target": "0"}, ["Hyperparameter dimension_reduction_target: 0 is not in"]),
    ({"index_type": "faiss.LSH"}, ["Hyperparameter index_type: faiss.LSH is not in", "faiss.IVFFlat"]),
    ({"index_type": "FAISS.Flat"}, ["Hyperparameter index_type: FAISS.Flat is not in"]),
    ({"index_metric": "l2"}, ["Hyperparameter index_metric: l2 is not in [L2, INNER_PRODUCT, COSINE]"]),
    ({"faiss_index_ivf_nlists": "0"}, ["Hyperparameter faiss_index_ivf_nlists: 0 is not in"]),
    ({"faiss_index_ivf_nlists": "many"}, ["Hyperparameter faiss_index_ivf_nlists: could not parse value 'many'"]),
    ({"faiss_index_pq_m": "2"}, ["'faiss_index_pq_m' should only be set when 'index_type' = 'faiss.IVFPQ'"]),
    ({**PQ, "faiss_index_pq_m": None}, ["Missing required hyperparameter: faiss_index_pq_m"]),
    ({**PQ, "faiss_index_pq_m": "5"}, ["Hyperparameter faiss_index_pq_m: 5 is not in [1, 2, 3, 4, 8"]),
    ({**PQ, "index_metric": "COSINE"}, ["index_metric", "faiss.IVFPQ", "COSINE came"]),
    ({**PQ, "index_metric": "INNER_PRODUCT"}, ["index_metric", "faiss.IVFPQ", "INNER_PRODUCT came"]),
    ({"mini_batch_size": "0"}, ["Hyperparameter mini_batch_size: 0 is not in [1, 10000000]"]),
    ({"_faiss_index_nprobe": "0"}, ["Hyperparameter _faiss_index_nprobe: 0 is not in [1, +inf)"]),
    ({"seed": "-1"}, ["Hyperparameter seed: -1 is not in"]),
    ({"neighbours": "3"}, ["Extraneous hyperparameter found: neighbours"]),
]


@pytest.mark.parametrize(("hyperparameters", "expected"), REFUSED, ids=[str(given) for given, _ in REFUSED])
def test_a_hyperparameter_that_cannot_be_used_is_refused_by_name(run_job, hyperparameters, expected):
    outcome = run_job({"train/rows.csv": CSV}, **hyperparameters)
    assert (outcome.status, outcome.has_model) == (1, False)
    assert outcome.failure.startswith("ClientError: ")
    assert len(outcome.failure) < 1024
    assert [part for part in expected if part not in outcome.failure] == [], outcome.failure


def test_every_mistake_is_reported_at_once(run_job):
    outcome = run_job(
        {"train/rows.csv": CSV},
        k="0",
        predictor_type="ranker",
        sample_size=None,
        index_metric="L1",
        mini_batch_size="x",
        neighbours="3",
    )
    for name in ("k", "predictor_type", "sample_size", "index_metric", "mini_batch_size", "neighbours"):
        assert f" {name}" in outcome.failure


def test_more_mistakes_than_fit_are_cut_below_1024_characters(run_job):
    outcome = run_job({"train/rows.csv": CSV}, **{f"unknown_{i:02}_{'x' * 40}": "1" for i in range(60)})
    assert outcome.failure.startswith("ClientError: ")
    assert 900 < len(outcome.failure) < 1024


@pytest.mark.parametrize(
    "hyperparameters",
    [
        {"k": '"3"', "predictor_type": '"classifier"'},
        {"k": " 3 ", "feature_dim": "auto", "faiss_index_ivf_nlists": "auto", "dimension_reduction_type": "none"},
        {"feature_dim": "4", "faiss_index_ivf_nlists": "500"},
        {"_tuning_objective_metric": "test:accuracy", "_kvstore": "dist_async", "_num_gpus": "auto", "epochs": "1"},
        {"sagemaker_program": '"x.py"', "sagemaker_container_log_level": "20", "_log_level": "info"},
        {"sample_size": "3", "mini_batch_size": "1", "_faiss_index_nprobe": "99"},
    ],
    ids=str,
)
def test_what_the_platform_and_its_clients_send_is_taken(run_job, hyperparameters):
    outcome = run_job({"train/rows.csv": CSV}, **hyperparameters)
    assert (outcome.status, outcome.failure, outcome.has_model) == (0, "", True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("{", "is not JSON"), ("[]", "expected a JSON object"), (None, "hyperparameters.json does not exist")],
)
def test_a_document_that_holds_no_hyperparameters_is_refused(run_job, write_job, text, expected):
    base = write_job({"train/rows.csv": CSV})
    path = base / "input" / "config" / "hyperparameters.json"
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    outcome = run_job({}, base=base)
    assert (outcome.status, outcome.has_model) == (1, False)
    assert outcome.failure.startswith("ClientError: ")
    assert expected in outcome.failure


def test_hyperparameters_may_be_json_numbers(run_job, write_job):
    base = write_job({"train/rows.csv": CSV})
    document = {"k": 3, "predictor_type": "classifier", "sample_size": 3}
    (base / "input" / "config" / "hyperparameters.json").write_text(json.dumps(document))
    assert run_job({}, base=base).status == 0
