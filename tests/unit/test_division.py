"""Which host reads which file."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knn_container.errors import UserError
from knn_container.training.channels import FULLY_REPLICATED, SHARDED, Channel, File, Folder, Pipe
from knn_container.training.division import Piece, divide

SIZES = st.dictionaries(st.sampled_from([f"file {place}" for place in range(8)]), st.integers(0, 100), min_size=1)


@pytest.fixture
def channel(tmp_path):
    def make(distribution=None, *, pipe=False):
        source = Pipe(tmp_path / "train_0", open) if pipe else Folder(tmp_path, open)
        return Channel("train", source, None, 32, distribution)

    return make


def files(sizes, mark="same"):
    return [File(path, size, mark) for path, size in sorted(sizes.items())]


def read_by(divided):
    return {(host, piece.path) for host, pieces in divided.items() for piece in pieces}


def test_one_host_reads_all_in_data_order_whatever_was_declared(channel):
    for distribution in (None, SHARDED, FULLY_REPLICATED):
        divided = divide(channel(distribution), {"a": files({"x": 5, "b/y": 7})})
        assert divided == {"a": [Piece("b/y", 7, "b/y"), Piece("x", 5, "x")]}


def test_the_largest_file_goes_first_to_whoever_has_least(channel):
    # 8 to a, 7 to b, 6 to b (13), 5 to a (13), 4 to a: equal loads go by name.
    sizes = {"p": 4, "q": 8, "r": 6, "s": 7, "t": 5}
    divided = divide(channel(FULLY_REPLICATED), {"b": files(sizes), "a": files(sizes)})
    assert {host: [piece.path for piece in pieces] for host, pieces in divided.items()} == {
        "a": ["p", "q", "t"],
        "b": ["r", "s"],
    }


@given(sizes=SIZES, hosts=st.integers(2, 5), declared=st.booleans())
def test_a_file_that_all_hosts_see_is_read_by_one_under_its_own_name(sizes, hosts, declared):
    channel = Channel("train", Folder(None, open), None, 32, FULLY_REPLICATED if declared else None)
    divided = divide(channel, {f"host {number}": files(sizes) for number in range(hosts)})
    assert sorted(divided) == [f"host {number}" for number in range(hosts)]
    pieces = [piece for part in divided.values() for piece in part]
    assert sorted(piece.path for piece in pieces) == sorted(sizes)
    assert all(piece == Piece(piece.path, sizes[piece.path], piece.path) for piece in pieces)
    # Whoever gives out to the least loaded leaves nobody behind by more than the largest.
    loads = [sum(piece.size for piece in part) for part in divided.values()]
    assert max(loads) - min(loads) <= max(sizes.values())


@given(
    seen=st.lists(
        st.dictionaries(
            st.sampled_from(["a", "b", "b@0", "b@1", "b\t1", "c/d"]),
            st.tuples(st.integers(0, 3), st.sampled_from("xy")),
        ),
        min_size=2,
        max_size=4,
    ).filter(any),
    sharded=st.booleans(),
)
def test_of_files_that_nobody_or_the_platform_has_divided_each_is_read_once(seen, sharded):
    channel = Channel("train", Folder(None, open), None, 32, SHARDED if sharded else None)
    found = {
        f"host {number}": [File(path, size, mark) for path, (size, mark) in sorted(mine.items())]
        for number, mine in enumerate(seen)
    }
    divided = divide(channel, found)
    whose = {host: {file.path: file for file in mine} for host, mine in found.items()}
    read = [whose[host][path] for host, path in read_by(divided)]  # a host reads only what it sees
    expected = [file for mine in found.values() for file in mine]
    if not sharded:  # equal files are one
        assert len(read) == len(set(read)) == len(set(expected))
    assert set(read) == set(expected)
    assert sharded is False or len(read) == len(expected)
    # Rows of different files have different places in the sample.
    places = [piece.place for part in divided.values() for piece in part]
    assert len(places) == len(set(places))
    for part in divided.values():
        assert [piece.path for piece in part] == sorted(piece.path for piece in part)


def test_files_of_one_name_that_differ_come_one_after_another_in_the_order_of_the_hosts(channel):
    found = {f"host-{number:02}": [File("x", number, "")] for number in range(12)} | {"host-99": [File("x.gz", 1, "")]}
    places = [piece.place for part in divide(channel(SHARDED), found).values() for piece in part]
    assert sorted(places) == places, "the tenth host's rows come behind the ninth's"
    assert places[-1] == "x.gz"


def test_files_are_in_bytewise_order_on_each_host(channel):
    sizes = dict.fromkeys(["a-b", "a/b", "é", "B", "\udcff"], 1)
    found = {"one": [File(path, 1) for path in sizes], "two": []}
    assert [piece.path for piece in divide(channel(), found)["one"]] == ["B", "a-b", "a/b", "é", "\udcff"]


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ({"x": 5}, "'y' is not the same on all: algo-1 has 7 bytes, algo-2 has none"),
        ({"x": 5, "y": 8}, "'y' is not the same on all: algo-1 has 7 bytes, algo-2 has 8 bytes"),
        ({}, "'x' is not the same on all: algo-1 has 5 bytes, algo-2 has none"),
    ],
)
def test_files_that_should_be_the_same_and_are_not_are_named_with_their_sizes(channel, second, words):
    found = {"algo-1": files({"x": 5, "y": 7}), "algo-2": files(second)}
    with pytest.raises(UserError, match="'train': expected the same files on all hosts") as caught:
        divide(channel(FULLY_REPLICATED), found)
    assert words in str(caught.value)


@pytest.mark.parametrize("distribution", [None, SHARDED, FULLY_REPLICATED])
@pytest.mark.parametrize("hosts", [1, 3])
def test_no_file_on_any_host_is_the_users_mistake(channel, tmp_path, distribution, hosts):
    with pytest.raises(UserError, match="'train' has no files") as caught:
        divide(channel(distribution), {str(number): [] for number in range(hosts)})
    assert str(tmp_path) in str(caught.value)


PIPE = [File("train_0", None)]


def test_hosts_take_turns_at_the_batches_of_pipes_that_carry_the_same(channel):
    divided = divide(channel(FULLY_REPLICATED, pipe=True), {"b": PIPE, "a": PIPE})
    assert divided == {
        "a": [Piece("train_0", 0, "train_0", turn=0, turns=2)],
        "b": [Piece("train_0", 0, "train_0", turn=1, turns=2)],
    }


def test_pipes_that_carry_shards_are_each_read_whole_in_the_order_of_the_hosts(channel):
    found = {f"algo-{number}": PIPE for number in range(1, 13)}
    divided = divide(channel(SHARDED, pipe=True), found)
    assert {(piece.path, piece.turn, piece.turns) for (piece,) in divided.values()} == {("train_0", 0, 1)}
    places = [divided[host][0].place for host in sorted(found)]
    assert len(set(places)) == 12
    assert sorted(places) == places


def test_of_pipes_that_nobody_declares_the_declaration_is_asked_for(channel):
    with pytest.raises(UserError, match="expected an S3DistributionType, FullyReplicated or ShardedByS3Key, none came"):
        divide(channel(pipe=True), {"a": PIPE, "b": PIPE})
    assert divide(channel(pipe=True), {"a": PIPE}) == {"a": [Piece("train_0", 0, "train_0")]}
