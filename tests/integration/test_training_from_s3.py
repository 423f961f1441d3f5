"""`train` with channels and results in S3, against a store on a loopback port and a proxy that fails."""

import gzip
import io
import json
import re
import signal
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
import s3_store

CSV, RECORDIO = "text/csv;label_size=1", "application/x-recordio-protobuf"
README = Path(__file__).parents[2] / "README.md"
TWO = ["127.0.0.41", "127.0.0.42"]
MODEL = ["ids.npy", "index.faiss", "labels.npy", "manifest.json"]


@pytest.fixture(scope="module")
def store():
    with s3_store.store() as opened:
        yield opened


@pytest.fixture
def proxy(store):
    with s3_store.proxy(store) as opened:
        yield opened


@pytest.fixture
def aws(proxy, tmp_path):
    """What boto3 is to find."""
    return s3_store.environment(proxy.endpoint, tmp_path)


def prefix(bucket, key, distribution=None, content_type=CSV, **entry):
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{bucket}/{key}"}
    if distribution:
        source["S3DistributionType"] = distribution
    return {"ContentType": content_type, "TrainingInputMode": "File", "DataSource": {"S3DataSource": source}} | entry


@pytest.fixture
def make_job(write_job):
    """Lays out a job whose data are in S3; `output` is its S3OutputPath."""

    def make(channels, output=None, files=(), host=None, hosts=(), **hyperparameters):
        base = write_job(dict(files), **hyperparameters)
        config = base / "input" / "config"
        (config / "inputdataconfig.json").write_text(json.dumps(channels))
        if output:
            (config / "outputdataconfig.json").write_text(json.dumps({"S3OutputPath": output}))
        if host:
            resources = {"current_host": host, "hosts": hosts}
            (config / "resourceconfig.json").write_text(json.dumps(resources))
        return base

    return make


@pytest.fixture(scope="module")
def parts(digits, csv):
    """The digits as CSV in several files, one of them packed by gzip."""
    cut = [csv(digits.train_rows[at : at + 150], digits.train_labels[at : at + 150]) for at in range(0, 1000, 150)]
    names = ["b.csv", "a.csv", "deep/er/c.csv", "deep/d", "ü e.csv", "a-f.csv.gz", "z"]
    files = dict(zip(names, cut, strict=True))
    return files | {"a-f.csv.gz": gzip.compress(files["a-f.csv.gz"])}


@pytest.fixture(scope="module")
def test_part(digits, csv):
    return csv(digits.test_rows, digits.test_labels)


@pytest.fixture(scope="module")
def bucket(store, parts, test_part):
    train = {f"data/train/{name}": content for name, content in parts.items()}
    hidden = {"data/train/_SUCCESS": b"", "data/train/.m/x": b"no rows", "data/train/": b"", "data/train/e/": b""}
    return store.bucket(train | hidden | {"data/test/t.csv": test_part, "data/train-other/x": b"no rows"})


@pytest.fixture(scope="module")
def local(write_job, train, parts, test_part):
    """The same files, trained on as the platform stages them; with a sample of 700 rows of the 1,000."""
    files = {f"train/{name}": content for name, content in parts.items()} | {"test/t.csv": test_part}
    base = write_job(files, sample_size=700)
    done = train(base)
    assert done.returncode == 0, done.stdout
    return base


def succeed(process):
    log = process.communicate(timeout=100)[0]
    assert process.returncode == 0, log
    return log


def fails(base, done, starts, *contains):
    assert done.returncode == 1, done.stdout
    failure = (base / "output" / "failure").read_text()
    assert failure.startswith(starts), failure
    assert all(it in failure for it in contains), failure
    assert failure in done.stdout
    assert "Traceback" not in done.stdout
    return failure


def has_no_model(base):
    return not (base / "model" / "manifest.json").exists() and not (base / "output" / "model.tar.gz").exists()


def model_of(base):
    assert sorted(path.name for path in (base / "model").iterdir()) == MODEL
    return {name: (base / "model" / name).read_bytes() for name in MODEL}


def manifest(base):
    return json.loads((base / "model" / "manifest.json").read_text())


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class TestChannels:
    def test_a_prefix_gives_the_model_of_the_files(self, make_job, train, aws, bucket, local):
        channels = {"train": prefix(bucket, "data/train/"), "test": prefix(bucket, "data/test/")}
        base = make_job(channels, sample_size=700)
        done = train(base, **aws)
        assert done.returncode == 0, done.stdout
        assert model_of(base) == model_of(local)
        reports = [json.loads((it / "output/data/evaluation.json").read_text()) for it in (base, local)]
        assert reports[0]["scores"] == reports[1]["scores"]
        assert reports[0]["rows"] == 797
        assert f"s3://{bucket}/data/train/: 7 objects" in done.stdout

    def test_one_object_is_a_channel_too(self, make_job, train, aws, bucket, write_job, parts):
        base = make_job({"train": prefix(bucket, "data/train/b.csv")})
        alone = write_job({"train/b.csv": parts["b.csv"]})
        for it in (base, alone):
            assert train(it, **aws).returncode == 0
        assert model_of(base) == model_of(alone)

    @pytest.mark.parametrize("mode", ["File", pytest.param("FastFile", marks=pytest.mark.slow), "Pipe"])
    def test_a_manifest_of_recordio_in_every_input_mode(
        self, store, make_job, train, aws, write_job, recordio, digits, mode
    ):
        # As the SDK's record_set lays it out.
        rows = [recordio.rows(digits.train_rows[at::2], digits.train_labels[at::2]) for at in (0, 1)]
        files = {f"matrix_{number}.pbr": content for number, content in enumerate(rows)}
        folder = "sagemaker-record-sets/KNN-2026"
        names = [{"prefix": f"s3://BUCKET/{folder}/"}, *files]
        bucket = store.bucket({f"{folder}/{name}": content for name, content in files.items()})
        text = json.dumps(names).replace("BUCKET", bucket)
        store.client.put_object(Bucket=bucket, Key=f"{folder}/.amazon.manifest", Body=text.encode())
        source = {
            "S3DataType": "ManifestFile",
            "S3Uri": f"s3://{bucket}/{folder}/.amazon.manifest",
            "S3DataDistributionType": "ShardedByS3Key",
        }
        entry = {"TrainingInputMode": mode, "RecordWrapperType": "RecordIO", "DataSource": {"S3DataSource": source}}
        base = make_job({"train": entry})
        alone = write_job({f"train/{name}": content for name, content in files.items()}, content_type=RECORDIO)
        for it in (base, alone):
            done = train(it, **aws)
            assert done.returncode == 0, done.stdout
        assert model_of(base) == model_of(alone)

    def test_it_is_read_in_place_of_what_is_in_the_folder(self, make_job, train, aws, bucket, local):
        base = make_job({"train": prefix(bucket, "data/train/")}, files={"train/x.csv": b"no rows"}, sample_size=700)
        assert train(base, **aws).returncode == 0
        assert model_of(base) == model_of(local)

    def test_one_channel_may_be_in_s3_and_the_other_in_a_folder(self, make_job, train, aws, bucket, local, test_part):
        channels = {"train": prefix(bucket, "data/train/"), "test": {"ContentType": CSV}}
        base = make_job(channels, files={"test/t.csv": test_part}, sample_size=700)
        done = train(base, **aws)
        assert done.returncode == 0, done.stdout
        assert (base / "output/data/evaluation.json").exists()

    @pytest.mark.parametrize(
        "distribution", ["ShardedByS3Key", "FullyReplicated", pytest.param(None, marks=pytest.mark.slow)]
    )
    def test_two_hosts_give_the_model_of_one(self, make_job, start_training, aws, store, bucket, local, distribution):
        channels = {
            "train": prefix(bucket, "data/train/", distribution),
            "test": prefix(bucket, "data/test/", distribution),
        }
        output = store.bucket()
        bases = [make_job(channels, f"s3://{output}", host=host, hosts=TWO, sample_size=700) for host in TWO]
        logs = [succeed(process) for process in [start_training(base, **aws) for base in bases]]
        assert model_of(bases[0]) == model_of(local)
        seen = [int(re.search(r"/data/train/: (\d+) objects", log)[1]) for log in logs]
        assert sum(seen) == 7 if distribution == "ShardedByS3Key" else seen == [7, 7]
        assert min(seen) > 0
        report = json.loads((bases[0] / "output/data/evaluation.json").read_text())
        assert report["scores"] == json.loads((local / "output/data/evaluation.json").read_text())["scores"]
        # The leading host alone uploads.
        assert store.keys(output) == ["output/model.tar.gz", "output/output.tar.gz"]
        assert store.get(output, "output/model.tar.gz") == (bases[0] / "output/model.tar.gz").read_bytes()
        assert not (bases[1] / "output/model.tar.gz").exists()

    def test_small_objects_are_read_side_by_side(self, store, proxy, make_job, train, aws):
        bucket = store.bucket({f"d/{name}": b"1,2\n" for name in range(33)})
        proxy.fail(s3_store.slowly(0.5), times=33, of="/d/")
        base = make_job({"train": prefix(bucket, "d/")})
        began = time.monotonic()
        assert train(base, **aws).returncode == 0
        # The first one, then 32 by 8 readers: 2.5 seconds, and the program's start; two by two it takes 8.5.
        assert time.monotonic() - began < 8
        assert manifest(base)["rows_read"] == 33

    def test_the_readmes_example(self, store, make_job, train, aws, parts, local):
        section = re.search(r"^## Data and models in S3\n(.*?)^## ", README.read_text(), re.MULTILINE | re.DOTALL)[1]
        examples = re.findall(r"^```json\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
        bucket = store.bucket({f"digits/train/{name}": content for name, content in parts.items()})
        channels, output = (json.loads(it.replace("s3://bucket/", f"s3://{bucket}/")) for it in examples)
        base = make_job(channels, output["S3OutputPath"], sample_size=700)
        assert train(base, **aws).returncode == 0
        assert model_of(base) == model_of(local)
        (model,) = re.findall("MODEL_DATA_URL=s3://bucket/(.*tar.gz)", section)
        assert store.get(bucket, model) == (base / "output/model.tar.gz").read_bytes()


class TestResults:
    @pytest.mark.parametrize(("path", "folder"), [("", "output"), ("/a/b/", "a/b/output")])
    def test_what_is_uploaded_is_what_is_there(self, store, make_job, train, aws, bucket, local, path, folder):
        output = store.bucket()
        channels = {"train": prefix(bucket, "data/train/"), "test": prefix(bucket, "data/test/")}
        base = make_job(channels, f"s3://{output}{path}", sample_size=700)
        done = train(base, **aws)
        assert done.returncode == 0, done.stdout
        names = ["model.tar.gz", "output.tar.gz"]
        assert store.keys(output) == [f"{folder}/{name}" for name in names]
        for name in names:
            assert store.get(output, f"{folder}/{name}") == (base / "output" / name).read_bytes()
        assert (base / "output/model.tar.gz").read_bytes() == (local / "output/model.tar.gz").read_bytes()
        report = base / "output" / "data"
        with tarfile.open(fileobj=io.BytesIO(store.get(output, f"{folder}/output.tar.gz"))) as tar:
            packed = {member.name: tar.extractfile(member).read() for member in tar}
        assert packed == {name: (report / name).read_bytes() for name in ("evaluation.json", "evaluation.png")}

    def test_data_on_the_disk_may_have_results_in_s3_and_no_report(self, store, make_job, train, aws, serving):
        output = store.bucket()
        channels = {"train": {"ContentType": CSV}}
        base = make_job(channels, f"s3://{output}/", files={"train/x.csv": b"1,0\n2,1\n3,7\n"}, k=1)
        assert train(base, **aws).returncode == 0
        assert store.keys(output) == ["output/model.tar.gz"]
        with serving(base / "none", MODEL_DATA_URL=f"s3://{output}/output/model.tar.gz", **aws) as server:
            assert server.invoke("6.9", accept="text/csv").content == b"3.0\n"

    @pytest.mark.parametrize("variable", ["TRAINING_JOB_NAME", "TRAINING_JOB_ARN"])
    def test_where_the_platform_takes_the_results_nothing_is_uploaded(self, make_job, train, variable):
        base = make_job({"train": {"ContentType": CSV}}, "s3://no-such-bucket/x", files={"train/x.csv": b"1,0\n"}, k=1)
        done = train(base, **{variable: "job"})
        assert done.returncode == 0, done.stdout

    def test_a_report_of_an_earlier_job_is_not_left(self, store, make_job, train, aws):
        files = {"train/x.csv": b"1,0\n2,1\n", "test/x.csv": b"1,0\n"}
        channels = {name: {"ContentType": CSV} for name in ("train", "test")}
        base = make_job(channels, f"s3://{store.bucket()}", files=files, k=1)
        assert train(base, **aws).returncode == 0
        assert (base / "output/output.tar.gz").exists()
        (base / "input/config/outputdataconfig.json").unlink()
        assert train(base, **aws).returncode == 0
        assert not (base / "output/output.tar.gz").exists()

    def test_one_that_is_refused_is_a_failure_and_the_model_stays(self, store, proxy, make_job, train, aws):
        output = store.bucket()
        proxy.fail(s3_store.answers(403, "AccessDenied"), method="PUT")
        base = make_job({"train": {"ContentType": CSV}}, f"s3://{output}/p", files={"train/x.csv": b"1,0\n"}, k=1)
        done = train(base, **aws)
        fails(base, done, "ClientError: ", f"s3://{output}/p/output/model.tar.gz: access is denied", "s3:PutObject")
        assert model_of(base)
        assert (base / "output/model.tar.gz").exists()
        assert store.keys(output) == []

    def test_throttling_is_waited_out(self, store, proxy, make_job, train, aws):
        output = store.bucket()
        proxy.fail(s3_store.answers(503, "SlowDown"), times=2, method="PUT")
        base = make_job({"train": {"ContentType": CSV}}, f"s3://{output}", files={"train/x.csv": b"1,0\n"}, k=1)
        assert train(base, **aws).returncode == 0
        assert store.get(output, "output/model.tar.gz") == (base / "output/model.tar.gz").read_bytes()

    def test_a_process_that_is_killed_in_the_middle_leaves_no_object(
        self, store, proxy, make_job, start_training, aws, recordio
    ):
        # 20 MB of noise, which gzip makes no smaller: three parts.
        rows = np.random.default_rng(0).normal(size=(40_000, 128)).astype("<f4")
        model = np.arange(1, 129, dtype="<f4")
        frame = recordio.rows([model.tolist()], [2])
        frames = np.tile(np.frombuffer(frame, np.uint8), (len(rows), 1))
        frames[:, frame.index(model.tobytes()) :][:, : model.nbytes] = rows.view(np.uint8)
        output = store.bucket()
        base = make_job({"train": {}}, f"s3://{output}", files={"train/x": frames.tobytes()})
        proxy.fail(s3_store.slowly(60), method="PUT", of="partNumber=2")
        process = start_training(base, **aws)
        wait_for(lambda: proxy.count("PUT", "partNumber=2"))
        process.kill()
        process.wait(30)
        time.sleep(0.5)
        assert proxy.count("PUT", "partNumber") >= 2
        assert store.keys(output) == []
        assert model_of(base)


class TestFaults:
    def test_throttling_and_bodies_that_break_off_are_overcome(self, proxy, make_job, train, aws, bucket, local):
        proxy.fail(s3_store.answers(503, "SlowDown"), of="list-type=2")
        proxy.fail(s3_store.answers(503, "SlowDown"), times=2, of="/data/train/")
        proxy.fail(s3_store.cut(1000), times=4, of="/data/train/")
        proxy.fail(s3_store.cut(0), times=1, of="/data/train/")
        base = make_job({"train": prefix(bucket, "data/train/")}, sample_size=700)
        done = train(base, **aws)
        assert done.returncode == 0, done.stdout
        assert model_of(base) == model_of(local)
        # 7 objects, of which each is one request; botocore's and our repetitions beside them.
        assert proxy.count("GET", "/data/train/") == 7 + 7

    def test_an_object_that_changes_in_the_middle_is_a_failure_that_names_it(self, store, proxy, make_job, train, aws):
        content = {name: b"1,%d\n" % at * 5000 for at, name in enumerate(["a", "b"])}
        bucket = store.bucket({f"d/{name}": rows for name, rows in content.items()})

        def change():
            store.client.put_object(Bucket=bucket, Key="d/b", Body=content["b"][::-1])

        proxy.fail(s3_store.after(change), of="/d/b")
        base = make_job({"train": prefix(bucket, "d/")})
        fails(
            base, train(base, **aws), "ClientError: ", f"s3://{bucket}/d/b: the object has changed since it was listed"
        )
        assert has_no_model(base)

    @pytest.mark.slow
    def test_a_body_that_always_breaks_off_is_a_failure_that_names_it(self, store, proxy, make_job, train, aws):
        bucket = store.bucket({"d/a": b"1,2\n", "d/b": b"1,2\n"})
        proxy.fail(s3_store.cut(2), of="/d/b")
        proxy.fail(s3_store.cut(0), times=100, of="/d/b")
        base = make_job({"train": prefix(bucket, "d/")}, k=1)
        fails(base, train(base, **aws), "InternalServerError: ", f"s3://{bucket}/d/b breaks off at byte 2 of 4")
        assert has_no_model(base)

    @pytest.mark.parametrize("channel", ["train", "test"])
    def test_a_row_that_cannot_be_read_is_named(self, store, make_job, train, aws, channel):
        bucket = store.bucket({"train/x": b"1,2\n2,3\n", "test/x": b"1,2\n"})
        store.client.put_object(Bucket=bucket, Key=f"{channel}/y/z", Body=b"1,2\n2,NO\n")
        base = make_job({name: prefix(bucket, f"{name}/") for name in ("train", "test")}, k=1)
        fails(base, train(base, **aws), "ClientError: ", f"Channel '{channel}', file 'y/z', row 2: ")

    def test_without_credentials_it_says_so(self, make_job, train, aws, bucket):
        base = make_job({"train": prefix(bucket, "data/train/")})
        done = train(base, **aws | {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""})
        fails(base, done, "ClientError: ", f"s3://{bucket}/data/train/: no AWS credentials that can be used")
        assert has_no_model(base)

    @pytest.mark.parametrize("channel", ["train", "test"])
    @pytest.mark.parametrize(
        ("place", "message"), [("no-such-bucket/x", "there is no such bucket"), ("{}/none/", "none came")]
    )
    def test_a_channel_of_nothing_is_known_before_any_is_read(
        self, proxy, make_job, train, aws, bucket, channel, place, message
    ):
        place = place.format(bucket)
        right = {name: prefix(bucket, f"data/{name}/") for name in ("train", "test")}
        base = make_job(right | {channel: prefix(*place.split("/", 1))})
        fails(base, train(base, **aws), "ClientError: ", f"s3://{place}: ", message)
        assert has_no_model(base)
        assert proxy.count("GET", "/data/train/") == 0

    @pytest.mark.parametrize(
        ("variables", "output", "message"),
        [
            ({}, "s3://no-such-bucket/x", "s3://no-such-bucket/x/output: there is no such bucket"),
            (
                {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""},
                "s3://bucket",
                "s3://bucket/output: no AWS credentials that can be used",
            ),
            ({}, "s3:/bucket", "outputdataconfig.json: S3OutputPath: expected s3://BUCKET/KEY, 's3:/bucket' came"),
        ],
    )
    def test_a_wrong_output_is_known_before_any_row_is_read(self, make_job, train, aws, variables, output, message):
        base = make_job({"train": {"ContentType": CSV}}, output, files={"train/x.csv": b"not a row"}, k=1)
        fails(base, train(base, **aws | variables), "ClientError: ", message)
        assert has_no_model(base)

    def test_an_s3_that_cannot_be_reached_is_the_machines_failure(self, make_job, train, aws):
        base = make_job({"train": prefix("b", "x")})
        variables = {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1", "AWS_MAX_ATTEMPTS": "1"}
        fails(base, train(base, **aws | variables), "InternalServerError: ", "s3://b/x: S3 cannot be reached")

    def test_one_host_that_has_no_credentials_ends_the_job_on_both(self, make_job, start_training, aws, bucket):
        channels = {"train": prefix(bucket, "data/train/", "ShardedByS3Key")}
        bases = [make_job(channels, host=host, hosts=TWO) for host in TWO]
        none = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
        processes = [start_training(bases[0], **aws), start_training(bases[1], **aws | none)]
        for base, process in zip(bases, processes, strict=True):
            process.communicate(timeout=100)
            assert process.returncode == 1
            failure = (base / "output/failure").read_text()
            assert failure.startswith(f"ClientError: Host {TWO[1]}: s3://{bucket}/data/train/: no AWS credentials")

    def test_without_boto3_only_s3_is_refused(self, make_job, train, aws, bucket, tmp_path):
        (tmp_path / "boto3.py").write_text("raise ImportError")
        local = {"train": {"ContentType": CSV}}
        base = make_job(local, files={"train/x.csv": b"1,0\n"}, k=1)
        done = train(base, PYTHONPATH=tmp_path, **aws)
        assert done.returncode == 0, done.stdout
        base = make_job({"train": prefix(bucket, "data/train/")})
        fails(base, train(base, PYTHONPATH=tmp_path, **aws), "ClientError: ", 'pip install "knn-container[s3]"')
        base = make_job(local, f"s3://{bucket}", files={"train/x.csv": b"1,0\n"}, k=1)
        fails(base, train(base, PYTHONPATH=tmp_path, **aws), "ClientError: ", 'pip install "knn-container[s3]"')


class TestSigterm:
    def test_the_rows_read_become_the_model_and_are_uploaded(self, store, proxy, make_job, start_training, aws):
        bucket = store.bucket({"d/a": b"".join(b"%d,%d\n" % (it % 3, it) for it in range(500)), "d/b": b"1,2\n"})
        proxy.fail(s3_store.slowly(60), of="/d/b")
        base = make_job({"train": prefix(bucket, "d/"), "test": prefix(bucket, "d/")}, f"s3://{bucket}/o", k=1)
        process = start_training(base, **aws)
        wait_for(lambda: proxy.count("GET", "/d/b"))
        time.sleep(0.5)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        succeed(process)
        assert time.monotonic() - began < 20
        found = manifest(base)
        assert (found["rows"], found["rows_read"], found["stopped_early"]) == (500, 500, True)
        assert store.get(bucket, "o/output/model.tar.gz") == (base / "output/model.tar.gz").read_bytes()
        assert "o/output/output.tar.gz" not in store.keys(bucket)

    def test_before_the_first_row_it_is_a_failure(self, store, proxy, make_job, start_training, aws):
        bucket = store.bucket({"d/a": b"1,2\n", "m": b""})
        named = json.dumps([{"prefix": f"s3://{bucket}/d/"}, "a"]).encode()
        store.client.put_object(Bucket=bucket, Key="m", Body=named)
        proxy.fail(s3_store.slowly(60), of="/m", method="GET")
        entry = prefix(bucket, "m")
        entry["DataSource"]["S3DataSource"]["S3DataType"] = "ManifestFile"
        base = make_job({"train": entry}, k=1)
        process = start_training(base, **aws)
        wait_for(lambda: proxy.count("GET", "/m"))
        process.send_signal(signal.SIGTERM)
        log = process.communicate(timeout=30)[0]
        assert process.returncode == 1
        assert (base / "output/failure").read_text() == "ClientError: SIGTERM came before the first row was read."
        assert "Traceback" not in log
        assert has_no_model(base)

    def test_while_the_model_is_uploaded_it_is_uploaded_to_its_end(self, store, proxy, make_job, start_training, aws):
        output = store.bucket()
        proxy.fail(s3_store.slowly(3), method="PUT")
        base = make_job({"train": {"ContentType": CSV}}, f"s3://{output}", files={"train/x.csv": b"1,0\n"}, k=1)
        process = start_training(base, **aws)
        wait_for(lambda: proxy.count("PUT"))
        process.send_signal(signal.SIGTERM)
        succeed(process)
        assert store.get(output, "output/model.tar.gz") == (base / "output/model.tar.gz").read_bytes()
        assert not manifest(base)["stopped_early"]
