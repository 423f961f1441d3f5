"""Endpoints and transforms, against moto's server over a socket."""

import json

import numpy as np
import pytest
import requests

from knn_container.formats import recordio

ROLE = "arn:aws:iam::123456789012:role/knn"
BUCKET = "sagemaker-us-west-2-123456789012"
STAMP = "knn-260102-030405"
MODEL = "knn-container/knn/output/{}/output/model.tar.gz"
FAST = ("--poll", "0.01")


@pytest.fixture
def trained(aws):
    """What two training jobs left."""
    for job in ("knn-1", "knn-2"):
        aws("s3").put_object(Bucket=BUCKET, Key=MODEL.format(job), Body=job.encode())


@pytest.fixture
def deploy(ok, trained):
    def deploy_(*arguments):
        return ok("deploy", "--role", ROLE, "--training-job", "knn-1", *FAST, *arguments)

    return deploy_


def test_deploys(deploy, aws):
    done = deploy()
    assert done.json == {"endpoint": "knn-endpoint", "status": "InService"}
    sagemaker = aws("sagemaker")
    endpoint = sagemaker.describe_endpoint(EndpointName="knn-endpoint")
    assert endpoint["EndpointConfigName"] == STAMP
    config = sagemaker.describe_endpoint_config(EndpointConfigName=STAMP)
    (variant,) = config["ProductionVariants"]
    assert (variant["InstanceType"], variant["InitialInstanceCount"]) == ("ml.m5.large", 1)
    model = sagemaker.describe_model(ModelName=STAMP)["PrimaryContainer"]
    assert model["ModelDataUrl"] == f"s3://{BUCKET}/{MODEL.format('knn-1')}"
    assert model["Image"] == "123456789012.dkr.ecr.us-west-2.amazonaws.com/knn-container:latest"


def test_all_has_the_tag(deploy, aws):
    deploy()
    sagemaker = aws("sagemaker")
    arns = [
        sagemaker.describe_endpoint(EndpointName="knn-endpoint")["EndpointArn"],
        sagemaker.describe_endpoint_config(EndpointConfigName=STAMP)["EndpointConfigArn"],
        sagemaker.describe_model(ModelName=STAMP)["ModelArn"],
    ]
    for arn in arns:
        assert sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "knn-container", "Value": "knn"}]


def test_waits_for_the_endpoint(deploy, proxy):
    proxy.say_json("DescribeEndpoint", {"EndpointStatus": "Creating"}, {"EndpointStatus": "Creating"})
    done = deploy()
    assert proxy.seen.count("DescribeEndpoint") == 3
    assert [line.split(": ")[-1] for line in done.err.splitlines()] == ["Creating", "InService"]


def test_says_why_an_endpoint_failed(run, trained, proxy):
    reason = "The primary container did not pass the ping health check."
    proxy.say_json("DescribeEndpoint", {"EndpointStatus": "Failed", "FailureReason": reason})
    done = run("deploy", "--role", ROLE, "--training-job", "knn-1", *FAST)
    assert done.status == 1
    assert f"The endpoint knn-endpoint ended as Failed: {reason}" in done.err
    assert "Made before that: Model, EndpointConfig, Endpoint. To delete" in done.err


def test_makes_nothing_for_a_model_that_is_not_there(run, proxy):
    done = run("deploy", "--role", ROLE, "--training-job", "knn-9")
    assert done.status == 1
    assert f"There is no model at s3://{BUCKET}/{MODEL.format('knn-9')}" in done.err
    assert "CreateModel" not in proxy.seen


def test_a_multi_model_endpoint_finds_its_models(deploy, aws):
    deploy("--training-job", "knn-2", "--multi-model")
    for job in ("knn-1", "knn-2"):
        copy = aws("s3").get_object(Bucket=BUCKET, Key=f"knn-container/knn/models/{job}.tar.gz")
        assert copy["Body"].read() == job.encode()


def test_says_that_an_endpoint_of_that_name_is_there(run, trained, proxy):
    body = b'{"__type": "ValidationException", "message": "Cannot create already existing endpoint"}'
    proxy.say_status("CreateEndpoint", 400, body)
    done = run("deploy", "--role", ROLE, "--training-job", "knn-1", *FAST)
    assert done.status == 1
    assert "CreateEndpoint was refused: ValidationException: Cannot create already existing endpoint" in done.err


def test_a_copy_that_is_too_large_for_one_request_goes_in_parts(deploy, proxy, aws):
    body = b"<Error><Code>InvalidRequest</Code><Message>The copy source is larger than allowed</Message></Error>"
    proxy.say_status("CopyObject", 400, body)
    deploy("--multi-model")
    copy = aws("s3").get_object(Bucket=BUCKET, Key="knn-container/knn/models/knn-1.tar.gz")
    assert copy["Body"].read() == b"knn-1"


@pytest.fixture
def answering(moto_port):
    """Sets what moto's endpoints answer."""

    def answering_(path, *answers):
        session = requests.Session()
        session.trust_env = False
        with session:
            url = f"http://127.0.0.1:{moto_port}/moto-api/static/sagemaker/{path}"
            found = session.post(url, json={"region": "us-west-2", "results": list(answers)}, timeout=30)
            assert found.status_code == 201

    return answering_


ANSWER = '{"predictions":[{"predicted_label":1.0}]}'


def test_asks(ok, deploy, answering, calls):
    deploy()
    answering("endpoint-results", {"Body": ANSWER, "ContentType": "application/json"})
    assert ok("invoke", "--body", "0.5,1.5", "--verbose").out == ANSWER
    assert calls[-1] == (
        "sagemaker-runtime",
        "InvokeEndpoint",
        {
            "EndpointName": "knn-endpoint",
            "ContentType": "text/csv",
            "Accept": "application/json; verbose=true",
            "Body": b"0.5,1.5",
        },
    )


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("rows.csv", "text/csv"),
        ("rows.jsonl", "application/jsonlines"),
        ("rows.npy", "application/x-recordio-protobuf"),
    ],
)
def test_asks_with_a_file(ok, proxy, folder, calls, name, content_type):
    proxy.say_json("InvokeEndpoint", {})  # moto takes text alone
    ok("invoke", folder / name)
    (_, _, sent) = calls[-1]
    assert sent["ContentType"] == content_type
    if name == "rows.npy":
        assert sent["Body"] == recordio.encode(np.array([[0.5, 1.5], [2.5, 3.5], [4.5, 5.5]], np.float32))
    else:
        assert sent["Body"] == (folder / name).read_bytes()


def test_one_row_of_numpy_is_a_row(ok, proxy, tmp_path, calls):
    np.save(tmp_path / "row.npy", np.array([1.0, 2.0]))
    proxy.say_json("InvokeEndpoint", {})
    ok("invoke", tmp_path / "row.npy")
    assert calls[-1][2]["Body"] == recordio.encode(np.array([[1.0, 2.0]], np.float32))


def test_writes_the_answer_into_a_file(ok, answering, tmp_path):
    answering("endpoint-results", {"Body": ANSWER, "ContentType": "application/json"})
    done = ok("invoke", "--body", "1,2", "--output", tmp_path / "deep/answer.json")
    assert done.out == ""
    assert (tmp_path / "deep/answer.json").read_text() == ANSWER
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["answer.json"]


def test_a_body_that_is_too_large_is_not_sent(run, proxy, tmp_path):
    (tmp_path / "a.csv").write_bytes(b"1,2\n" * 1_572_865)  # 4 bytes more than 6 MiB
    done = run("invoke", tmp_path / "a.csv")
    assert done.status == 2
    assert "The body has 6,291,460 bytes, and an endpoint takes 6,291,456" in done.err
    assert "InvokeEndpoint" not in proxy.seen


def test_asks_later(ok, deploy, answering, aws):
    deploy("--async")
    answering("async-endpoint-results", {"data": ANSWER})
    assert json.loads(ok("invoke", "--body", "0.5,1.5", "--async", *FAST).out) == json.loads(ANSWER)
    asked = aws("s3").get_object(Bucket=BUCKET, Key=f"knn-container/knn/async/input/{STAMP}")
    assert (asked["Body"].read(), asked["ContentType"]) == (b"0.5,1.5", "text/csv")


def test_waits_for_the_answer(ok, answering, proxy):
    answering("async-endpoint-results", {"data": ANSWER})
    missing = b"<Error><Code>NoSuchKey</Code><Message>not yet</Message></Error>"
    proxy.say_status("GetObject", 404, missing, times=4)
    assert json.loads(ok("invoke", "--body", "1,2", "--async", *FAST).out) == json.loads(ANSWER)
    assert proxy.seen.count("GetObject") == 5


def test_says_why_there_is_no_answer(run, proxy, answering):
    answering("async-endpoint-results", {"data": "row 1: expected 2 features, 3 came", "is_failure": True})
    done = run("invoke", "--body", "1,2,3", "--async", *FAST)
    assert done.status == 1
    assert "The model answered: row 1: expected 2 features, 3 came" in done.err


def test_does_not_wait_for_ever(run, proxy, answering):
    answering("async-endpoint-results", {"data": ANSWER})
    done = run("invoke", "--body", "1,2", "--async", *FAST, "--timeout", 0)
    assert done.status == 1
    assert "No answer within 0 seconds; it will be at s3://" in done.err


def test_transforms(ok, trained, aws):
    # moto's jobs write nothing.
    prefix = "knn-container/knn/transform/knn-b/"
    aws("s3").put_object(Bucket=BUCKET, Key=f"{prefix}deep/rows.pbr.out", Body=b"answers")
    done = ok("transform", "--role", ROLE, "--training-job", "knn-1", "--job", "knn-b", *FAST)
    assert done.json == {"job": "knn-b", "output": f"s3://{BUCKET}/{prefix}"}
    job = aws("sagemaker").describe_transform_job(TransformJobName="knn-b")
    assert job["ModelName"] == STAMP
    assert (
        job["TransformInput"]["DataSource"]["S3DataSource"]["S3Uri"] == f"s3://{BUCKET}/knn-container/knn/data/batch/"
    )


def test_fetches_what_a_transform_wrote(ok, trained, aws, tmp_path):
    prefix = "knn-container/knn/transform/knn-b/"
    aws("s3").put_object(Bucket=BUCKET, Key=f"{prefix}deep/rows.pbr.out", Body=b"answers")
    line = ("transform", "--role", ROLE, "--training-job", "knn-1", "--job", "knn-b", *FAST)
    done = ok(*line, "--download", tmp_path / "answers")
    assert done.json["files"] == [str(tmp_path / "answers/deep/rows.pbr.out")]
    assert (tmp_path / "answers/deep/rows.pbr.out").read_bytes() == b"answers"


def test_fetches_nothing_out_of_the_folder(run, trained, aws, tmp_path):
    prefix = "knn-container/knn/transform/knn-b/"
    aws("s3").put_object(Bucket=BUCKET, Key=f"{prefix}../../../../evil", Body=b"")
    line = ("transform", "--role", ROLE, "--training-job", "knn-1", "--job", "knn-b", *FAST)
    done = run(*line, "--download", tmp_path / "answers")
    assert done.status == 1
    assert "has a name that leads out of" in done.err


def without_bodies(calls):
    return [
        (service, operation, {name: value for name, value in parameters.items() if name not in ("Body", "CopySource")})
        for service, operation, parameters in calls
    ]


@pytest.mark.parametrize(
    "line",
    [
        ("upload", "FOLDER/rows.npy", "--channel", "train", "--labels", "FOLDER/labels.npy"),
        ("train", "--k", 5, "--predictor-type", "classifier", "--sample-size", 9, "--channel", "train", "--spot"),
        ("deploy", "--training-job", "knn-1"),
        ("deploy", "--training-job", "knn-1", "--serverless"),
        ("deploy", "--training-job", "knn-1", "--async"),
        ("deploy", "--training-job", "knn-1", "--training-job", "knn-2", "--multi-model"),
        ("transform", "--training-job", "knn-1"),
        ("invoke", "--body", "1,2"),
        ("wait", "training", "knn-0"),
    ],
)
def test_sends_what_the_dry_run_prints(ok, trained, folder, calls, line):
    ok("upload", folder / "table.npy", "--channel", "train")
    first = ("train", "--role", ROLE, "--k", 5, "--predictor-type", "classifier", "--sample-size", 9, "--no-wait")
    ok(*first, "--job", "knn-0")
    role = ("--role", ROLE) if line[0] in ("train", "deploy", "transform") else ()
    poll = () if line[0] == "upload" else FAST
    command = [str(it).replace("FOLDER", str(folder)) for it in (*line, *role, *poll)]
    planned = ok(*command, "--dry-run", "--account", "123456789012").json
    calls.clear()
    ok(*command, "--account", "123456789012")
    wanted = [(step["service"], step["operation"], step["parameters"]) for step in planned]
    assert without_bodies(calls) == without_bodies(wanted)
