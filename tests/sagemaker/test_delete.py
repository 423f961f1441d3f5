"""What `delete` finds, and what it leaves alone."""

import json
import os
import pty

import pytest

import knn_sagemaker.made

ROLE = "arn:aws:iam::123456789012:role/knn"
BUCKET = "sagemaker-us-west-2-123456789012"
MODEL = "knn-container/{}/output/{}/output/model.tar.gz"


@pytest.fixture
def made(ok, aws, folder):
    """All that the commands make, under two names; and what others made."""
    for name in ("knn", "knn-2"):
        job = f"{name}-1"
        aws("s3").put_object(Bucket=BUCKET, Key=MODEL.format(name, job), Body=b"model")
        options = ("--name", name, "--poll", 0.01)
        ok("upload", folder / "table.npy", "--channel", "train", "--name", name)
        ok("deploy", "--role", ROLE, "--training-job", job, *options)
    sagemaker = aws("sagemaker")
    model = {"ExecutionRoleArn": ROLE, "PrimaryContainer": {"Image": "x", "ModelDataUrl": "s3://x/y"}}
    sagemaker.create_model(ModelName="knn-of-another", **model)
    sagemaker.create_model(ModelName="my-knn-model", Tags=[{"Key": "knn-container", "Value": "knn"}], **model)
    aws("s3").put_object(Bucket=BUCKET, Key="others", Body=b"")


def left(aws):
    sagemaker, s3 = aws("sagemaker"), aws("s3")
    return {
        "endpoints": [it["EndpointName"] for it in sagemaker.list_endpoints()["Endpoints"]],
        "configs": len(sagemaker.list_endpoint_configs()["EndpointConfigs"]),
        "models": sorted(it["ModelName"] for it in sagemaker.list_models()["Models"]),
        "objects": sorted(item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])),
    }


def test_deletes_its_own_and_nothing_else(ok, made, aws):
    done = ok("delete", "--yes")
    assert left(aws) == {
        "endpoints": ["knn-2-endpoint"],
        "configs": 1,
        "models": ["knn-2-260102-030405", "knn-of-another", "my-knn-model"],
        "objects": ["knn-container/knn-2/data/train/table.pbr", MODEL.format("knn-2", "knn-2-1"), "others"],
    }
    assert done.err.splitlines()[:4] == [
        "delete the endpoint knn-endpoint",
        "delete the endpoint configuration knn-260102-030405",
        "delete the model knn-260102-030405",
        f"delete 2 objects below s3://{BUCKET}/knn-container/knn/",
    ]


def test_a_second_time_there_is_nothing(ok, made):
    ok("delete", "--yes")
    assert "There is nothing that was made under the name knn." in ok("delete", "--yes").err


def test_another_bucket_that_is_not_there_is_no_error(ok, made, aws):
    ok("delete", "--yes", "--bucket", "nobodys")
    assert left(aws)["endpoints"] == ["knn-2-endpoint"]


def test_asks_first(run, made, aws):
    done = run("delete")
    assert done.status == 2
    assert "--yes: needed where nobody can be asked." in done.err
    assert "delete the endpoint knn-endpoint" in done.err
    assert len(left(aws)["endpoints"]) == 2


@pytest.mark.parametrize(("typed", "status", "endpoints"), [("y\n", 0, 1), ("n\n", 1, 2), ("\n", 1, 2)])
def test_does_what_is_answered(made, aws, typed, status, endpoints, run, monkeypatch):
    ours, theirs = pty.openpty()
    with os.fdopen(theirs) as terminal, os.fdopen(ours, "w") as keyboard:
        monkeypatch.setattr("sys.stdin", terminal)
        keyboard.write(typed)
        keyboard.flush()
        assert run("delete").status == status
    assert len(left(aws)["endpoints"]) == endpoints


@pytest.fixture
def running(ok, proxy, folder, aws):
    """A training job that the list says to be in a state."""
    ok("upload", folder / "table.npy", "--channel", "train")
    hyperparameters = ("--k", 5, "--predictor-type", "classifier", "--sample-size", 9)
    ok("train", "--role", ROLE, *hyperparameters, "--job", "knn-1", "--no-wait")
    arn = aws("sagemaker").describe_training_job(TrainingJobName="knn-1")["TrainingJobArn"]
    proxy.seen.clear()

    def running_(status):
        summary = {"TrainingJobName": "knn-1", "TrainingJobArn": arn, "CreationTime": 1, "TrainingJobStatus": status}
        answers = [
            {"TrainingJobSummaries": [summary] if status == asked else []} for asked in ("InProgress", "Stopping")
        ]
        proxy.say_json("ListTrainingJobs", *answers)

    return running_


def order(proxy):
    return [it for it in proxy.seen if it in ("StopTrainingJob", "DescribeTrainingJob", "DeleteObjects")]


def test_stops_jobs_that_run_and_waits_for_their_end(ok, proxy, running):
    running("InProgress")
    proxy.say_json("StopTrainingJob", {})  # moto does not know it
    proxy.say_json("DescribeTrainingJob", {"TrainingJobStatus": "Stopping"}, {"TrainingJobStatus": "Stopped"})
    done = ok("delete", "--yes", "--poll", 0.01)
    assert "stop the training job knn-1" in done.err
    assert order(proxy) == ["StopTrainingJob", "DescribeTrainingJob", "DescribeTrainingJob", "DeleteObjects"]


def test_waits_for_jobs_that_are_being_stopped(ok, proxy, running):
    running("Stopping")
    proxy.say_json("DescribeTrainingJob", {"TrainingJobStatus": "Stopped"})
    assert "wait for the training job knn-1" in ok("delete", "--yes", "--poll", 0.01).err
    assert order(proxy) == ["DescribeTrainingJob", "DeleteObjects"]


def test_a_job_that_has_ended_meanwhile_is_no_error(ok, proxy, running):
    running("InProgress")
    proxy.say_status("StopTrainingJob", 400, b'{"__type": "ValidationException", "message": "is in status Completed"}')
    ok("delete", "--yes", "--poll", 0.01)


def test_a_job_that_may_not_be_stopped_is_named(run, proxy, running):
    running("InProgress")
    proxy.say_status("StopTrainingJob", 400, b'{"__type": "AccessDeniedException", "message": "no"}')
    done = run("delete", "--yes", "--poll", 0.01)
    assert done.status == 1
    assert "stop the training job knn-1: StopTrainingJob was refused: AccessDeniedException: no" in done.err


def test_one_that_cannot_be_deleted_does_not_keep_the_rest(run, made, proxy, aws):
    body = {"__type": "ValidationException", "message": "Cannot update in-progress endpoint"}
    proxy.say_status("DeleteEndpoint", 400, json.dumps(body).encode())
    done = run("delete", "--yes")
    assert done.status == 1
    assert "Not all is deleted; try again later:" in done.err
    assert "delete the endpoint knn-endpoint: DeleteEndpoint was refused: ValidationException: Cannot" in done.err
    assert left(aws)["configs"] == 1
    assert run("delete", "--yes").status == 0
    assert left(aws)["endpoints"] == ["knn-2-endpoint"]


def test_objects_that_stay_are_said(run, made, proxy):
    body = (
        b"<DeleteResult><Error><Key>a</Key><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        b"</DeleteResult>"
    )
    proxy.say_status("DeleteObjects", 200, body)
    done = run("delete", "--yes")
    assert done.status == 1
    assert "1 objects stay, the first is a: Access Denied" in done.err


def test_many_objects_go_some_at_a_time(ok, aws, proxy, monkeypatch):
    assert knn_sagemaker.made.KEYS_AT_A_TIME == 1000  # S3's limit
    monkeypatch.setattr(knn_sagemaker.made, "KEYS_AT_A_TIME", 10)
    s3 = aws("s3")
    for i in range(11):
        s3.put_object(Bucket=BUCKET, Key=f"knn-container/knn/{i:04}", Body=b"")
    ok("delete", "--yes")
    assert proxy.seen.count("DeleteObjects") == 2
    assert left(aws)["objects"] == []


def test_deletes_the_repository_only_if_told(ok, aws):
    ecr = aws("ecr")
    ecr.create_repository(repositoryName="knn-container", tags=[{"Key": "knn-container", "Value": "knn"}])
    ok("delete", "--yes")
    assert len(ecr.describe_repositories()["repositories"]) == 1
    assert "delete the repository knn-container and all images" in ok("delete", "--yes", "--delete-repository").err
    assert ecr.describe_repositories()["repositories"] == []
    ok("delete", "--yes", "--delete-repository")


@pytest.mark.parametrize("tags", [[], [{"Key": "knn-container", "Value": "knn-2"}]])
def test_leaves_a_repository_that_is_not_its_own(run, proxy, aws, tags):
    aws("ecr").create_repository(repositoryName="knn-container", tags=tags)
    done = run("delete", "--yes", "--delete-repository")
    assert done.status == 1
    assert "The repository knn-container was not made under the name knn, or not by this program" in done.err
    assert len(aws("ecr").describe_repositories()["repositories"]) == 1
