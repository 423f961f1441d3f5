"""What each command would send: checked against botocore's models of the services, and sent by nobody."""

import itertools
import json
import os
import re
import shlex
import socket
import subprocess
import sys

import pytest

from knn_sagemaker import iam
from knn_sagemaker.commands import COMMANDS

ROLE = "arn:aws:iam::123456789012:role/knn"
KEY = "arn:aws:kms:us-west-2:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
TOPIC = "arn:aws:sns:us-west-2:123456789012:told"
TRAIN = "--role ROLE --k 5 --predictor-type classifier --sample-size 2000"
VPC = "--subnet subnet-0123 --subnet subnet-4567 --security-group sg-0123"
LINES = """
push
push --image mine:1 --repository team/knn --tag 1.0 --registry 127.0.0.1:5000
upload FOLDER/rows.npy --labels FOLDER/labels.npy --channel train
upload FOLDER/table.npy --channel train --kms-key KEY
upload FOLDER/table.csv --channel test
upload FOLDER/rows.csv --unlabelled --channel batch
upload FOLDER/rows.jsonl --unlabelled --channel batch
upload FOLDER/large.npy --channel train
train TRAIN
train TRAIN --channel train --channel test --content-type text/csv;label_size=1 --input-mode FastFile
train TRAIN --channel train=s3://others/rows/ --input-mode Pipe --compression Gzip --distribution ShardedByS3Key
train TRAIN --instance-type ml.c5.4xlarge --instance-count 3 --volume 100 --encrypt-traffic
train TRAIN --spot --max-runtime 1800 --max-wait 2400
train TRAIN --spot
train TRAIN --output s3://others/models --kms-key KEY VPC --network-isolation --env A=1 --env B=2 --no-wait
train --role ROLE --k 5 --predictor-type regressor --sample-size 9 --index-type faiss.IVFPQ --faiss-index-pq-m 8
train TRAIN --name team-1 --job team-1-a --bucket mine --region eu-central-1 --account 111122223333
train TRAIN --region cn-north-1 --image 1.dkr.ecr.cn-north-1.amazonaws.com.cn/knn@sha256:0
tune --role ROLE --k 1:50 --predictor-type classifier --sample-size 2000 --channel train --channel test
tune --role ROLE --k 1:50 --sample-size 256:100000 --predictor-type regressor --channel train --channel test VPC
tune TRAIN --k 1:9 --channel train --channel test --strategy Random --jobs 50 --parallel 5 --spot --no-wait
tune TRAIN --k 1:9 --channel train --channel test --objective test:accuracy --kms-key KEY --env A=1
deploy --role ROLE --training-job knn-1
deploy --role ROLE --model-data s3://others/model.tar.gz --instance-type ml.c5.xlarge --instance-count 2 --no-wait
deploy --role ROLE --training-job knn-1 --endpoint knn-e --startup-timeout 900 --kms-key KEY VPC --env A=1
deploy --role ROLE --training-job knn-1 --serverless --memory 4096 --concurrency 20
deploy --role ROLE --training-job knn-1 --async --concurrency 4 --success-topic TOPIC --error-topic TOPIC
deploy --role ROLE --training-job knn-1 --async --network-isolation
deploy --role ROLE --training-job knn-1 --training-job knn-2 --multi-model
deploy --role ROLE --model-data s3://others/models/ --multi-model
transform --role ROLE --training-job knn-1
transform --role ROLE --training-job knn-1 --content-type text/csv --join --output-filter $['a'] --input-filter $[1:]
transform --role ROLE --model-data s3://others/model.tar.gz --input s3://others/rows/ --compression Gzip --kms-key KEY
transform --role ROLE --model mine --content-type application/json --strategy SingleRecord --max-payload 20
transform --role ROLE --training-job knn-1 --concurrency 4 --instance-count 2 --download FOLDER/answers
transform --role ROLE --training-job knn-1 VPC --env A=1 --no-wait --accept text/csv
invoke FOLDER/rows.npy --verbose
invoke FOLDER/rows.csv --target-model knn-1.tar.gz --attributes k=3
invoke --body 0.5,1.5 --endpoint knn-e --accept text/csv
invoke FOLDER/rows.jsonl --async
wait training knn-1
wait tuning knn-1
wait transform knn-1
wait endpoint knn-endpoint
stop training knn-1
stop tuning knn-1
stop transform knn-1
delete
delete --delete-repository
""".strip().splitlines()


@pytest.fixture
def words(folder):
    """Splits a line of LINES."""
    table = {"TRAIN": TRAIN, "VPC": VPC}
    values = {"ROLE": ROLE, "KEY": KEY, "TOPIC": TOPIC, "FOLDER": str(folder)}

    def words_(line):
        line = re.sub(r"\b(TRAIN|VPC)\b", lambda found: table[found[0]], line)
        line = re.sub(r"\b(ROLE|KEY|TOPIC|FOLDER)\b", lambda found: values[found[0]], line)
        lexer = shlex.shlex(line, posix=True, punctuation_chars=False)
        lexer.whitespace_split, lexer.quotes = True, ""
        return list(lexer)

    return words_


@pytest.fixture(scope="session", autouse=True)
def large(folder):
    """A file whose records are more than one part of an upload."""
    import numpy as np  # noqa: PLC0415

    rows = np.zeros((70_000, 65), np.float32)
    np.save(folder / "large.npy", rows)


@pytest.fixture
def offline(monkeypatch):
    """No network, no credentials, no configuration, no programs."""
    for variable in [name for name in os.environ if name.startswith(("AWS_", "KNN_SAGEMAKER_"))]:
        monkeypatch.delenv(variable)
    for variable in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(variable, os.devnull)

    def refuse(*arguments, **_):
        raise AssertionError(f"a dry run connects: {arguments}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(subprocess, "run", refuse)


@pytest.fixture
def dry(offline, run, words):
    """The steps of a line of LINES."""

    def dry_(line):
        done = run(*words(line), "--dry-run")
        assert done.status == 0, done.err
        return done.json

    return dry_


@pytest.mark.parametrize("line", LINES)
def test_every_request_fits_the_service(dry, assert_fits, line):
    requests = [step for step in dry(line) if "command" not in step]
    assert requests
    for request in requests:
        # An address that only an answer gives stands in angle brackets.
        text = json.dumps(request["parameters"]).replace("<each type>", "model")
        parameters = json.loads(re.sub(r"<[^>]*>", "x", text))
        assert_fits(request["service"], request["operation"], parameters)


def test_all_commands_are_tried():
    tried = {line.split()[0] for line in LINES}
    assert tried == {command.name for command in COMMANDS if command.plan}


def test_the_policy_knows_exactly_the_requests(dry):
    steps = itertools.chain.from_iterable(map(dry, LINES))
    sent = {"docker push" if "command" in step else f"{step['service']}.{step['operation']}" for step in steps}
    assert sent == set(iam.NEEDS)


def test_needs_nothing_of_the_machine(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "knn_sagemaker", "train", *shlex.split(TRAIN.replace("ROLE", ROLE)), "--dry-run"],
        # A closed port: what connects fails.
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "AWS_ENDPOINT_URL": "http://127.0.0.1:1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    identity, *_, create, _ = json.loads(done.stdout)
    assert identity["operation"] == "GetCallerIdentity"
    assert create["parameters"]["AlgorithmSpecification"]["TrainingImage"].startswith("111122223333.dkr.ecr.us-west-2")
    assert "The account 111122223333 is an example" in done.stderr


def created(steps, operation):
    (found,) = [step["parameters"] for step in steps if step.get("operation") == operation]
    return found


def test_spot_waits_and_runs(dry):
    job = created(dry("train TRAIN --spot"), "CreateTrainingJob")
    assert job["EnableManagedSpotTraining"] is True
    assert job["StoppingCondition"] == {"MaxRuntimeInSeconds": 3600, "MaxWaitTimeInSeconds": 3600}
    job = created(dry("train TRAIN --spot --max-runtime 1800 --max-wait 2400"), "CreateTrainingJob")
    assert job["StoppingCondition"] == {"MaxRuntimeInSeconds": 1800, "MaxWaitTimeInSeconds": 2400}
    job = created(dry("train TRAIN --spot --max-runtime 7200"), "CreateTrainingJob")
    assert job["StoppingCondition"] == {"MaxRuntimeInSeconds": 7200, "MaxWaitTimeInSeconds": 7200}


def test_a_channel_is_what_the_options_say(dry):
    line = "train TRAIN --channel train=s3://others/rows/ --input-mode Pipe --compression Gzip "
    job = created(dry(line + "--distribution ShardedByS3Key"), "CreateTrainingJob")
    assert job["InputDataConfig"] == [
        {
            "ChannelName": "train",
            "DataSource": {
                "S3DataSource": {
                    "S3DataType": "S3Prefix",
                    "S3Uri": "s3://others/rows/",
                    "S3DataDistributionType": "ShardedByS3Key",
                }
            },
            "ContentType": "application/x-recordio-protobuf",
            "CompressionType": "Gzip",
            "InputMode": "Pipe",
        }
    ]
    assert job["AlgorithmSpecification"]["TrainingInputMode"] == "Pipe"


def test_machines_are_what_the_options_say(dry):
    line = f"train TRAIN --output s3://others/models --kms-key KEY {VPC} --network-isolation --env A=1 --env B=2"
    job = created(
        dry(line + " --instance-type ml.c5.4xlarge --instance-count 3 --encrypt-traffic"), "CreateTrainingJob"
    )
    assert job["OutputDataConfig"] == {"S3OutputPath": "s3://others/models", "KmsKeyId": KEY}
    assert job["ResourceConfig"] == {
        "InstanceType": "ml.c5.4xlarge",
        "InstanceCount": 3,
        "VolumeSizeInGB": 30,
        "VolumeKmsKeyId": KEY,
    }
    assert job["VpcConfig"] == {"Subnets": ["subnet-0123", "subnet-4567"], "SecurityGroupIds": ["sg-0123"]}
    assert job["Environment"] == {"A": "1", "B": "2"}
    assert job["EnableNetworkIsolation"] is True
    assert job["EnableInterContainerTrafficEncryption"] is True


def test_a_regressor_is_tuned_for_its_error(dry):
    line = "tune --role ROLE --k 1:50 --sample-size 256:100000 --predictor-type regressor"
    job = created(dry(line + " --channel train --channel test"), "CreateHyperParameterTuningJob")
    config = job["HyperParameterTuningJobConfig"]
    assert config["HyperParameterTuningJobObjective"] == {"Type": "Minimize", "MetricName": "test:mse"}
    assert config["ParameterRanges"]["IntegerParameterRanges"] == [
        {"Name": "k", "MinValue": "1", "MaxValue": "50", "ScalingType": "Auto"},
        {"Name": "sample_size", "MinValue": "256", "MaxValue": "100000", "ScalingType": "Auto"},
    ]
    assert job["TrainingJobDefinition"]["StaticHyperParameters"] == {"predictor_type": "regressor"}


def test_a_serverless_endpoint_has_no_instances(dry):
    line = "deploy --role ROLE --training-job knn-1 --serverless --memory 4096 --concurrency 20"
    (variant,) = created(dry(line), "CreateEndpointConfig")["ProductionVariants"]
    assert variant["ServerlessConfig"] == {"MemorySizeInMB": 4096, "MaxConcurrency": 20}
    assert "InstanceType" not in variant


def test_an_asynchronous_endpoint_answers_into_the_bucket(dry):
    line = "deploy --role ROLE --training-job knn-1 --async --concurrency 4 --error-topic TOPIC --bucket mine"
    assert created(dry(line), "CreateEndpointConfig")["AsyncInferenceConfig"] == {
        "OutputConfig": {
            "S3OutputPath": "s3://mine/knn-container/knn/async/output",
            "S3FailurePath": "s3://mine/knn-container/knn/async/failure",
            "NotificationConfig": {"ErrorTopic": TOPIC},
        },
        "ClientConfig": {"MaxConcurrentInvocationsPerInstance": 4},
    }


def test_a_multi_model_endpoint_gets_copies(dry):
    steps = dry("deploy --role ROLE --training-job knn-1 --training-job knn-2 --multi-model --bucket mine")
    copies = [step["parameters"] for step in steps if step["operation"] == "CopyObject"]
    assert [(copy["CopySource"], copy["Key"]) for copy in copies] == [
        (f"mine/knn-container/knn/output/{job}/output/model.tar.gz", f"knn-container/knn/models/{job}.tar.gz")
        for job in ("knn-1", "knn-2")
    ]
    model = created(steps, "CreateModel")
    assert model["PrimaryContainer"]["Mode"] == "MultiModel"
    assert model["PrimaryContainer"]["ModelDataUrl"] == "s3://mine/knn-container/knn/models/"


@pytest.mark.parametrize(
    ("content_type", "split"),
    [
        ("text/csv", "Line"),
        ("application/jsonlines", "Line"),
        ("application/x-recordio-protobuf", "RecordIO"),
        ("application/json", "None"),
    ],
)
def test_a_batch_is_split_by_its_type(dry, content_type, split):
    line = f"transform --role ROLE --training-job knn-1 --content-type {content_type}"
    assert created(dry(line), "CreateTransformJob")["TransformInput"]["SplitType"] == split


def test_regions_of_china_have_their_own_names(dry):
    (tags,) = [it for it in dry("delete --region cn-north-1") if it.get("operation") == "ListTags"]
    assert tags["parameters"]["ResourceArn"].startswith("arn:aws-cn:sagemaker:cn-north-1:")
    steps = dry("deploy --role ROLE --training-job knn-1 --region cn-north-1")
    image = created(steps, "CreateModel")["PrimaryContainer"]["Image"]
    assert image == "111122223333.dkr.ecr.cn-north-1.amazonaws.com.cn/knn-container:latest"
