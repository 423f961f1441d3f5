"""RecordIO requests; the golden bytes are what SageMaker's own SDK writes."""

import struct

import pytest

TYPE = "application/x-recordio-protobuf"
DENSE = bytes.fromhex(
    "0a23d7ce340000000a1e0a0676616c756573121412120a109a99993f6666a63f9a9919416666a24112120a0676616c756573120812060a0400008040"
)
SPARSE = bytes.fromhex(
    "0a23d7ce330000000a1d0a0676616c756573121312110a080000803f00002040120201031a010412120a0676616c756573120812060a040000404000"
)
ZEROS = bytes.fromhex("0a23d7ce110000000a0f0a0676616c756573120512031a0104000000")
MAGIC = bytes.fromhex("0a23d7ce")
(AS_FLOAT,) = struct.unpack("<f", MAGIC)
ROWS = [[1.2, 1.3, 9.6, 20.3], [0, 1, 0, 2.5], [0, 0, 0, 0]]


@pytest.fixture(scope="module")
def client(serve_rows):
    """The golden rows with the labels 0, 1 and 2: an answer names the row that it read."""
    return serve_rows(ROWS, [0, 1, 2], k=1)


@pytest.fixture(scope="module")
def ask(client, parse):
    def ask_(body):
        """Gives the labels of the rows that were found at distance 0."""
        headers = {"Accept": "application/json; verbose=true"}
        response = client.post("/invocations", data=body, content_type=TYPE, headers=headers)
        assert response.status_code == 200, response.get_data()
        answers = parse(response)
        assert [answer["distances"].tolist() for answer in answers] == [[0.0]] * len(answers)
        return [answer["predicted_label"][0] for answer in answers]

    return ask_


@pytest.mark.parametrize(("frame", "row"), [(DENSE, 0), (SPARSE, 1), (ZEROS, 2)], ids=["dense", "sparse", "zeros"])
def test_golden_frames_are_read(ask, frame, row):
    assert ask(frame) == [row]


def test_frames_of_every_kind_may_follow_each_other(ask):
    assert ask(ZEROS + DENSE + SPARSE + DENSE) == [2, 0, 1, 0]


@pytest.mark.parametrize(("frame", "row"), [(DENSE, 0), (SPARSE, 1), (ZEROS, 2)], ids=["dense", "sparse", "zeros"])
def test_a_record_without_a_frame_is_read(ask, frame, row):
    (length,) = struct.unpack_from("<I", frame, 4)
    assert ask(frame[8 : 8 + length]) == [row]


@pytest.mark.parametrize("kind", ["float32", "float64", "int32"])
class TestTensors:
    def test_dense(self, serve_rows, recordio, parse, kind):
        client = serve_rows([[-3, 4], [100000, 0]], [5, 6], k=1)
        response = client.post("/invocations", data=recordio.rows([[-3, 4], [100000, 0]], kind=kind), content_type=TYPE)
        assert [answer["predicted_label"][0] for answer in parse(response)] == [5, 6]

    @pytest.mark.parametrize("shape", [(4,), (1, 4)])
    def test_sparse(self, serve_rows, recordio, parse, kind, shape):
        client = serve_rows([[0, 0, 7, 0], [-3, 0, 0, 4]], [5, 6], k=1)
        tensor = recordio.tensor([-3, 4], kind, keys=(0, 3), shape=shape)
        response = client.post(
            "/invocations",
            data=recordio.frame(recordio.record(tensor)),
            content_type=TYPE,
            headers={"Accept": "application/json; verbose=true"},
        )
        assert parse(response) == [{"predicted_label": 6, "distances": 0, "labels": 6}]

    def test_zeros_without_keys_and_values(self, ask, recordio, kind):
        assert ask(recordio.frame(recordio.record(recordio.tensor([], kind, shape=(4,))))) == [2]


def test_a_dense_tensor_may_have_a_shape(ask, recordio):
    assert ask(recordio.frame(recordio.record(recordio.tensor(ROWS[0], shape=(4,))))) == [0]


def test_a_label_in_a_request_is_left_unread(ask, recordio):
    assert ask(recordio.frame(recordio.record(recordio.tensor(ROWS[1]), recordio.tensor([99])))) == [1]


@pytest.mark.parametrize("parts", [2, 3])
def test_the_parts_of_a_record_are_joined_by_the_magic_between_them(serve_rows, recordio, parse, parts):
    """A writer that finds the magic in a payload cuts there, and drops it."""
    row = [AS_FLOAT, 1.0, AS_FLOAT, AS_FLOAT, 2.0][: 2 * parts - 1]
    pieces = recordio.record(recordio.tensor(row)).split(MAGIC)
    flags = [1, *[2] * (len(pieces) - 2), 3]
    body = b"".join(recordio.frame(piece, flag) for piece, flag in zip(pieces, flags, strict=True))
    client = serve_rows([[0] * len(row), row], [5, 6], k=1)
    response = client.post("/invocations", data=body + recordio.rows([row]), content_type=TYPE)
    assert [answer["predicted_label"][0] for answer in parse(response)] == [6, 6]


def test_a_payload_that_holds_the_magic_uncut_is_read(serve_rows, recordio, parse):
    row = [AS_FLOAT, 1.0, AS_FLOAT, 2.0]
    body = recordio.rows([row, [0, 0, 0, 0], row])
    assert body.count(MAGIC) == 3 + 4
    client = serve_rows([[0, 0, 0, 0], row], [5, 6], k=1)
    response = client.post("/invocations", data=body, content_type=TYPE)
    assert [answer["predicted_label"][0] for answer in parse(response)] == [6, 5, 6]


@pytest.mark.parametrize("last", [b"\x20\x20\x20\x20", b"\x0a\x0d\x09\x20"], ids=["spaces", "mixed"])
@pytest.mark.parametrize("framed", [True, False])
def test_bytes_that_look_like_spaces_at_the_end_belong_to_the_payload(serve_rows, recordio, parse, framed, last):
    row = [1.0, *struct.unpack("<f", last)]
    payload = recordio.record(recordio.tensor(row))
    assert payload.endswith(last)
    client = serve_rows([[0, 0], row], [5, 6], k=1)
    body = recordio.frame(payload) if framed else payload
    response = client.post(
        "/invocations", data=body, content_type=TYPE, headers={"Accept": "application/json; verbose=true"}
    )
    assert response.status_code == 200, response.get_data()
    assert parse(response) == [{"predicted_label": 6, "distances": 0, "labels": 6}]


def test_the_padding_behind_the_last_frame_may_be_missing(ask):
    assert ask(ZEROS + SPARSE.removesuffix(b"\0")) == [2, 1]
