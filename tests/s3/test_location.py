import pytest

from knn_container.s3.location import Location, Object, parse, parse_object


@pytest.mark.parametrize(
    ("text", "bucket", "key"),
    [
        ("s3://bucket/key", "bucket", "key"),
        ("s3://bucket/a/b c/ü%20.csv", "bucket", "a/b c/ü%20.csv"),
        ("s3://bucket/folder/", "bucket", "folder/"),
        ("s3://bucket//key", "bucket", "/key"),
        ("s3://bucket/", "bucket", ""),
        ("s3://bucket", "bucket", ""),
        ("s3://bucket/with\nline", "bucket", "with\nline"),
    ],
)
def test_a_location_is_a_bucket_and_a_key_as_it_is(text, bucket, key):
    assert parse(text) == Location(bucket, key)


@pytest.mark.parametrize(
    "text", ["", "bucket/key", "s3:/bucket/key", "s3:///key", "https://bucket/key", "S3://b/k", None, 1]
)
def test_what_is_no_location_is_refused(text):
    with pytest.raises(ValueError, match=r"expected s3://BUCKET/KEY, .* came"):
        parse(text)


@pytest.mark.parametrize("text", ["s3://bucket", "s3://bucket/", "s3://bucket/folder/"])
def test_no_object_has_a_key_that_is_empty_or_ends_with_a_slash(text):
    with pytest.raises(ValueError, match="expected the key of an object"):
        parse_object(text)


@pytest.mark.parametrize(
    ("folder", "file"),
    [
        ("s3://bucket", "s3://bucket/name"),
        ("s3://bucket/", "s3://bucket/name"),
        ("s3://bucket/a", "s3://bucket/a/name"),
        ("s3://bucket/a/", "s3://bucket/a/name"),
    ],
)
def test_a_name_below_a_folder_has_one_slash_in_front(folder, file):
    assert str(parse(folder).below("name")) == file


def test_the_mark_of_an_object_is_its_etag_without_quotes():
    assert Object("path", Location("bucket", "key"), 1, '"d41d8"').mark == "d41d8"
