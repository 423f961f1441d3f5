"""Training on several hosts, each a container: what the platform and local mode do to them, and what comes of it."""

import json
import re
import shutil
import subprocess
import time
from contextlib import ExitStack

import faiss
import numpy as np
import pytest
from hosts import Hosts, model_of, shards, write
from sklearn.datasets import load_digits

pytestmark = [pytest.mark.container, pytest.mark.timeout(600)]

CSV, RECORDIO = "text/csv;label_size=1", "application/x-recordio-protobuf"
SHARDED, REPLICATED = "ShardedByS3Key", "FullyReplicated"
TWO, THREE = ("algo-1", "algo-2"), ("algo-1", "algo-2", "algo-3")
LOST_SECONDS = 60  # in which every host knows that one is lost
# Rows of each file; the names' order as bytes is not that of their numbers.
PARTS = {
    CSV: {"train/part-1.csv": 700, "train/part-10.csv": 1, "train/part-2.csv": 450, "train/sub/part-0.csv": 349},
    RECORDIO: {"train/a": 200, "train/b": 1299, "train/c": 1},
}
TEST_PARTS = {"test/part-0": 100, "test/part-1": 20, "test/part-2": 177}


def channel(content_type=CSV, distribution=SHARDED, mode="File"):
    known = {"ContentType": content_type, "TrainingInputMode": mode, "S3DistributionType": distribution}
    return {name: value for name, value in known.items() if value is not None}


@pytest.fixture(scope="module")
def encode(csv, recordio):
    """Writes labelled rows in a content type."""

    def encode_(content_type, rows, labels):
        return csv(rows, labels) if content_type == CSV else recordio.rows(rows, labels)

    return encode_


@pytest.fixture(scope="module")
def rows():
    """1,797 labelled rows: scikit-learn's digits with a little noise, so that no two distances are equal."""
    features, labels = load_digits(return_X_y=True)
    features = features + np.random.default_rng(0).uniform(-0.5, 0.5, features.shape)
    return features.astype(np.float32), labels.astype(np.float32)


@pytest.fixture(scope="module")
def cut(encode, rows):
    """Cuts the rows into files of so many rows each, from a first row on."""

    def cut_(content_type, parts, start=0):
        features, labels = rows
        files = {}
        for path, count in parts.items():
            files[path] = encode(content_type, features[start : start + count], labels[start : start + count])
            start += count
        return files

    return cut_


@pytest.fixture(scope="module")
def files(cut):
    """The first 1,500 rows as the train channel, and the others as the test channel, if there is one."""

    def files_(content_type=CSV, *, test=False):
        return cut(content_type, PARTS[content_type]) | (cut(content_type, TEST_PARTS, 1500) if test else {})

    return files_


@pytest.fixture
def make(docker, image, tmp_path):
    """Makes the hosts of a job and lays out their folders; the channels are those that the files have."""
    with ExitStack() as stack:

        def make_(dealt, entry=None, *, options=(), **given):
            hosts = stack.enter_context(Hosts(image, tmp_path, dealt, options))
            names = {path.partition("/")[0] for mine in dealt.values() for path in mine} or {"train"}
            hosts.lay_out(dealt, dict.fromkeys(sorted(names), entry or channel()), **given)
            return hosts

        yield make_


@pytest.fixture(scope="module")
def alone(docker, image, tmp_path_factory):
    """Trains on one host, once for the same files and hyperparameters, and gives the host and its log."""
    known = {}

    def alone_(dealt, content_type=CSV, **hyperparameters):
        key = (content_type, *sorted(dealt), *sorted(hyperparameters.items()))
        if key not in known:
            with Hosts(image, tmp_path_factory.mktemp("alone"), ["algo-1"]) as hosts:
                names = sorted({path.partition("/")[0] for path in dealt})
                channels = dict.fromkeys(names, channel(content_type, REPLICATED))
                hosts.lay_out({"algo-1": dealt}, channels, **hyperparameters)
                hosts.start()
                known[key] = hosts.succeed().leader, hosts.leader.log()
        return known[key]

    return alone_


def manifest(host):
    return json.loads((host.model / "manifest.json").read_text())


def scores(log):
    return re.findall(r"#quality_metric: .*", log)


def assert_model_of_one(hosts, one):
    assert model_of(hosts.leader.model) == model_of(one.model)
    assert (hosts.leader.output / "model.tar.gz").exists()


@pytest.mark.parametrize(
    ("names", "content_type", "mode"),
    [
        (THREE, CSV, "File"),
        pytest.param(TWO, CSV, "FastFile", marks=pytest.mark.slow),
        pytest.param(TWO, RECORDIO, "File", marks=pytest.mark.slow),
        pytest.param(THREE, RECORDIO, "FastFile", marks=pytest.mark.slow),
    ],
)
def test_shards_make_the_model_of_one_host(*, make, alone, files, names, content_type, mode):
    one, _ = alone(files(content_type), content_type, sample_size=400)
    hosts = make(shards(files(content_type), names), channel(content_type, SHARDED, mode), sample_size=400)
    # FastFile mounts a channel that can only be read; so here for both.
    for host in hosts:
        host.options.append(f"--volume={host.folder}/input/data:/opt/ml/input/data:ro")
    hosts.start()
    assert_model_of_one(hosts.succeed(), one)


@pytest.mark.parametrize(
    ("names", "content_type"),
    [(THREE, CSV), pytest.param(TWO, RECORDIO, marks=pytest.mark.slow)],
)
def test_copies_are_shared_out(make, alone, files, names, content_type):
    one, _ = alone(files(content_type), content_type, sample_size=400)
    hosts = make(dict.fromkeys(names, files(content_type)), channel(content_type, REPLICATED), sample_size=400)
    hosts.start()
    assert_model_of_one(hosts.succeed(), one)


# As the SDK names hosts and their interface, in its versions 2 and 3.
@pytest.mark.parametrize(
    ("names", "interface"),
    [
        (("algo-1-x87qu", "algo-2-x87qu"), "eth0"),
        pytest.param(THREE, "ethwe", marks=pytest.mark.slow),
    ],
)
def test_copies_that_nobody_declares_are_shared_out_in_local_mode(
    *, make, alone, files, tmp_path, names, interface, digits
):
    one, log = alone(files(test=True), sample_size=400)
    hosts = make(
        dict.fromkeys(names, files(test=True)), channel(distribution=None), interface=interface, sample_size=400
    )
    shared = tmp_path / "shared"
    (shared / "model").mkdir(parents=True)
    write(shared, files(test=True))
    for host in hosts:
        shutil.rmtree(host.folder / "input/data")
        (host.folder / "input/data").mkdir()
    hosts.share(shared, ("train", "test"))
    hosts.start(options=("--tty", "--env=TRAINING_JOB_NAME=knn-2026"))
    hosts.succeed()
    assert model_of(shared / "model") == model_of(one.model)
    said = [line.rstrip("\r") for host in hosts for line in scores(host.log())]
    assert said == [line.replace("algo-1", names[0]) for line in scores(log)]
    assert len(said) == 2


@pytest.mark.slow
def test_files_that_nobody_declares_and_that_differ_are_all_read(make, alone, files):
    # Two hosts have one file, and each has one of its own.
    every = files()
    one, _ = alone(every, sample_size=400)
    first, second, third, fourth = sorted(every)
    dealt = {"algo-1": {first, second}, "algo-2": {third, second}, "algo-3": {fourth}}
    hosts = make(
        {name: {path: every[path] for path in mine} for name, mine in dealt.items()},
        channel(distribution=None),
        sample_size=400,
    )
    hosts.start()
    assert_model_of_one(hosts.succeed(), one)


@pytest.mark.slow
def test_files_of_one_name_and_other_rows_are_all_read(make, cut):
    dealt = {
        "algo-1": cut(CSV, {"train/part.csv": 100}),
        "algo-2": cut(CSV, {"train/part.csv": 120}, start=100),
    }
    hosts = make(dealt, channel(distribution=None))
    hosts.start()
    assert manifest(hosts.succeed().leader)["rows_read"] == 220
    assert np.load(hosts.leader.model / "ids.npy").tolist() == list(range(220))


@pytest.mark.slow
@pytest.mark.parametrize("attempt", range(5))
def test_a_job_that_takes_no_time_ends_well_everywhere(make, cut, attempt):
    hosts = make(shards(cut(CSV, {"train/a": 3, "train/b": 3}), TWO), k=1)
    hosts.start()
    assert manifest(hosts.succeed().leader)["rows"] == 6


def test_a_sample_of_skewed_shards_is_the_one_of_one_host(make, alone, cut):
    parts = {"train/a": 15, "train/b": 1470, "train/c": 15}  # 1, 98 and 1 of a hundred
    every = cut(CSV, parts)
    one, _ = alone(every, sample_size=300)
    hosts = make(shards(every, THREE), sample_size=300)
    hosts.start()
    assert_model_of_one(hosts.succeed(), one)
    # A sample of equal shares would have had 100 rows of each file, and these have 15.
    ids = np.load(hosts.leader.model / "ids.npy")
    assert np.count_nonzero((ids >= 15) & (ids < 1485)) > 280


@pytest.mark.parametrize("without", ["algo-1", pytest.param("algo-2", marks=pytest.mark.slow)])
def test_a_host_may_have_no_data(make, alone, files, without):
    every = files(test=True)
    one, log = alone(every, sample_size=400)
    others = [name for name in THREE if name != without]
    hosts = make({without: {}} | shards(every, others), sample_size=400)
    hosts.start()
    assert_model_of_one(hosts.succeed(), one)
    assert [line for host in hosts for line in scores(host.log())] == scores(log)


@pytest.mark.slow
def test_no_host_has_data(make):
    hosts = make({name: {} for name in TWO})
    hosts.start()
    hosts.failed(starts="ClientError: ", contains=["'train'"])


@pytest.mark.slow
def test_the_first_name_leads_and_not_the_first_number(make, alone, files):
    one, _ = alone(files(), sample_size=400)
    hosts = make(shards(files(), ("algo-2", "algo-10")), sample_size=400)
    assert hosts.leader.name == "algo-10"
    hosts.start()
    assert_model_of_one(hosts.succeed(), one)


def test_scores_are_over_the_rows_of_all_hosts(make, alone, files):
    _, log = alone(files(test=True))
    hosts = make(shards(files(test=True), THREE))
    hosts.start()
    hosts.succeed()
    said = {host.name: scores(host.log()) for host in hosts}
    assert said == {"algo-1": scores(log), "algo-2": [], "algo-3": []}
    assert [line.partition("<")[0] for line in said["algo-1"]] == [
        "#quality_metric: host=algo-1, test accuracy ",
        "#quality_metric: host=algo-1, test macro_f_1.000 ",
    ]
    assert evaluation(hosts.leader)["rows"] == 297


@pytest.mark.slow
@pytest.mark.parametrize("predictor", ["classifier", "regressor"])
def test_the_report_is_that_of_one_host(make, alone, files, predictor):
    one, _ = alone(files(test=True), predictor_type=predictor)
    hosts = make(dict.fromkeys(TWO, files(test=True)), channel(distribution=REPLICATED), predictor_type=predictor)
    hosts.start()
    found, expected = evaluation(hosts.succeed().leader), evaluation(one)
    for name in ("seconds", "rows_per_second"):
        assert found.pop(name) > 0
        del expected[name]
    assert found.pop("engines")  # with their times
    del expected["engines"]
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == rounded(value), name
    assert (hosts.leader.output / "data/evaluation.png").stat().st_size > 1000


def rounded(value):
    """Sums of squares depend in their last bits on who adds what first."""
    if isinstance(value, list):
        return [rounded(it) for it in value]
    if isinstance(value, dict):
        return {name: rounded(it) for name, it in value.items()}
    return pytest.approx(value, rel=1e-12) if isinstance(value, float) else value


def evaluation(host):
    return json.loads((host.output / "data/evaluation.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sign", "fjlt"])
def test_projected_rows_are_those_of_one_host(make, alone, files, kind):
    given = {"dimension_reduction_type": kind, "dimension_reduction_target": 16, "sample_size": 400}
    one, _ = alone(files(), **given)
    hosts = make(shards(files(), THREE), **given)
    hosts.start()
    hosts.succeed()
    for name in ("ids.npy", "labels.npy"):
        assert (hosts.leader.model / name).read_bytes() == (one.model / name).read_bytes()
    found, expected = vectors(hosts.leader), vectors(one)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)
    assert found.shape == (400, 16)


def vectors(host):
    index = faiss.read_index(str(host.model / "index.faiss"))
    return index.reconstruct_n(0, index.ntotal)


@pytest.mark.slow
def test_an_index_with_lists_is_that_of_one_host(make, alone, files):
    given = {"index_type": "faiss.IVFFlat", "index_metric": "COSINE", "faiss_index_ivf_nlists": 10}
    one, _ = alone(files(), **given)
    hosts = make(shards(files(), TWO), **given)
    hosts.start()
    assert_model_of_one(hosts.succeed(), one)


def test_pipes_are_read_by_each_host(make, rows, encode):
    features, labels = rows
    hosts = make({"algo-1": {}, "algo-2": {}, "algo-3": {}}, channel(RECORDIO, mode="Pipe"), mini_batch_size=100)
    sent = {"algo-1": slice(0, 900), "algo-2": slice(900, 1500), "algo-3": slice(0)}  # the last has nothing
    hosts.start()
    for name, mine in sent.items():
        with hosts.open_pipe(name) as pipe:
            pipe.write(encode(RECORDIO, features[mine], labels[mine]))
            pipe.wait_until_read()
    hosts.succeed()
    assert (manifest(hosts.leader)["rows_read"], manifest(hosts.leader)["stopped_early"]) == (1500, False)
    assert np.load(hosts.leader.model / "ids.npy").tolist() == list(range(1500))
    np.testing.assert_array_equal(vectors(hosts.leader), features[:1500])
    np.testing.assert_array_equal(np.load(hosts.leader.model / "labels.npy"), labels[:1500])


@pytest.mark.parametrize("late", ["algo-1", pytest.param("algo-3", marks=pytest.mark.slow)])
def test_hosts_wait_for_one_that_starts_late(make, alone, files, late):
    one, _ = alone(files(), sample_size=400)
    hosts = make(shards(files(), THREE), sample_size=400)
    early = [name for name in THREE if name != late]
    hosts.start(*early)
    wait_for_words(hosts, early, "Checkpoint loading")
    time.sleep(3)  # they look for its name in vain
    assert hosts.running()
    hosts.start(late)
    assert_model_of_one(hosts.succeed(), one)


def wait_for_words(hosts, names, words, seconds=60):
    """Waits until a word is in the log of each of some hosts."""
    deadline = time.monotonic() + seconds
    while not all(words in hosts[name].log() for name in names):
        if time.monotonic() > deadline or not hosts.running():
            hosts.fail(f"{names} do not say {words!r}")
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("missing", "named"), [("algo-3", True), pytest.param("algo-1", False, marks=pytest.mark.slow)]
)
def test_hosts_that_wait_in_vain_name_the_one_that_is_missing(make, files, missing, named):
    hosts = make(shards(files(), THREE), options=["--env=SAGEMAKER_STARTUP_TIMEOUT=5"])
    others = [name for name in THREE if name != missing]
    if named:
        # Its name resolves, and nobody is at home.
        hosts.start(missing, options=("--entrypoint=sleep",), command=("600",))
    hosts.start(*others)
    hosts.failed(*others, starts="", contains=[missing])
    for name in others:
        others_named = set(re.findall(r"algo-\d", hosts[name].failure)) - {missing}
        assert others_named <= {name, "algo-1"}, hosts[name].failure


@pytest.mark.slow
def test_a_signal_ends_hosts_that_wait(make, files):
    hosts = make(shards(files(), THREE))
    hosts.start("algo-1", "algo-2")
    wait_for_words(hosts, ["algo-1", "algo-2"], "Checkpoint loading")
    hosts.signal("TERM")
    hosts.failed(starts="", contains=["SIGTERM"], seconds=30)


CSV_ROWS = b"".join(b"%d,%d,%d\n" % (number % 7, number, -number) for number in range(200))


@pytest.fixture
def make_pipes(make):
    """Three hosts that read pipes, one row at a time."""

    def make_():
        return make({name: {} for name in THREE}, channel(mode="Pipe"), mini_batch_size=1)

    return make_


@pytest.mark.parametrize("lost", ["algo-2", "algo-1"])
def test_a_host_that_is_killed_ends_the_job(make_pipes, lost):
    hosts = make_pipes()
    hosts.start()
    with hosts.reading(dict.fromkeys(THREE, CSV_ROWS)):
        hosts.signal("KILL", lost)
        others = [name for name in THREE if name != lost]
        hosts.failed(*others, starts="InternalServerError: ", contains=[lost], seconds=LOST_SECONDS)
    assert hosts[lost].failure is None


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["algo-2", "algo-1"])
def test_a_host_that_hangs_ends_the_job(make_pipes, lost):
    hosts = make_pipes()
    hosts.start()
    with hosts.reading(dict.fromkeys(THREE, CSV_ROWS)):
        hosts.pause(lost)
        others = [name for name in THREE if name != lost]
        hosts.failed(*others, starts="InternalServerError: ", contains=[lost], seconds=LOST_SECONDS)
        # Should it come to itself again, it finds that the job is over.
        hosts.unpause(lost)
        hosts.failed(lost, starts="InternalServerError: ", contains=[], seconds=LOST_SECONDS)


def test_a_host_that_dies_while_it_is_awaited_ends_the_job(make, files):
    hosts = make(shards(files(), THREE), options=["--env=SAGEMAKER_STARTUP_TIMEOUT=15"])
    hosts.start("algo-1", "algo-2")
    wait_for_words(hosts, ["algo-1", "algo-2"], "Checkpoint loading")
    hosts.signal("KILL", "algo-2")
    hosts.failed("algo-1", starts="", contains=["algo-"], seconds=LOST_SECONDS)


@pytest.mark.parametrize("bad", ["algo-3", pytest.param("algo-1", marks=pytest.mark.slow)])
def test_a_bad_row_ends_the_job_on_every_host(make, files, bad):
    dealt = shards(files(), THREE)
    (path, *_) = dealt[bad]
    lines = dealt[bad][path].splitlines(keepends=True)
    dealt[bad][path] = b"".join([*lines[:6], b"3,nan,nan\n", *lines[6:]])
    hosts = make(dealt)
    hosts.start()
    file = path.removeprefix("train/")
    start = f"ClientError: Host {bad}: Channel 'train', file '{file}', row 7: "
    hosts.failed(starts=start, contains=["expected"], seconds=LOST_SECONDS)


@pytest.mark.slow
def test_a_bad_row_ends_the_job_of_hosts_that_wait_for_more(make_pipes):
    hosts = make_pipes()
    hosts.start()
    with hosts.reading({"algo-1": CSV_ROWS, "algo-3": CSV_ROWS}):
        with hosts.open_pipe("algo-2") as pipe:
            pipe.write(b"1,2,3\n1,2\n")
        start = "ClientError: Host algo-2: Channel 'train', file 'train_0', row 2: "
        hosts.failed(starts=start, contains=["2 features"], seconds=LOST_SECONDS)


@pytest.mark.slow
def test_a_bad_row_of_the_test_channel_ends_the_job_on_every_host(make, files):
    dealt = shards(files(test=True), THREE)
    dealt["algo-3"]["test/part-2"] += b"1,2,3\n"
    hosts = make(dealt)
    hosts.start()
    codes = hosts.wait()
    assert set(codes.values()) == {1}, codes
    start = "ClientError: Host algo-3: Channel 'test', file 'part-2', row 178: "
    assert all(host.failure.startswith(start) for host in hosts), [host.failure for host in hosts]
    # As on one host, the model is there: it was complete before the test rows were read.
    assert (hosts.leader.model / "manifest.json").exists()


@pytest.mark.slow
def test_hosts_whose_rows_differ_in_width_say_whose(make, files, cut):
    dealt = shards(files(), TWO)
    dealt["algo-2"] = {"train/narrow.csv": b"1,2,3\n4,5,6\n"}
    hosts = make(dealt)
    hosts.start()
    hosts.failed(starts="ClientError: ", contains=["algo-2", "64", "2"])


@pytest.mark.slow
def test_what_the_leader_cannot_do_every_host_says(make, cut):
    hosts = make(shards(cut(CSV, {"train/a": 2, "train/b": 2}), TWO), k=5)
    hosts.start()
    hosts.failed(starts="ClientError: ", contains=["k is 5", "4 rows"])


@pytest.mark.slow
def test_a_full_disk_of_the_leader_ends_the_job(make, files):
    hosts = make(shards(files(), TWO))
    hosts.leader.options.append("--tmpfs=/opt/ml/model:size=64k")
    hosts.start()
    hosts.failed(starts="InternalServerError: ", contains=["The disk is full"])


@pytest.mark.slow
def test_a_mistake_in_the_hyperparameters_ends_the_job(make, files):
    hosts = make(shards(files(), TWO), k=0)
    hosts.start()
    hosts.failed(starts="ClientError: ", contains=["Hyperparameter k: 0 is not in [1, 1024]."])


def test_a_signal_to_all_leaves_a_model_of_the_rows_read(make_pipes):
    hosts = make_pipes()
    hosts.start()
    lines = CSV_ROWS.splitlines(keepends=True)
    part = b"6,1"
    with hosts.reading({"algo-1": CSV_ROWS, "algo-2": b"".join(lines[:150]) + part, "algo-3": part}):
        time.sleep(0.5)  # what has left a pipe is a row a little later
        hosts.signal("TERM")
        hosts.succeed(seconds=100)
    described = manifest(hosts.leader)
    assert (described["rows"], described["rows_read"], described["stopped_early"]) == (350, 350, True)
    expected = np.array([[number, -number] for number in [*range(200), *range(150)]], np.float32)
    np.testing.assert_array_equal(vectors(hosts.leader), expected)


@pytest.mark.slow
@pytest.mark.parametrize("told", ["algo-1", "algo-2"])
def test_a_signal_to_one_host_ends_its_reading_alone(make_pipes, told):
    hosts = make_pipes()
    hosts.start()
    with hosts.reading(dict.fromkeys(THREE, CSV_ROWS)):
        time.sleep(0.5)  # what has left a pipe is a row a little later
        hosts.signal("TERM", told)
        wait_for_words(hosts, [told], "SIGTERM")
    # The others' pipes have come to their ends.
    hosts.succeed(seconds=100)
    described = manifest(hosts.leader)
    assert (described["rows"], described["rows_read"], described["stopped_early"]) == (600, 600, True)


def test_nothing_listens_but_where_the_hosts_know_one_another(make_pipes):
    hosts = make_pipes()
    hosts.start()
    with hosts.reading(dict.fromkeys(THREE, CSV_ROWS)):
        listening = {host.name: host.listening() for host in hosts}
        addresses = {name: hosts.address(name) for name in THREE}
        for name, found in listening.items():
            assert found, name
            assert {address for address, _ in found} == {addresses[name]}, name
        ports = {name: {port for _, port in found} for name, found in listening.items()}
        assert [name for name in THREE if 8786 in ports[name]] == ["algo-1"]


@pytest.fixture
def certificate(tmp_path):
    """A folder with an authority's certificate, `ca.pem`, and one that it has signed with its key, `host.pem`."""
    folder = tmp_path / "certificates"
    folder.mkdir()

    def openssl(*arguments):
        done = subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=authority")
    signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-subj", "/CN=host")
    openssl("req", "-x509", *key, *signed, "-keyout", "host.key", "-out", "host.crt")
    (folder / "host.pem").write_text((folder / "host.key").read_text() + (folder / "host.crt").read_text())
    return folder


# Connects with a certificate or without one, and says whether the scheduler speaks.
STRANGER = """
import socket, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
if "certificate" in sys.argv:
    context.load_cert_chain("/certificates/host.pem")
with socket.create_connection(("algo-1", 8786), timeout=5) as stream:
    try:
        if "plain" not in sys.argv:
            stream = context.wrap_socket(stream)
        print("heard" if stream.recv(1) else "refused")
    except OSError:
        print("refused")
"""


@pytest.mark.slow
def test_with_certificates_strangers_are_refused(make_pipes, certificate):
    hosts = make_pipes()
    tls = {"CA_FILE": "ca.pem", "SCHEDULER__CERT": "host.pem", "WORKER__CERT": "host.pem", "CLIENT__CERT": "host.pem"}
    settings = [f"--env=DASK_DISTRIBUTED__COMM__TLS__{name}=/certificates/{file}" for name, file in tls.items()]
    hosts.start(options=(f"--volume={certificate}:/certificates:ro", *settings))
    with hosts.reading(dict.fromkeys(THREE, CSV_ROWS)):
        heard = {
            how: hosts["algo-2"].run("python", "-c", STRANGER, how).strip() for how in ("certificate", "none", "plain")
        }
    assert heard == {"certificate": "heard", "none": "refused", "plain": "refused"}
    assert manifest(hosts.succeed().leader)["rows_read"] == 600


def test_one_host_alone_listens_nowhere(make):
    hosts = make({"algo-1": {}}, channel(mode="Pipe"), mini_batch_size=1)
    hosts.start()
    with hosts.reading({"algo-1": CSV_ROWS}):
        assert hosts.leader.listening() == []
        hosts.signal("TERM")
        hosts.succeed()


def test_trains_under_restrictions(make, alone, files, restrictions):
    one, _ = alone(files(test=True))
    allowed = [it for it in restrictions if not it.startswith("--network")]
    hosts = make(shards(files(test=True), TWO), options=allowed)
    for host in hosts:
        for path in ("model", "output"):
            (host.folder / path).chmod(0o777)
        host.folder.parent.chmod(0o755)
    hosts.start()
    assert_model_of_one(hosts.succeed(), one)


@pytest.mark.slow
def test_followers_stay_until_a_large_model_is_packed(make, recordio):
    # 51 MB of noise take gzip seconds; a follower that left with the sample would be gone before.
    features = np.random.default_rng(0).normal(size=(100_000, 128)).astype("<f4")
    template = recordio.rows([np.arange(1, 129, dtype="<f4").tolist()], [2])
    frames = np.tile(np.frombuffer(template, np.uint8), (len(features), 1))
    at = template.index(np.arange(1, 129, dtype="<f4").tobytes())
    frames[:, at : at + 512] = features.view(np.uint8)
    half = len(frames) // 2
    dealt = {"algo-1": {"train/a": frames[:half].tobytes()}, "algo-2": {"train/b": frames[half:].tobytes()}}
    hosts = make(dealt, channel(RECORDIO), sample_size=len(features))
    hosts.start()
    hosts.succeed()  # looks at the order of the ends
    assert (hosts.leader.output / "model.tar.gz").stat().st_size > 30e6
