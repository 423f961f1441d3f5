"""Channels whose objects are in S3: what their entries may say."""

import pytest

from knn_container.errors import ReadingStopped, UserError
from knn_container.s3.location import Location, Object
from knn_container.training.channels import FULLY_REPLICATED, SHARDED, File, open_channel
from knn_container.training.objects import Objects, Store
from knn_container.training.stopping import Stopper

CSV = "text/csv;label_size=1"


@pytest.fixture
def fill(tmp_path):
    """Makes a channel of S3 objects without asking S3 for anything."""

    def fill_(source, **entry):
        store = Store(Stopper(), 0, 1)
        store.client = None
        entry = {"ContentType": CSV} | entry
        config = entry | {"DataSource": source}
        return store.fill(open_channel("train", entry, tmp_path), config)

    return fill_


def s3(**source):
    return {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://b/x/"} | source}


@pytest.mark.parametrize(
    ("source", "entry", "expected"),
    [
        ({}, {}, FULLY_REPLICATED),
        ({}, {"S3DistributionType": SHARDED}, SHARDED),
        ({"S3DataDistributionType": SHARDED}, {}, SHARDED),
        ({"S3DistributionType": SHARDED}, {}, SHARDED),
        ({"S3DistributionType": SHARDED}, {"S3DistributionType": SHARDED}, SHARDED),
        ({"S3DataDistributionType": FULLY_REPLICATED}, {"S3DistributionType": FULLY_REPLICATED}, FULLY_REPLICATED),
    ],
)
def test_the_channel_or_its_source_says_who_reads_what(fill, source, entry, expected):
    assert fill(s3(**source), **entry).distribution == expected


@pytest.mark.parametrize("name", ["S3DataDistributionType", "S3DistributionType"])
def test_what_the_two_say_must_be_the_same(fill, name):
    with pytest.raises(UserError) as caught:
        fill(s3(**{name: SHARDED}), S3DistributionType=FULLY_REPLICATED)
    assert str(caught.value) == (
        "Channel 'train': S3DistributionType: expected the same of the channel and of its S3DataSource, "
        "FullyReplicated and ShardedByS3Key came."
    )


@pytest.mark.parametrize("source", [{}, [], "s3://b/x", {"FileSystemDataSource": {}}, {"S3DataSource": "s3://b/x"}])
def test_a_source_that_is_not_in_s3_is_refused(fill, source):
    with pytest.raises(UserError, match=r"Channel 'train': expected a DataSource with an S3DataSource, .* came"):
        fill(source)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ({"S3DataType": "AugmentedManifestFile"}, "S3DataType: expected S3Prefix or ManifestFile"),
        ({"S3Uri": "https://b/x"}, "S3Uri: expected s3://BUCKET/KEY, 'https://b/x' came"),
        ({"S3DistributionType": "Some"}, "S3DataDistributionType: expected FullyReplicated or ShardedByS3Key, 'Some'"),
    ],
)
def test_a_mistake_is_said_with_the_channel(fill, source, reason):
    with pytest.raises(UserError) as caught:
        fill(s3(**source))
    assert str(caught.value).startswith(f"Channel 'train': {reason}")


@pytest.mark.parametrize("mode", ["File", "FastFile", "Pipe"])
def test_objects_are_files_in_every_input_mode(fill, mode):
    channel = fill(s3(), TrainingInputMode=mode)
    assert not channel.is_pipe
    assert channel.source.where == "s3://b/x/"
    assert channel.readers == 8


class Listed:
    """What s3.Source gives, without S3."""

    location = Location("b", "x/")

    def __init__(self, *paths, error=None):
        self.paths, self.error = paths, error

    def list(self):
        if self.error:
            raise self.error
        return [Object(path, self.location.below(path), 7, f'"mark of {path}"') for path in self.paths]


def test_names_that_begin_with_a_point_or_an_underscore_are_left_out():
    paths = ["a", "b/c.d_e", ".a", "_b", "c/.d", ".e/f", "_g/h/i", "j/_k/l"]
    files = Objects(Listed(*paths)).list(marked=False)
    assert files == [File("a", 7, "mark of a"), File("b/c.d_e", 7, "mark of b/c.d_e")]


def test_a_signal_during_the_listing_is_one_before_the_first_row():
    with pytest.raises(UserError, match=r"^SIGTERM came before the first row was read\.$"):
        Objects(Listed(error=ReadingStopped())).list(marked=False)
