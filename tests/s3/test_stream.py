import gzip
import json
import random
import subprocess
import sys
import threading
import time
from io import BufferedReader

import pytest
import s3_store

from knn_container.errors import PlatformError, UserError
from knn_container.s3.client import connect
from knn_container.s3.location import Location, Object
from knn_container.s3.source import Source
from knn_container.s3.stream import ObjectStream, Room

PART = 1000


def noise(size, seed=0):
    return random.Random(seed).randbytes(size)


@pytest.fixture
def put(store):
    """Puts content into a bucket of its own and gives the object."""

    def put_(content, key="d/object"):
        bucket = store.bucket({key: content})
        etag = store.client.head_object(Bucket=bucket, Key=key)["ETag"]
        return Object("object", Location(bucket, key), len(content), etag)

    return put_


def read(client, source, room=None, **options):
    with BufferedReader(ObjectStream(client, source, room or Room(PART, 3), **options), 100) as stream:
        return stream.read()


def read_on(stream):
    while stream.read(PART):
        pass


@pytest.mark.parametrize("parts", [0, 1, 3, 8])
@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 2 * PART - 1, 2 * PART, 2 * PART + 1, 7 * PART + 123])
def test_what_is_read_is_what_is_there(put, client, size, parts):
    content = noise(size)
    assert read(client, put(content), Room(PART, parts)) == content


@pytest.mark.parametrize("length", [1, 7, 999, 1000, 1001, 5000])
def test_however_many_bytes_are_asked_for_at_a_time(put, client, length):
    content = noise(3 * PART + 11)
    came = []
    with ObjectStream(client, put(content), Room(PART, 2)) as stream:
        while chunk := stream.read(length):
            assert len(chunk) <= length
            came.append(chunk)
        assert stream.read(length) == b""
    assert b"".join(came) == content


def test_a_reader_of_gzip_reads_it(put, client):
    content = noise(5 * PART)
    packed = put(gzip.compress(content))
    with BufferedReader(ObjectStream(client, packed, Room(PART, 2))) as stream, gzip.open(stream) as unpacked:
        assert stream.peek(2)[:2] == b"\x1f\x8b"
        assert unpacked.read() == content


def test_it_is_a_stream_that_is_read_only_and_forwards_only(put, client):
    with ObjectStream(client, put(b"1"), Room()) as stream:
        assert (stream.readable(), stream.writable(), stream.seekable()) == (True, False, False)


def test_each_byte_is_asked_for_once(put, through, proxy):
    content = noise(5 * PART + 1)
    read(through, put(content))
    ranges = [f"bytes={start}-{min(start + PART, len(content)) - 1}" for start in range(0, len(content), PART)]
    assert sorted(came for *_, came in proxy.requests) == sorted(ranges)


class TestFaults:
    def test_throttling_is_waited_out(self, put, through, proxy):
        content = noise(4 * PART)
        proxy.fail(s3_store.answers(503, "SlowDown"), times=8)
        assert read(through, put(content)) == content
        assert proxy.count("GET") == 12

    def test_throttling_without_end_is_an_error_that_says_so(self, put, proxy, aws):
        aws.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
        aws.setenv("AWS_MAX_ATTEMPTS", "3")
        source = put(noise(PART))
        proxy.fail(s3_store.answers(503, "SlowDown"), times=100)
        with pytest.raises(PlatformError, match=rf"{source.location}: S3 has answered every attempt with SlowDown"):
            read(connect(), source)
        assert proxy.count("GET") == 3

    @pytest.mark.parametrize("bytes_before", [0, 1, 500, 999])
    def test_a_part_that_breaks_off_is_resumed_where_it_broke(self, put, through, proxy, bytes_before):
        content = noise(PART)
        proxy.fail(s3_store.cut(bytes_before))
        assert read(through, put(content)) == content
        assert [came for *_, came in proxy.requests] == ["bytes=0-999", f"bytes={bytes_before}-999"]

    def test_parts_that_break_off_again_and_again_are_put_together(self, put, through, proxy):
        content = noise(8 * PART)
        proxy.fail(s3_store.cut(300), times=20)
        assert read(through, put(content)) == content

    def test_a_part_that_goes_on_a_little_each_time_is_read_to_its_end(self, put, through, proxy):
        content = noise(PART)
        proxy.fail(s3_store.cut(100), times=9)
        assert read(through, put(content)) == content
        assert proxy.count("GET") == 10

    def test_a_connection_that_stalls_is_given_up_and_resumed(self, put, proxy, aws):
        aws.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
        aws.setattr("knn_container.s3.client._READ_SECONDS", 0.3)
        client, content = connect(), noise(PART)
        proxy.fail(s3_store.stalls(500, 3))
        started = time.monotonic()
        assert read(client, put(content)) == content
        assert time.monotonic() - started < 2.5
        client.close()

    def test_an_object_that_breaks_off_without_end_is_an_error_that_says_where(self, put, through, proxy, monkeypatch):
        monkeypatch.setattr("knn_container.s3.stream._LONGEST_DELAY", 0.01)
        source = put(noise(3 * PART))
        proxy.fail(s3_store.cut(0), times=100)
        with pytest.raises(PlatformError, match=rf"{source.location} breaks off at byte 0 of 3000, 6 times in a row: "):
            read(through, source)

    def test_an_object_that_is_written_to_in_the_middle_is_an_error(self, store, put, client):
        source = put(noise(10 * PART))
        with ObjectStream(client, source, Room(PART, 2)) as stream:
            assert stream.read(PART) == noise(10 * PART)[:PART]
            store.client.put_object(Bucket=source.location.bucket, Key=source.location.key, Body=noise(10 * PART, 1))
            with pytest.raises(UserError, match=f"{source.location}: the object has changed since it was listed"):
                read_on(stream)

    def test_an_object_that_is_written_to_between_a_break_and_its_resumption_is_an_error(
        self, store, put, through, proxy
    ):
        source = put(noise(PART))
        proxy.fail(s3_store.cut(500))
        proxy.fail(
            s3_store.after(
                lambda: store.client.put_object(
                    Bucket=source.location.bucket, Key=source.location.key, Body=noise(PART, 1)
                )
            )
        )
        with pytest.raises(UserError, match="has changed"):
            read(through, source)

    def test_an_object_that_is_deleted_in_the_middle_is_an_error(self, store, put, client):
        source = put(noise(10 * PART))
        with ObjectStream(client, source, Room(PART, 2)) as stream:
            stream.read(PART)
            store.client.delete_object(Bucket=source.location.bucket, Key=source.location.key)
            with pytest.raises(UserError, match=f"{source.location}: there is no such object"):
                read_on(stream)

    def test_a_store_that_does_not_know_ranges_is_an_error(self, put, through, proxy):
        def whole(proxy, request, body):
            del request.headers["Range"]
            s3_store.forward(proxy, request, body)

        proxy.fail(whole, times=10)
        with pytest.raises(PlatformError, match=r"expected the 1000 bytes of a range, 2000 came"):
            read(through, put(noise(2 * PART)))

    def test_after_an_error_nothing_more_can_be_read(self, put, through, proxy):
        proxy.fail(s3_store.answers(403, "AccessDenied"))
        stream = BufferedReader(ObjectStream(through, put(noise(3 * PART)), Room(PART, 0)))
        with pytest.raises(UserError, match="access is denied"):
            stream.read()
        with pytest.raises(ValueError, match="closed"):
            stream.read()


class TestRoom:
    def free(self, room):
        """How many parts could be taken now."""
        taken = 0
        while room.take():
            taken += 1
        for _ in range(taken):
            room.give()
        return taken

    def wait_until_free(self, room, parts):
        deadline = time.monotonic() + 10
        while self.free(room) != parts and time.monotonic() < deadline:
            time.sleep(0.01)
        assert self.free(room) == parts

    def test_no_more_parts_are_fetched_ahead_than_there_is_room_for(self, put, through, proxy):
        with ObjectStream(through, put(noise(20 * PART)), Room(PART, 3)) as stream:
            for part in range(1, 17):
                stream.read(PART)
                time.sleep(0.02)
                assert proxy.count("GET") <= part + 2

    def test_a_stream_without_room_still_has_a_part_of_its_own(self, put, client):
        content, room = noise(5 * PART), Room(PART, 2)
        source = put(content)
        with ObjectStream(client, source, room) as first, ObjectStream(client, source, room) as second:
            assert first.read(10) == content[:10]
            assert self.free(room) == 0
            assert second.read(10) == content[:10]
            assert second.read(PART) == content[10:PART]
            assert second.read(PART) == content[PART : 2 * PART]

    @pytest.mark.parametrize("bytes_read", [0, 1, PART, 2 * PART + 1, 5 * PART])
    def test_a_stream_that_is_closed_gives_its_room_back(self, put, client, bytes_read):
        room = Room(PART, 3)
        with BufferedReader(ObjectStream(client, put(noise(5 * PART)), room)) as stream:
            stream.read(bytes_read)
        self.wait_until_free(room, 3)

    def test_a_stream_that_fails_gives_its_room_back(self, put, through, proxy):
        room, source = Room(PART, 3), put(noise(5 * PART))
        proxy.fail(s3_store.answers(403, "AccessDenied"), times=5)
        with pytest.raises(UserError):
            read(through, source, room)
        self.wait_until_free(room, 3)

    def test_a_stream_that_is_closed_asks_for_nothing_more(self, put, through, proxy):
        with ObjectStream(through, put(noise(50 * PART)), Room(PART, 2)) as stream:
            stream.read(1)
        time.sleep(0.2)
        assert proxy.count("GET") <= 2

    def test_many_streams_at_once_read_what_is_there(self, store, client):
        contents = {f"d/{number:02}": noise(number * 777, number) for number in range(24)}
        bucket = store.bucket(contents)
        source = Source(client, {"S3DataType": "S3Prefix", "S3Uri": f"s3://{bucket}/d/"}, room=Room(PART, 4))
        came = {}

        def reader(paths):
            for path in paths:
                with source.open(path) as stream:
                    came[f"d/{path}"] = stream.read()

        paths = [it.path for it in source.list()]
        threads = [threading.Thread(target=reader, args=(paths[start::6],)) for start in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert came == contents


class StopError(Exception):
    pass


def test_what_the_check_raises_comes_while_s3_is_waited_for(put, through, proxy):
    proxy.fail(s3_store.slowly(5))
    until = time.monotonic() + 0.3

    def check():
        if time.monotonic() > until:
            raise StopError

    started = time.monotonic()
    with pytest.raises(StopError):
        read(through, put(b"1"), check=check)
    assert time.monotonic() - started < 2


def test_what_the_check_raises_comes_between_parts(put, client):
    stop = threading.Event()

    def check():
        if stop.is_set():
            raise StopError

    with ObjectStream(client, put(noise(5 * PART)), Room(PART, 2), check) as stream:
        assert len(stream.read(PART)) == PART
        stop.set()
        with pytest.raises(StopError):
            stream.read(PART)


def test_parts_side_by_side_are_faster_than_one_get(put, through, proxy):
    """Where a connection gives 2 MB/s and an answer takes 50 ms, 8 connections are to give 4 times that or more."""
    source = put(noise(4 << 20))
    slow = s3_store.slowly(0.05, 2e6)
    place = {"Bucket": source.location.bucket, "Key": source.location.key}
    proxy.fail(slow, times=100)
    started = time.perf_counter()
    body = through.get_object(**place)["Body"]
    while body.read(1 << 18):
        pass
    plain = time.perf_counter() - started
    took = []
    while len(took) < 3:  # the store itself takes as long at times, on a busy machine
        started = time.perf_counter()
        assert len(read(through, source, Room(1 << 18, 8))) == source.size
        took.append(time.perf_counter() - started)
    assert plain / min(took) > 4


MEMORY = """
import json, re, sys
from pathlib import Path
from knn_container.s3.client import connect
from knn_container.s3.source import Source

def peak():
    # Not ru_maxrss, which begins with what the parent had.
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) << 10

source = Source(connect(), json.loads(sys.argv[1]))
small, large = (it.path for it in source.list())
source.open(small).read()  # what a first request loads
before, count = peak(), 0
with source.open(large) as stream:
    while chunk := stream.read(1 << 20):
        count += len(chunk)
print(json.dumps([count, peak() - before]))
"""


def test_memory_is_that_of_the_parts_however_large_the_object_is(store):
    size = 256 << 20
    bucket = store.bucket({"d/0": b"1", "d/1": bytes(size)})
    config = json.dumps({"S3DataType": "S3Prefix", "S3Uri": f"s3://{bucket}/d/"})
    done = subprocess.run([sys.executable, "-c", MEMORY, config], stdout=subprocess.PIPE, check=True, timeout=200)
    count, grown = json.loads(done.stdout)
    assert count == size
    # 4 parts of 8 MiB and the one of the stream, and 16 MiB for buffers of sockets and threads.
    assert grown < (5 * 8 + 16) << 20
