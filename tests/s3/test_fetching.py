import io
import tarfile
import threading
from pathlib import Path

import pytest
import s3_store

from knn_container import settings
from knn_container.errors import ArtifactError, PlatformError, RequestError, UserError
from knn_container.s3.location import Location
from knn_container.serving import store as models
from knn_container.serving.fetching import fetch
from knn_container.serving.preparation import Preparation
from knn_container.serving.store import ModelHolder

FILES = {"manifest.json": b"{}", "index.faiss": bytes(range(256)) * 4000}


def packed(files):
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return archive.getvalue()


@pytest.fixture
def shared(tmp_path):
    (tmp_path / "shared").mkdir()
    return tmp_path / "shared"


@pytest.fixture
def location(store):
    return Location(store.bucket({"a/model.tar.gz": packed(FILES)}), "a/model.tar.gz")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_is_fetched_is_what_was_packed_and_nothing_else_is_left(location, shared):
    assert contents(fetch(location, shared)) == FILES
    assert names(shared) == ["lock", "model"]


@pytest.mark.parametrize("key", ["model", "lock", "work", "archive", "a b/ü.tar.gz"])
def test_any_name_of_an_object_will_do(store, shared, key):
    assert contents(fetch(Location(store.bucket({key: packed(FILES)}), key), shared)) == FILES
    assert names(shared) == ["lock", "model"]


def test_those_who_ask_at_once_wait_for_the_first(store, proxy, aws, location, shared):
    aws.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
    proxy.fail(s3_store.slowly(0.5))
    found = []
    threads = [threading.Thread(target=lambda: found.append(fetch(location, shared))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [shared / "model"] * 4
    assert proxy.count("HEAD") == proxy.count("GET") == 1


def test_what_a_killed_process_left_is_removed(location, shared):
    (shared / "work" / "model").mkdir(parents=True)
    (shared / "work" / "model" / "labels.npy").write_bytes(b"half")
    (shared / "lock").touch()
    assert contents(fetch(location, shared)) == FILES


@pytest.mark.parametrize(
    ("content", "error"), [(packed(FILES)[:-1000], ArtifactError), (b"no archive", ArtifactError), (None, UserError)]
)
def test_what_cannot_be_fetched_leaves_no_model(store, shared, content, error):
    location = Location(store.bucket({} if content is None else {"key": content}), "key")
    with pytest.raises(error, match=f"^s3://{location.bucket}/key: "):
        fetch(location, shared)
    assert names(shared) == ["lock"]


class TestHolder:
    @pytest.fixture(autouse=True)
    def _made(self, tmp_path):
        self.made = Preparation(tmp_path, Location("bucket", "model.tar.gz"))
        yield
        self.made.clean()

    def preparation(self, bring):
        self.made.bring = bring
        return self.made

    def reason(self, holder):
        with pytest.raises(RequestError) as caught:
            holder.get()
        assert caught.value.status == 503
        return str(caught.value)

    @pytest.mark.parametrize("error", [UserError("no credentials"), ArtifactError("not an archive")])
    def test_what_its_user_must_mend_is_said_and_not_tried_again(self, error, tmp_path):
        holder, tries = ModelHolder(), []

        def failing():
            tries.append(self.reason(holder))
            raise error

        holder.load(self.preparation(failing))
        assert tries == ["Not ready: the model is being fetched"]
        assert self.reason(holder) == f"Not ready: {error}"

    def test_what_the_machine_must_mend_is_said_and_tried_again(self, tmp_path, monkeypatch):
        holder, tries, waits = ModelHolder(), [], []

        def wait(seconds):
            waits.append((seconds, self.reason(holder)))

        def failing_once():
            tries.append(1)
            if len(tries) == 1:
                raise PlatformError("S3 is asleep.")
            return tmp_path / "fetched"

        monkeypatch.setattr(models.time, "sleep", wait)
        holder.load(self.preparation(failing_once))
        assert waits == [(30, "Not ready: the model cannot be fetched yet: S3 is asleep.")]
        assert self.reason(holder).startswith(f"Not ready: no model: {tmp_path}/fetched/manifest.json does not exist")


def test_the_setting_is_the_place_of_an_object():
    assert settings.read({}).model_data is None
    read = settings.read({"MODEL_DATA_URL": "s3://bucket/job/output/model.tar.gz"})
    assert read.model_data == Location("bucket", "job/output/model.tar.gz")


@pytest.mark.parametrize(
    "text", ["s3://bucket", "s3://bucket/folder/", "https://bucket/key", str(Path("/opt/ml/model"))]
)
def test_a_setting_that_no_object_can_have_is_refused(text):
    with pytest.raises(UserError, match=f"MODEL_DATA_URL: expected s3://BUCKET/KEY of a model.tar.gz, '{text}' came"):
        settings.read({"MODEL_DATA_URL": text})
