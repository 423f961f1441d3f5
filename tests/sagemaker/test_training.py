"""Training jobs, against moto's server over a socket."""

import pytest

from knn_sagemaker import waiting

ROLE = "arn:aws:iam::123456789012:role/knn"
BUCKET = "sagemaker-us-west-2-123456789012"
TRAIN = ("train", "--role", ROLE, "--k", 5, "--predictor-type", "classifier", "--sample-size", 2000, "--poll", 0.01)


@pytest.fixture
def uploaded(ok, folder):
    for channel in ("train", "test"):
        ok("upload", folder / "rows.npy", "--labels", folder / "labels.npy", "--channel", channel)


def test_trains(ok, uploaded, aws):
    done = ok(*TRAIN, "--job", "knn-1", "--channel", "train", "--channel", "test")
    assert done.json["job"] == "knn-1"
    assert done.json["model"].startswith(f"s3://{BUCKET}/knn-container/knn/output/")
    job = aws("sagemaker").describe_training_job(TrainingJobName="knn-1")
    assert job["HyperParameters"] == {"k": "5", "predictor_type": "classifier", "sample_size": "2000"}
    assert job["RoleArn"] == ROLE
    image = "123456789012.dkr.ecr.us-west-2.amazonaws.com/knn-container:latest"
    assert job["AlgorithmSpecification"]["TrainingImage"] == image
    assert [channel["ChannelName"] for channel in job["InputDataConfig"]] == ["train", "test"]
    assert "Completed" in done.err


def test_names_a_job_by_the_time(ok, uploaded):
    assert ok(*TRAIN, "--no-wait").json == {"job": "knn-260102-030405"}


def test_shows_progress_and_scores(ok, uploaded, proxy):
    running = {"TrainingJobStatus": "InProgress"}
    proxy.say_json(
        "DescribeTrainingJob",
        running | {"SecondaryStatus": "Starting"},
        running
        | {
            "SecondaryStatus": "Training",
            "SecondaryStatusTransitions": [
                {"Status": "Training", "StartTime": 1, "StatusMessage": "Training image download completed."}
            ],
        },
        running
        | {
            "SecondaryStatus": "Training",
            "SecondaryStatusTransitions": [
                {"Status": "Training", "StartTime": 1, "StatusMessage": "Training image download completed."}
            ],
        },
        {
            "TrainingJobStatus": "Completed",
            "SecondaryStatus": "Completed",
            "ModelArtifacts": {"S3ModelArtifacts": "s3://there/model.tar.gz"},
            "FinalMetricDataList": [{"MetricName": "test:accuracy", "Value": 0.5, "Timestamp": 1}],
            "BillableTimeInSeconds": 61,
        },
    )
    done = ok(*TRAIN, "--job", "knn-1")
    assert done.json == {
        "job": "knn-1",
        "model": "s3://there/model.tar.gz",
        "metrics": {"test:accuracy": 0.5},
        "billable_seconds": 61,
    }
    assert [
        line.partition("  ")[2] if not line.startswith(" ") else line.split("  ", 2)[-1]
        for line in done.err.splitlines()
    ] == [
        "knn-1: InProgress (Starting)",
        "knn-1: InProgress (Training, Training image download completed.)",
        "knn-1: Completed (Completed)",
    ]


def test_says_why_a_job_failed(run, uploaded, proxy):
    reason = "ClientError: Channel 'train', file 'rows.pbr', row 7: expected one label, 2 came."
    proxy.say_json("DescribeTrainingJob", {"TrainingJobStatus": "Failed", "FailureReason": reason})
    done = run(*TRAIN, "--job", "knn-1")
    assert done.status == 1
    assert f"The training job knn-1 ended as Failed: {reason}" in done.err
    assert "Made before that: TrainingJob" in done.err
    assert done.out == ""


def test_a_job_that_was_stopped_is_no_success(run, uploaded, proxy):
    proxy.say_json("DescribeTrainingJob", {"TrainingJobStatus": "Stopped", "SecondaryStatus": "MaxRuntimeExceeded"})
    done = run(*TRAIN, "--job", "knn-1")
    assert done.status == 1
    assert "ended as Stopped: MaxRuntimeExceeded" in done.err


def test_pays_for_nothing_where_a_channel_is_empty(run, proxy):
    done = run(*TRAIN)
    assert done.status == 1
    assert f"The channel train is empty: there is nothing at s3://{BUCKET}/knn-container/knn/data/train/" in done.err
    assert "scripts/sagemaker upload FILE --channel train" in done.err
    assert "CreateTrainingJob" not in proxy.seen


def test_pays_for_nothing_where_a_channel_is_of_another_type(run, ok, folder, proxy):
    ok("upload", folder / "table.csv", "--channel", "train")
    done = run(*TRAIN)
    assert done.status == 1
    assert (
        "table.csv, which is text/csv, and the content type is said to be application/x-recordio-protobuf" in done.err
    )
    assert "CreateTrainingJob" not in proxy.seen
    ok(*TRAIN, "--content-type", "text/csv;label_size=1")


def test_does_not_look_into_others_buckets(ok, proxy):
    ok(*TRAIN, "--channel", "train=s3://others/rows", "--no-wait")
    assert proxy.seen == ["GetCallerIdentity", "CreateTrainingJob"]


def test_does_not_ask_for_the_account_where_it_is_given(ok, proxy):
    ok(*TRAIN, "--channel", "train=s3://others/rows", "--no-wait", "--account", "123456789012")
    assert proxy.seen == ["CreateTrainingJob"]


def test_tunes(ok, uploaded, proxy, aws):
    running = {"HyperParameterTuningJobStatus": "InProgress"}
    counts = {"Completed": 1, "InProgress": 2, "RetryableError": 0, "NonRetryableError": 0, "Stopped": 0}
    proxy.say_json(
        "DescribeHyperParameterTuningJob",
        running | {"TrainingJobStatusCounters": counts},
        {
            "HyperParameterTuningJobStatus": "Completed",
            "BestTrainingJob": {
                "TrainingJobName": "knn-t-002-abc",
                "TunedHyperParameters": {"k": "3"},
                "FinalHyperParameterTuningJobObjectiveMetric": {"MetricName": "test:accuracy", "Value": 0.75},
            },
        },
    )
    done = ok(
        *("tune", "--role", ROLE, "--k", "1:50", "--predictor-type", "classifier", "--sample-size", "2000"),
        *("--channel", "train", "--channel", "test", "--job", "knn-t", "--poll", 0.01),
    )
    assert done.json == {"job": "knn-t", "best_job": "knn-t-002-abc", "objective": 0.75, "hyperparameters": {"k": "3"}}
    assert "InProgress (1 Completed, 2 InProgress)" in done.err
    job = aws("sagemaker").describe_hyper_parameter_tuning_job(HyperParameterTuningJobName="knn-t")
    config = job["HyperParameterTuningJobConfig"]
    assert config["HyperParameterTuningJobObjective"] == {"Type": "Maximize", "MetricName": "test:accuracy"}
    assert config["ParameterRanges"]["IntegerParameterRanges"] == [
        {"Name": "k", "MinValue": "1", "MaxValue": "50", "ScalingType": "Auto"}
    ]
    assert job["TrainingJobDefinition"]["StaticHyperParameters"] == {
        "predictor_type": "classifier",
        "sample_size": "2000",
    }


def test_waits_for_a_job_of_before(ok, uploaded):
    ok(*TRAIN, "--job", "knn-1", "--no-wait")
    assert ok("wait", "training", "knn-1").json["training"] == "knn-1"


@pytest.mark.parametrize(
    ("kind", "operation", "noun"),
    [
        ("training", "StopTrainingJob", "training job"),
        ("tuning", "StopHyperParameterTuningJob", "tuning job"),
        ("transform", "StopTransformJob", "transform job"),
    ],
)
def test_stops_a_job(ok, proxy, kind, operation, noun):
    proxy.say_json(operation, {})  # moto does not know these calls
    assert f"The {noun} knn-1 is being stopped." in ok("stop", kind, "knn-1").err
    assert proxy.seen == [operation]


def test_an_endpoint_cannot_be_stopped(run, proxy):
    done = run("stop", "endpoint", "knn-endpoint")
    assert done.status == 2
    assert "An endpoint cannot be stopped: scripts/sagemaker delete" in done.err


class Clock:
    """Time that passes only in sleep."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def test_gives_a_sign_of_life_each_minute():
    clock, lines = Clock(), []
    answers = iter([{"EndpointStatus": "Creating"}] * 20 + [{"EndpointStatus": "InService"}])

    class Api:
        def send(self, request):
            return next(answers)

    watch = waiting.Watch(Api(), 10, lines.append, clock.sleep, clock)
    watch.until_done(waiting.ENDPOINT, "e")
    assert lines == [
        "  0:00  e: Creating",
        "  1:00  e: Creating",
        "  2:00  e: Creating",
        "  3:00  e: Creating",
        "  3:20  e: InService",
    ]
