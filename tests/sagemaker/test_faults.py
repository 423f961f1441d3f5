"""What goes wrong on the way: throttling, broken answers, refusals, Ctrl-C and killed processes."""

import signal

import numpy as np
import pytest

ROLE = "arn:aws:iam::123456789012:role/knn"
BUCKET = "sagemaker-us-west-2-123456789012"
TRAIN = ("train", "--role", ROLE, "--k", 5, "--predictor-type", "classifier", "--sample-size", 9, "--poll", 0.01)
DEPLOY = ("deploy", "--role", ROLE, "--training-job", "knn-1", "--poll", 0.01)


@pytest.fixture
def uploaded(ok, folder):
    ok("upload", folder / "table.npy", "--channel", "train")


@pytest.fixture
def trained(aws):
    aws("s3").put_object(Bucket=BUCKET, Key="knn-container/knn/output/knn-1/output/model.tar.gz", Body=b"model")


@pytest.mark.parametrize("status", [400, 429, 503])
@pytest.mark.parametrize("operation", ["GetCallerIdentity", "CreateTrainingJob", "DescribeTrainingJob"])
def test_throttling_passes(ok, uploaded, proxy, operation, status):
    if operation == "GetCallerIdentity":
        error = "<ErrorResponse><Error><Code>Throttling</Code><Message>Rate exceeded</Message></Error></ErrorResponse>"
        proxy.say_status(operation, status, error.encode(), times=2)
    else:
        proxy.throttle(operation, 2, status=status)
    proxy.seen.clear()
    ok(*TRAIN, "--job", "knn-1")
    assert proxy.seen.count(operation) == 3


def test_throttling_of_an_upload_passes(ok, proxy, folder, aws):
    error = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
    proxy.say_status("PutObject", 503, error, times=2)
    ok("upload", folder / "table.csv", "--channel", "train")
    assert aws("s3").head_object(Bucket=BUCKET, Key="knn-container/knn/data/train/table.csv")["ContentLength"] == 30


def test_throttling_without_end_is_said(run, uploaded, proxy, monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    proxy.throttle("CreateTrainingJob", 9)
    done = run(*TRAIN)
    assert done.status == 1
    assert "CreateTrainingJob was refused: ThrottlingException: Rate exceeded" in done.err
    assert proxy.seen.count("CreateTrainingJob") == 2


def test_a_broken_answer_to_a_question_is_asked_again(ok, uploaded, proxy):
    proxy.break_body("DescribeTrainingJob", times=2)
    done = ok(*TRAIN, "--job", "knn-1")
    assert proxy.seen.count("DescribeTrainingJob") == 3
    assert done.json["job"] == "knn-1"


def test_a_broken_answer_to_an_order_is_an_error(run, uploaded, proxy, aws):
    proxy.break_body("CreateTrainingJob")
    done = run(*TRAIN, "--job", "knn-1")
    assert done.status == 1
    assert "CreateTrainingJob: the answer cannot be read, so that it may have happened or not" in done.err
    # It has happened; a second order would have been refused, and the first would have been paid for unseen.
    assert aws("sagemaker").describe_training_job(TrainingJobName="knn-1")["TrainingJobStatus"] == "Completed"
    assert proxy.seen.count("CreateTrainingJob") == 1


@pytest.mark.parametrize("body", [b"<html>proxy login</html>", b"[]", b"1", b'"a"', b"\xff", b""])
@pytest.mark.parametrize("operation", ["GetCallerIdentity", "CreateTrainingJob", "DescribeTrainingJob"])
def test_an_answer_that_is_something_else_is_an_error(run, uploaded, proxy, operation, body):
    proxy.say_status(operation, 200, body, times=4)
    done = run(*TRAIN, "--job", "knn-1")
    assert done.status == 1
    assert f"{operation}: the answer cannot be read, so that it may have happened or not" in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("operation", ["ListObjectsV2", "ListMultipartUploads", "ListEndpoints"])
def test_a_list_that_is_something_else_is_not_empty(run, uploaded, proxy, operation):
    proxy.say_status(operation, 200, b"<html>proxy login</html>")
    done = run("delete", "--yes")
    assert done.status == 1
    assert f"{operation}: the answer cannot be read" in done.err


def test_a_prediction_that_breaks_off_is_an_error(run, proxy):
    proxy.break_body("InvokeEndpoint")
    done = run("invoke", "--body", "1,2")
    assert done.status == 1
    assert "InvokeEndpoint: " in done.err
    assert done.out == ""


def test_what_the_model_refuses_is_said_in_its_words(run, proxy):
    body = (
        b'{"ErrorCode": "CLIENT_ERROR_FROM_MODEL", "Message": "Received client error (400) from all", '
        b'"OriginalStatusCode": 400, "OriginalMessage": "row 1: expected 64 features, 2 came", "__type": "ModelError"}'
    )
    proxy.say_status("InvokeEndpoint", 424, body)
    done = run("invoke", "--body", "1,2")
    assert done.status == 1
    assert "ModelError: the model answered 400: row 1: expected 64 features, 2 came" in done.err


def test_a_refusal_is_said(run, uploaded, proxy):
    body = b'{"__type": "ResourceLimitExceeded", "message": "0 Instances of ml.m5.xlarge for training job usage"}'
    proxy.say_status("CreateTrainingJob", 400, body)
    done = run(*TRAIN)
    assert done.status == 1
    assert "CreateTrainingJob was refused: ResourceLimitExceeded: 0 Instances of ml.m5.xlarge" in done.err
    assert "Made before that" not in done.err


def test_no_credentials(run, proxy, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    done = run("wait", "training", "knn-1")
    assert done.status == 1
    assert "no credentials were found. Log in as you do for the AWS command line" in done.err


def test_no_network(run, proxy, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    done = run("wait", "training", "knn-1")
    assert done.status == 1
    assert 'Could not connect to the endpoint URL: "http://127.0.0.1:1/"' in done.err


def test_what_was_made_before_a_failure_is_deleted(run, ok, trained, proxy, aws):
    proxy.say_status("CreateEndpointConfig", 400, b'{"__type": "ValidationException", "message": "no"}')
    done = run(*DEPLOY)
    assert done.status == 1
    assert "Made before that: Model. To delete all that was made: scripts/sagemaker delete" in done.err
    assert len(aws("sagemaker").list_models()["Models"]) == 1
    ok("delete", "--yes")
    assert aws("sagemaker").list_models()["Models"] == []


@pytest.mark.parametrize(
    ("line", "operation", "answer", "texts"),
    [
        (
            (*TRAIN, "--job", "knn-1"),
            "DescribeTrainingJob",
            {"TrainingJobStatus": "InProgress"},
            ["The training job knn-1 goes on.", "sagemaker wait training knn-1", "sagemaker stop training knn-1"],
        ),
        (
            DEPLOY,
            "DescribeEndpoint",
            {"EndpointStatus": "Creating"},
            ["The endpoint knn-endpoint goes on.", "sagemaker wait endpoint knn-endpoint", "sagemaker delete"],
        ),
    ],
)
def test_ctrl_c_says_what_goes_on(start, uploaded, trained, proxy, wait_for, line, operation, answer, texts):
    proxy.say_json(operation, answer)
    proxy.forever.add(operation)
    process = start(*line)
    wait_for(lambda: proxy.seen.count(operation) > 2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    for text in texts:
        assert text in err
    assert "Traceback" not in err


@pytest.fixture
def large(tmp_path):
    """Two parts of an upload."""
    np.save(tmp_path / "rows.npy", np.ones((70_000, 65), np.float32))
    return tmp_path / "rows.npy"


def objects(s3):
    return [item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])]


def unfinished(s3):
    return s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])


def test_a_killed_upload_leaves_no_object(start, ok, proxy, aws, large):
    came = proxy.hold("UploadPart")
    process = start("upload", large, "--channel", "train")
    assert came.wait(30)
    process.kill()
    process.wait(30)
    s3 = aws("s3")
    assert objects(s3) == []
    assert len(unfinished(s3)) == 1
    del proxy.held["UploadPart"]
    assert "abort 1 unfinished uploads" in ok("delete", "--yes").err
    assert unfinished(s3) == []


def test_an_upload_that_fails_leaves_nothing(run, proxy, aws, large):
    error = b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
    proxy.say_status("UploadPart", 403, error, times=2)
    done = run("upload", large, "--channel", "train")
    assert done.status == 1
    assert "AccessDenied" in done.err
    assert (objects(aws("s3")), unfinished(aws("s3"))) == ([], [])


def test_a_killed_upload_leaves_no_file(start, proxy, large, monkeypatch, tmp_path):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    came = proxy.hold("UploadPart")
    process = start("upload", large, "--channel", "train")
    assert came.wait(30)
    process.kill()
    process.wait(30)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_what_a_killed_deployment_made_is_deleted(start, ok, trained, proxy, aws):
    came = proxy.hold("CreateEndpoint")
    process = start(*DEPLOY)
    assert came.wait(30)
    process.kill()
    process.wait(30)
    sagemaker = aws("sagemaker")
    assert len(sagemaker.list_models()["Models"]) == len(sagemaker.list_endpoint_configs()["EndpointConfigs"]) == 1
    ok("delete", "--yes")
    assert sagemaker.list_models()["Models"] == sagemaker.list_endpoint_configs()["EndpointConfigs"] == []
    assert objects(aws("s3")) == []


def test_a_killed_deletion_is_taken_up(start, ok, trained, proxy, aws):
    ok(*DEPLOY)
    came = proxy.hold("DeleteEndpointConfig")
    process = start("delete", "--yes")
    assert came.wait(30)
    process.kill()
    process.wait(30)
    sagemaker = aws("sagemaker")
    assert sagemaker.list_endpoints()["Endpoints"] == []
    assert len(sagemaker.list_models()["Models"]) == 1
    del proxy.held["DeleteEndpointConfig"]
    ok("delete", "--yes")
    assert sagemaker.list_models()["Models"] == sagemaker.list_endpoint_configs()["EndpointConfigs"] == []
