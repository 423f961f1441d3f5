import json
import random
from itertools import chain

import pytest
import s3_store

from knn_container.errors import UserError
from knn_container.s3.source import Source


def prefix(bucket, key, **others):
    return {"S3DataType": "S3Prefix", "S3Uri": f"s3://{bucket}/{key}"} | others


def manifest(bucket, key, **others):
    return {"S3DataType": "ManifestFile", "S3Uri": f"s3://{bucket}/{key}"} | others


def paths(source):
    return [it.path for it in source.list()]


class TestPrefix:
    @pytest.mark.parametrize(
        ("key", "found"),
        [
            ("data/train/", ["a.csv", "deep/b.csv"]),
            # As https://github.com/aws/sagemaker-python-sdk/issues/3612 reports of jobs on SageMaker.
            ("data/train", ["train-2.csv", "train/a.csv", "train/deep/b.csv"]),
            ("data/train-", ["train-2.csv"]),
            ("data/train-2.csv", ["train-2.csv"]),
            ("data/test", ["c.csv"]),
            ("data/", ["test/c.csv", "train-2.csv", "train/a.csv", "train/deep/b.csv"]),
            ("dat", ["data/test/c.csv", "data/train-2.csv", "data/train/a.csv", "data/train/deep/b.csv"]),
        ],
    )
    def test_paths_are_those_that_sagemaker_gives_the_files(self, store, client, key, found):
        keys = ["data/", "data/train/", "data/train/a.csv", "data/train/deep/b.csv", "data/train-2.csv"]
        bucket = store.bucket(dict.fromkeys([*keys, "data/test/c.csv", "other.csv"], b"1"))
        assert paths(Source(client, prefix(bucket, key))) == found

    def test_an_empty_prefix_is_the_whole_bucket(self, store, client):
        bucket = store.bucket({"a": b"1", "b/c": b"2"})
        assert paths(Source(client, {"S3DataType": "S3Prefix", "S3Uri": f"s3://{bucket}"})) == ["a", "b/c"]

    def test_more_objects_than_one_answer_lists_are_all_found(self, store, through, proxy):
        # The store lists 1,000 at a time, as S3 does.
        bucket = store.bucket({f"d/{number:04}": b"" for number in range(1001)})
        assert paths(Source(through, prefix(bucket, "d/"))) == [f"{number:04}" for number in range(1001)]
        assert proxy.count("GET", "list-type=2") == 2

    def test_paths_are_in_the_order_of_their_bytes(self, store, client):
        names = ["ä", "z", "Z", "a-b", "a/b", "a b", "a+b", "\U0001f600", "\uffee", "10", "9"]
        bucket = store.bucket({f"d/{name}": b"1" for name in names})
        assert paths(Source(client, prefix(bucket, "d/"))) == sorted(names, key=str.encode)

    def test_an_object_has_its_size_and_a_mark_of_its_content(self, store, client):
        bucket = store.bucket({"a": b"12345", "b": b"12345", "c": b"54321"})
        a, b, c = Source(client, prefix(bucket, "")).list()
        assert (a.size, b.size, c.size) == (5, 5, 5)
        assert a.mark == b.mark == "827ccb0eea8a706c4c34a16891f84e7b"  # the MD5 of 12345
        assert c.mark != a.mark

    def test_no_object_is_an_error_that_names_the_prefix(self, store, client):
        bucket = store.bucket({"data/": b"", "other": b""})
        with pytest.raises(UserError, match=f"s3://{bucket}/data: expected objects"):
            Source(client, prefix(bucket, "data")).list()


class TestManifest:
    def test_names_are_below_its_prefix(self, store, client):
        bucket = store.bucket({"x/a/1.csv": b"one", "x/2.csv": b"two", "x/3.csv": b"three"})
        named = [{"prefix": f"s3://{bucket}/x/"}, "a/1.csv", "2.csv", "a/1.csv"]
        other = store.bucket({"m.json": json.dumps(named).encode()})
        source = Source(client, manifest(other, "m.json"))
        assert [(it.path, it.size) for it in source.list()] == [("2.csv", 3), ("a/1.csv", 3)]
        assert source.open("a/1.csv").read() == b"one"

    def test_a_prefix_that_ends_within_a_name_leaves_the_whole_name(self, store, client):
        bucket = store.bucket({"x/part-1": b"", "x/part-2": b""})
        store.client.put_object(
            Bucket=bucket, Key="m", Body=json.dumps([{"prefix": f"s3://{bucket}/x/part-"}, "1", "2"]).encode()
        )
        assert paths(Source(client, manifest(bucket, "m"))) == ["part-1", "part-2"]

    def test_many_objects_are_looked_up_in_order(self, store, through, proxy):
        names = [f"{number:03}" for number in range(60)]
        bucket = store.bucket({f"d/{name}": name.encode() * int(name) for name in names})
        shuffled = random.Random(0).sample(names, len(names))
        store.client.put_object(
            Bucket=bucket, Key="m", Body=json.dumps([{"prefix": f"s3://{bucket}/d/"}, *shuffled]).encode()
        )
        for _ in range(5):
            proxy.fail(s3_store.slowly(0.05), method="HEAD")
        found = Source(through, manifest(bucket, "m")).list()
        assert [(it.path, it.size) for it in found] == [(name, 3 * int(name)) for name in names]

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"", "Expecting value"),
            (b"{}", "expected a list"),
            (b"[]", "expected a list"),
            (b'["a"]', "expected a list with an object in front"),
            (b'[{"prefix": "bucket/x"}, "a"]', "expected s3://BUCKET/KEY, 'bucket/x' came"),
            (b'[{}, "a"]', "expected s3://BUCKET/KEY, '' came"),
            (b'[{"prefix": "s3://b/"}, "a", 7]', "expected a name as element 3, 7 came"),
            (b'[{"prefix": "s3://b/"}, ""]', 'expected a name as element 2, "" came'),
            (b"\xff\xfe\x00", "can't decode"),
        ],
    )
    def test_what_is_no_manifest_is_refused(self, store, client, content, reason):
        bucket = store.bucket({"m": content})
        with pytest.raises(UserError) as caught:
            Source(client, manifest(bucket, "m")).list()
        assert f"s3://{bucket}/m is not a manifest" in str(caught.value)
        assert reason in str(caught.value)

    def test_a_manifest_that_names_nothing_is_refused(self, store, client):
        bucket = store.bucket({"m": b'[{"prefix": "s3://b/"}]'})
        with pytest.raises(UserError, match="none came"):
            Source(client, manifest(bucket, "m")).list()

    def test_an_object_that_is_missing_is_named(self, store, client):
        bucket = store.bucket({"a": b""})
        store.client.put_object(
            Bucket=bucket, Key="m", Body=json.dumps([{"prefix": f"s3://{bucket}/"}, "a", "gone"]).encode()
        )
        with pytest.raises(UserError, match=f"s3://{bucket}/gone: there is no such object"):
            Source(client, manifest(bucket, "m")).list()


class TestDistribution:
    def test_sharded_by_key_gives_each_object_to_one_host(self, store, client):
        bucket = store.bucket({f"d/{number}": b"" for number in range(7)})
        config = prefix(bucket, "d/", S3DataDistributionType="ShardedByS3Key")
        shards = [paths(Source(client, config, host=host, hosts=3)) for host in range(3)]
        assert sorted(chain(*shards)) == [str(number) for number in range(7)]
        assert sorted(map(len, shards)) == [2, 2, 3]

    def test_with_fewer_objects_than_hosts_some_have_none(self, store, client):
        bucket = store.bucket({"d/0": b""})
        config = prefix(bucket, "d/", S3DataDistributionType="ShardedByS3Key")
        assert [paths(Source(client, config, host=host, hosts=3)) for host in range(3)] == [["0"], [], []]

    @pytest.mark.parametrize("said", [{}, {"S3DataDistributionType": "FullyReplicated"}])
    def test_fully_replicated_gives_every_host_all(self, store, client, said):
        bucket = store.bucket({"d/0": b"", "d/1": b""})
        for host in range(2):
            assert paths(Source(client, prefix(bucket, "d/", **said), host=host, hosts=2)) == ["0", "1"]

    def test_the_name_that_the_container_is_told_is_understood_too(self, store, client):
        bucket = store.bucket({"d/0": b"", "d/1": b""})
        assert paths(Source(client, prefix(bucket, "d/", S3DistributionType="ShardedByS3Key"), host=1, hosts=2)) == [
            "1"
        ]


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"S3Uri": "s3://b/k"}, "S3DataType: expected S3Prefix or ManifestFile, None came"),
        ({"S3DataType": "AugmentedManifestFile", "S3Uri": "s3://b/k"}, "'AugmentedManifestFile' came"),
        ({"S3DataType": "S3Prefix"}, "S3Uri: expected s3://BUCKET/KEY, '' came"),
        ({"S3DataType": "S3Prefix", "S3Uri": "https://b/k"}, "S3Uri: expected s3://BUCKET/KEY"),
        ({"S3DataType": "ManifestFile", "S3Uri": "s3://b/folder/"}, "S3Uri: expected the key of an object"),
        ({"S3DataType": "S3Prefix", "S3Uri": "s3://b/k", "S3DataDistributionType": "x"}, "S3DataDistributionType: "),
    ],
)
def test_a_data_source_that_is_not_known_is_refused(client, config, reason):
    with pytest.raises(UserError) as caught:
        Source(client, config)
    assert reason in str(caught.value)


def test_objects_are_looked_up_once(store, through, proxy):
    bucket = store.bucket({"d/a": b"1", "d/b": b"2"})
    source = Source(through, prefix(bucket, "d/"))
    assert [source.open(path).read() for path in paths(source)] == [b"1", b"2"]
    assert paths(source) == ["a", "b"]
    assert proxy.count("GET", "list-type=2") == 1


def test_a_path_that_is_not_listed_cannot_be_opened(store, client):
    bucket = store.bucket({"d/a": b"1"})
    with pytest.raises(FileNotFoundError, match="no object has the path 'b'"):
        Source(client, prefix(bucket, "d/")).open("b")


def test_what_the_check_raises_ends_the_listing(store, client):
    class StopError(Exception):
        pass

    def check():
        raise StopError

    with pytest.raises(StopError):
        Source(client, prefix(store.bucket({"a": b""}), ""), check=check).list()
