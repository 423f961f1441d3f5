"""Command lines that are refused before anything is sent, with status 2 and a sentence that helps."""

import gzip

import numpy as np
import pytest

ROLE = "arn:aws:iam::123456789012:role/knn"
TRAIN = ("train", "--role", ROLE, "--k", "5", "--predictor-type", "classifier", "--sample-size", "9")
TUNE = ("tune", "--role", ROLE, "--predictor-type", "classifier", "--channel", "train", "--channel", "test")
DEPLOY = ("deploy", "--role", ROLE, "--training-job", "knn-1")
REGRESSION = ("--role", ROLE, "--predictor-type", "regressor", "--channel", "train", "--channel", "test")


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ((), "the following arguments are required: COMMAND"),
        (("fly",), "invalid choice: 'fly'"),
        (("train", "--role", ROLE), "Missing required hyperparameter: k. Missing required hyperparameter: pred"),
        ((*TRAIN, "--k", "0"), "Hyperparameter k: 0 is not in [1, 1024]."),
        ((*TRAIN, "--k", "1:9"), "Hyperparameter k: could not parse value '1:9', expected [1, 1024]."),
        ((*TRAIN, "--role", "me"), "--role: expected the ARN of an execution role (or $KNN_SAGEMAKER_ROLE), such as "),
        (("train", *TRAIN[3:]), "'nothing' came."),
        ((*TRAIN, "--job", "other-1"), "expected a name that begins with knn- (from --name)"),
        ((*TRAIN, "--job", "knn-" + 60 * "x"), "of at most 63 characters"),
        ((*TRAIN, "--name", "Mine"), "--name: expected lower-case letters, digits and single hyphens"),
        ((*TRAIN, "--name", 17 * "a"), "at most 16 characters; 'aaaaaaaaaaaaaaaaa' came."),
        ((*TRAIN, "--region", "nowhere"), "--region: expected one of AWS, 'nowhere' came."),
        ((*TRAIN, "--profile", "nobody"), "--profile: The config profile (nobody) could not be found"),
        ((*TRAIN, "--channel", "test"), "Missing required channel: train. Channels that came: test."),
        ((*TRAIN, "--channel", "train=/data"), "--channel train: expected s3://BUCKET/PREFIX, '/data' came."),
        ((*TRAIN, "--channel", "a b"), "expected NAME or NAME=s3://BUCKET/PREFIX, 'a b' came"),
        ((*TRAIN, "--output", "/data"), "--output: expected s3://BUCKET/PREFIX, '/data' came."),
        ((*TRAIN, "--max-wait", "60"), "--max-wait: only a job with --spot waits for its instances."),
        ((*TRAIN, "--spot", "--max-wait", "60"), "expected at least --max-runtime, which is 3600; 60 came."),
        ((*TRAIN, "--subnet", "subnet-1"), "--subnet and --security-group: give both or neither."),
        ((*TRAIN, "--instance-count", "0"), "expected a whole number from 1, '0' came"),
        ((*TRAIN, "--env", "A"), "expected NAME=VALUE, 'A' came"),
        ((*TUNE, "--k", "5", "--sample-size", "9"), "Nothing to tune: give a range, such as --k 1:50"),
        ((*TUNE, "--k", "9:9", "--sample-size", "9"), "--k: expected LOW:HIGH with LOW below HIGH, 9:9 came."),
        ((*TUNE, "--k", "1:2000", "--sample-size", "9"), "Hyperparameter k: 2000 is not in [1, 1024]."),
        ((*TUNE, "--k", "1:9"), "Missing required hyperparameter: sample_size."),
        (
            ("tune", *REGRESSION, "--k", "1:9", "--sample-size", "9", "--objective", "test:accuracy"),
            "is of a classifier",
        ),
        ((*TUNE[:-2], "--k", "1:9", "--sample-size", "9"), "Tuning needs the channel test"),
        ((*TUNE, "--k", "1:9", "--sample-size", "9", "--jobs", "2", "--parallel", "3"), "at most --jobs, which is 2"),
        ((*TUNE, "--k", "1:9", "--sample-size", "9", "--job", "knn-" + 29 * "x"), "of at most 32 characters"),
        (DEPLOY[:3], "Say which model: either --training-job NAME or --model-data URI."),
        ((*DEPLOY, "--model-data", "s3://a/b"), "Say which model: either"),
        ((*DEPLOY, "--training-job", "knn-2"), "expected one, 2 came; several need --multi-model."),
        ((*DEPLOY, "--serverless", "--memory", "1000"), "--memory: expected one of 1024, 2048, 3072, 4096, 5120, 6144"),
        ((*DEPLOY, "--serverless", "--async"), "SageMaker has no serverless endpoints with --async."),
        ((*DEPLOY, "--serverless", "--multi-model"), "SageMaker has no serverless endpoints with --multi-model."),
        ((*DEPLOY, "--startup-timeout", "10"), "--startup-timeout: expected 60 to 3600 seconds, 10 came."),
        ((*DEPLOY, "--error-topic", "a"), "only an --async endpoint tells."),
        ((*DEPLOY, "--security-group", "a"), "--subnet and --security-group: give both or neither."),
        (
            ("transform", *DEPLOY[1:], "--model", "a"),
            "Say which model: one of --model, --training-job and --model-data",
        ),
        (("transform", *DEPLOY[1:], "--download", "a", "--no-wait"), "there is nothing to fetch before the end"),
        (("transform", *DEPLOY[1:], "--input", "/data"), "--input: expected s3://BUCKET/PREFIX, '/data' came."),
        (("invoke",), "Give rows to ask about: either a FILE or --body TEXT."),
        (("invoke", "missing.csv"), "missing.csv: [Errno 2] No such file or directory"),
        (("invoke", "rows.parquet"), "rows.parquet: expected a file that ends in .csv, .json, .jsonl, .npy"),
        (("invoke", "--body", "1", "--async", "--target-model", "a"), "an asynchronous endpoint has one model."),
        (("stop", "model", "a"), "invalid choice: 'model'"),
        (("upload", "a.csv", "--channel", "a=s3://b"), "expected letters, digits, '.', '-' and '_', 'a=s3://b' came"),
    ],
)
def test_a_command_line_is_refused(run, proxy, line, text):
    done = run(*line)
    assert done.status == 2
    assert text in done.err
    assert done.out == ""
    assert set(proxy.seen) <= {"GetCallerIdentity"}


def test_a_dry_run_is_refused_alike(run, proxy):
    done = run(*TRAIN, "--k", "0", "--dry-run")
    assert (done.status, proxy.seen) == (2, [])
    assert "Hyperparameter k: 0 is not in [1, 1024]." in done.err


def test_needs_a_region(run, proxy, monkeypatch):
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    done = run(*TRAIN)
    assert done.status == 2
    assert "--region: none was given" in done.err


@pytest.mark.parametrize(
    ("name", "content", "options", "text"),
    [
        ("a.csv", b"label,x\n1,2\n", (), "a header line is not allowed"),
        ("a.csv", b"1,2,3\n1,2\n", (), "expected 2 features, 1 came"),
        ("a.csv", b"", (), "expected at least one row, there is none."),
        ("a.csv", b"1,nan\n", (), "row 1: feature 1 is nan, expected a finite float32 number."),
        ("a.csv", b"1,2\n1,x\n", ("--unlabelled",), "row 2: "),
        ("a.csv.gz", b"1,2\n", (), "Not a gzipped file"),
        ("a.csv.gz", gzip.compress(b"1,2\n" * 999)[:-9], (), "ended before the end-of-stream marker"),
        ("a.pbr", b"1,2\n1,2\n", (), "expected a RecordIO frame"),
        ("a.pbr", bytes.fromhex("0a23d7ce340000000a1e"), (), "the data end inside a record"),
        ("a.txt", b"1,2\n", (), "expected a file that ends in .csv"),
        ("a.json", b"{}", (), "a channel holds no JSON"),
        ("a.jsonl", b"{}", (), "a channel holds no JSON"),
        ("a.npy", b"not numpy", (), "expected an array that numpy.save wrote"),
        ("a.csv", b"1,2\n", ("--labels", "b.npy"), "--labels: only a numpy array has its labels in a file of"),
    ],
)
def test_a_file_is_refused(run, proxy, tmp_path, name, content, options, text):
    (tmp_path / name).write_bytes(content)
    done = run("upload", tmp_path / name, "--channel", "train", *options)
    assert done.status == 2
    assert text in done.err
    assert proxy.seen == ["GetCallerIdentity"]


@pytest.mark.parametrize(
    ("rows", "labels", "text"),
    [
        (np.zeros(3), None, "expected 2 dimensions of numbers, 1 of float64 came."),
        (np.zeros((3, 1)), None, "expected at least one feature beside the label."),
        (np.array([["a"]]), None, "expected 2 dimensions of numbers, 2 of <U1 came."),
        (np.array([[1.0, np.nan]]), None, "expected a finite float32 number"),
        (np.array([[np.inf, 1.0]]), None, "row 1: expected a finite label"),
        (np.zeros((3, 2)), np.zeros(2), "expected 3 labels, one for each row; 2 came."),
        (np.zeros((3, 2)), np.zeros((3, 1)), "expected 1 dimensions of numbers, 2 of float64 came."),
        (np.array([{}]), None, "without Python objects"),
    ],
)
def test_an_array_is_refused(run, proxy, tmp_path, rows, labels, text):
    np.save(tmp_path / "rows.npy", rows)
    options = ()
    if labels is not None:
        np.save(tmp_path / "labels.npy", labels)
        options = ("--labels", tmp_path / "labels.npy")
    done = run("upload", tmp_path / "rows.npy", "--channel", "train", *options)
    assert done.status == 2
    assert text in done.err
    assert proxy.seen == ["GetCallerIdentity"]


def test_a_missing_file_is_refused(run, proxy, tmp_path):
    done = run("upload", tmp_path / "rows.npy", "--channel", "train")
    assert done.status == 2
    assert "No such file or directory" in done.err


def test_help_names_all_commands(run):
    done = run("--help")
    assert done.status == 0
    for name in ("push", "upload", "train", "tune", "deploy", "transform", "invoke", "delete", "policy"):
        assert f"\n    {name}" in done.out


@pytest.mark.parametrize("command", ["train", "tune", "deploy", "transform", "invoke", "upload", "push", "delete"])
def test_each_command_has_help(run, command):
    done = run(command, "--help")
    assert done.status == 0
    assert "--dry-run" in done.out
    assert "--name" in done.out
