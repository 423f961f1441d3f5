import pytest

from knn_container import hyperparameters
from knn_container.errors import UserError
from knn_container.hyperparameter_table import TABLE
from knn_container.metric import Metric

NEEDED = {"k": "3", "predictor_type": "classifier", "sample_size": "100"}
CHOSEN = {"index_type": "auto"}
PQ = {"index_type": "faiss.IVFPQ", "faiss_index_pq_m": "4"}
SIGN = {"dimension_reduction_type": "sign", "dimension_reduction_target": "2"}
PQ_M = [1, 2, 3, 4, 8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 96]

VALID = [
    # name, field, texts and the values that they stand for, what else is given
    ("k", "k", {"1": 1, "1024": 1024, "+7": 7, " 7 ": 7, "007": 7}, {}),
    ("predictor_type", "predictor_type", {"classifier": "classifier", "regressor": "regressor"}, {}),
    ("sample_size", "sample_size", {"1": 1, "20000000": 20_000_000, "9999999999": 9_999_999_999}, {}),
    ("feature_dim", "feature_dim", {"auto": None, "1": 1, "784": 784}, {}),
    ("index_type", "index_type", {"faiss.Flat": "faiss.Flat", "faiss.IVFFlat": "faiss.IVFFlat", "auto": "auto"}, {}),
    ("target_recall", "target_recall", {"0.9": 0.9, "1": 1.0, ".5": 0.5, "1e-2": 0.01, "+0.99": 0.99}, CHOSEN),
    ("index_metric", "index_metric", {metric.value: metric for metric in Metric}, {}),
    ("faiss_index_ivf_nlists", "nlist", {"auto": None, "1": 1, "5000": 5000}, {}),
    ("faiss_index_pq_m", "pq_m", {str(m): m for m in PQ_M}, PQ),
    ("_faiss_index_nprobe", "nprobe", {"1": 1, "5": 5, "1000": 1000}, {}),
    ("mini_batch_size", "mini_batch_size", {"1": 1, "5000": 5000}, {}),
    ("seed", "seed", {"0": 0, "-0": 0, "2147483647": 2**31 - 1}, {}),
    ("dimension_reduction_type", "reduction_type", {"sign": "sign", "fjlt": "fjlt"}, SIGN),
    ("dimension_reduction_target", "reduction_target", {"1": 1, "50": 50}, SIGN),
]
OUT_OF_RANGE = [
    ("k", "[1, 1024]", ["0", "-1", "1025", "5000"], {}),
    ("predictor_type", "[classifier, regressor]", ["Classifier", "", "none", "0"], {}),
    ("sample_size", "[1, +inf)", ["0", "-256"], {}),
    ("feature_dim", "auto or [1, +inf)", ["0", "-54"], {}),
    ("index_type", "faiss.IVFPQ", ["faiss.flat", "Flat", "IVFFlat", "faiss.PQ"], {}),
    ("target_recall", "(0, 1]", ["0", "-0.5", "1.001", "99"], CHOSEN),
    ("index_metric", "[L2, INNER_PRODUCT, COSINE]", ["l2", "cosine", "EUCLIDEAN"], {}),
    ("faiss_index_ivf_nlists", "auto or [1, +inf)", ["0", "-1"], {}),
    ("faiss_index_pq_m", str(PQ_M), ["0", "5", "7", "128"], PQ),
    ("_faiss_index_nprobe", "[1, +inf)", ["0", "-5"], {}),
    ("mini_batch_size", "[1, 10000000]", ["0", "-5000"], {}),
    ("seed", "[0, 2147483647]", ["-1", "2147483648"], {}),
    ("dimension_reduction_type", "[none, sign, fjlt]", ["Sign", "pca"], {}),
    ("dimension_reduction_target", "[1, +inf)", ["0", "-1"], SIGN),
]
NO_NUMBERS = ["", "five", "2.9", "5.0", "1e3", "0x10", "1_000", "1 0", "True", "None", "nan", "9" * 5000]
NUMBERS = ["k", "sample_size", "faiss_index_pq_m", "_faiss_index_nprobe", "mini_batch_size", "seed"]
NUMBERS_OR_AUTO = ["feature_dim", "faiss_index_ivf_nlists"]


def parse(**given):
    return hyperparameters.parse(NEEDED | given)


def mistakes(given) -> str:
    with pytest.raises(UserError) as caught:
        hyperparameters.parse(given)
    return str(caught.value)


def cases(table):
    return [(name, between, text, others) for name, between, texts, others in table for text in texts]


@pytest.mark.parametrize("spell", [str, '"{}"'.format, '" {} "'.format], ids=["plain", "quoted", "quoted with blanks"])
@pytest.mark.parametrize(
    ("name", "field", "text", "value", "others"),
    [(name, field, text, value, others) for name, field, texts, others in VALID for text, value in texts.items()],
)
def test_valid_values_in_every_spelling_are_taken(*, spell, name, field, text, value, others):
    assert getattr(parse(**others | {name: spell(text)}), field) == value


@pytest.mark.parametrize(("name", "allowed", "text", "others"), cases(OUT_OF_RANGE))
def test_values_out_of_range_are_refused_with_the_range(name, allowed, text, others):
    message = mistakes(NEEDED | others | {name: text})
    assert f"Hyperparameter {name}: {text} is not in " in message
    assert allowed in message


@pytest.mark.parametrize("text", NO_NUMBERS)
@pytest.mark.parametrize("name", [*NUMBERS, *NUMBERS_OR_AUTO])
def test_text_where_a_number_belongs_is_refused(name, text):
    others = PQ if name == "faiss_index_pq_m" else {}
    message = mistakes(NEEDED | others | {name: text})
    assert f"Hyperparameter {name}: could not parse value" in message
    assert len(message) < 400


@pytest.mark.parametrize("text", ["auto", '"auto"'])
@pytest.mark.parametrize("name", NUMBERS)
def test_auto_is_a_number_only_where_the_table_says_so(name, text):
    assert "could not parse value 'auto'" in mistakes(NEEDED | PQ | {name: text})


@pytest.mark.parametrize("text", ['"a"b"', '"', '"""', '"\\', '"\\"', '"\\x"'])
@pytest.mark.parametrize("name", ["k", "predictor_type", "index_type"])
def test_quotes_that_do_not_pair_are_the_users_mistake(name, text):
    assert f"Hyperparameter {name}: " in mistakes(NEEDED | {name: text})


@pytest.mark.parametrize("value", [7, 7.0])
def test_values_that_are_not_text_are_read_as_text(value):
    if isinstance(value, int):
        assert parse(k=value).k == 7
    else:
        assert "could not parse value '7.0'" in mistakes(NEEDED | {"k": value})


def test_defaults_are_the_built_in_algorithms():
    parsed = parse()
    assert (parsed.k, parsed.predictor_type, parsed.sample_size) == (3, "classifier", 100)
    assert (parsed.feature_dim, parsed.nlist, parsed.pq_m) == (None, None, None)
    assert (parsed.index_type, parsed.index_metric) == ("faiss.Flat", Metric.L2)
    assert (parsed.nprobe, parsed.mini_batch_size, parsed.seed) == (5, 5000, 0)


@pytest.mark.parametrize("name", sorted(NEEDED))
def test_a_required_hyperparameter_that_is_missing_is_named(name):
    given = {key: value for key, value in NEEDED.items() if key != name}
    assert mistakes(given) == f"Missing required hyperparameter: {name}."


def test_every_mistake_is_reported_at_once():
    message = mistakes({"k": "0", "sample_size": "x", "index_metric": "l2", "seed": "-1", "leaf_size": "30"})
    for words in (
        "Hyperparameter k: 0 is not in [1, 1024].",
        "Hyperparameter sample_size: could not parse value 'x'",
        "Missing required hyperparameter: predictor_type.",
        "Hyperparameter index_metric: l2 is not in [L2, INNER_PRODUCT, COSINE].",
        "Hyperparameter seed: -1 is not in [0, 2147483647].",
        "Extraneous hyperparameter found: leaf_size.",
    ):
        assert message.count(words) == 1


@pytest.mark.parametrize("name", ["leaf_size", "K", "sample-size", "epoch", "epochs2", "", "sagemaker"])
def test_an_unknown_hyperparameter_is_refused(name):
    assert mistakes(NEEDED | {name: "1"}) == f"Extraneous hyperparameter found: {name}."


@pytest.mark.parametrize(
    "name",
    [
        "_tuning_objective_metric",
        "_kvstore",
        "_num_kv_servers",
        "_num_gpus",
        "_log_level",
        "_enable_profiler",
        "epochs",
        "sagemaker_program",
        "sagemaker_submit_directory",
        "sagemaker_container_log_level",
        "sagemaker_job_name",
        "sagemaker_region",
    ],
)
@pytest.mark.parametrize("text", ["", "auto", '"quoted"', '"a"b"'])
def test_what_the_platform_and_its_sdks_add_is_passed_over(name, text):
    assert parse(**{name: text}) == parse()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"faiss_index_pq_m": "4"},
            "Hyperparameter 'faiss_index_pq_m' should only be set when 'index_type' = 'faiss.IVFPQ'.",
        ),
        (
            {"dimension_reduction_target": "4"},
            "Hyperparameter 'dimension_reduction_target' should only be set when 'dimension_reduction_type' is set.",
        ),
        (
            {"target_recall": "0.9"},
            "Hyperparameter 'target_recall' should only be set when 'index_type' = 'auto'.",
        ),
        (
            CHOSEN | {"nprobe": "7"},
            "Hyperparameter 'nprobe' should not be set when 'index_type' = 'auto', which chooses it.",
        ),
        (
            CHOSEN | {"faiss_index_ivf_nlists": "7"},
            "Hyperparameter 'faiss_index_ivf_nlists' should not be set when 'index_type' = 'auto', which chooses it.",
        ),
        (
            CHOSEN | {"faiss_index_pq_m": "4"},
            "Hyperparameter 'faiss_index_pq_m' should only be set when 'index_type' = 'faiss.IVFPQ'.",
        ),
        (
            CHOSEN | {"search_engine": "scan"},
            "Hyperparameter 'search_engine' should only be set when 'index_type' = 'faiss.Flat'.",
        ),
        (
            SIGN | {"feature_dim": "2"},
            "Hyperparameter 'dimension_reduction_target' should be less than 'feature_dim'.",
        ),
    ],
)
def test_contradictions_are_refused_in_the_toolkits_words(given, message):
    assert mistakes(NEEDED | given) == message


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"index_type": "faiss.IVFPQ"}, "faiss_index_pq_m"),
        (PQ | {"index_metric": "COSINE"}, "index_metric"),
        (PQ | {"index_metric": "INNER_PRODUCT"}, "index_metric"),
        ({"dimension_reduction_type": "fjlt"}, "dimension_reduction_target"),
    ],
)
def test_what_does_not_go_together_is_refused_with_its_name(given, words):
    assert words in mistakes(NEEDED | given)


@pytest.mark.parametrize("metric", ["INNER_PRODUCT", "COSINE"])
@pytest.mark.parametrize("index_type", ["faiss.Flat", "faiss.IVFFlat"])
def test_similarities_go_with_indexes_that_quantise_nothing(index_type, metric):
    parsed = parse(index_type=index_type, index_metric=metric)
    assert (parsed.index_spec.index_type, parsed.index_spec.metric) == (index_type, Metric(metric))


def test_the_index_is_built_from_what_was_given():
    spec = parse(**PQ, faiss_index_ivf_nlists="9", seed="5").index_spec
    assert (spec.index_type, spec.metric, spec.nlist, spec.pq_m, spec.seed) == ("faiss.IVFPQ", Metric.L2, 9, 4, 5)


@pytest.mark.parametrize("text", ["", "auto", "0,9", "99%", "nan", "inf", "0_1", "0x1", "1/2", "\u0660.\u0669", "."])
def test_what_is_no_decimal_number_is_no_target(text):
    assert "Hyperparameter target_recall: could not parse value" in mistakes(NEEDED | CHOSEN | {"target_recall": text})


def test_defaults_that_the_platform_adds_contradict_nothing():
    defaults = {row.name: str(row.default) for row in TABLE if row.default is not None}
    assert hyperparameters.parse(defaults | NEEDED) == parse()
    chosen = hyperparameters.parse(defaults | {"_faiss_index_nprobe": "9"} | NEEDED | CHOSEN)
    assert (chosen.chooses_index, chosen.target_recall) == (True, 0.99)


def test_until_an_index_is_chosen_it_takes_what_exact_search_takes():
    spec = parse(index_type="auto", index_metric="COSINE", seed="5").index_spec
    assert (spec.index_type, spec.metric, spec.nlist, spec.pq_m, spec.seed) == (
        "faiss.Flat",
        Metric.COSINE,
        None,
        None,
        5,
    )


def test_every_row_of_the_table_says_what_it_is_and_takes_its_default():
    for row in TABLE:
        assert row.help.endswith(".")
        assert row.allowed
        assert not (row.required and row.default is not None)
        assert row.default is None or row.accepts(row.parse(str(row.default)))


@pytest.mark.parametrize(
    ("engine", "metric", "allowed"),
    [
        ("projections", "L2", True),
        ("projections", "COSINE", False),
        ("projections", "INNER_PRODUCT", False),
        ("kd_tree", "COSINE", True),
        ("kd_tree", "INNER_PRODUCT", False),
    ],
)
def test_an_engine_takes_the_metrics_that_it_knows(engine, metric, allowed):
    given = NEEDED | {"search_engine": engine, "index_metric": metric}
    if allowed:
        assert hyperparameters.parse(given).search_engine == engine
    else:
        assert "Hyperparameter search_engine" in mistakes(given)
