import io
import string
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from knn_container.batch import dense
from knn_container.errors import FormatError
from knn_container.formats import csv

BAD_ROWS = [
    # text, row at fault, words of the reason
    ("1,2\n3,x\n", 2, ["column 2", "'x'"]),
    ("1,2\n3,\n", 2, ["column 2", "''"]),
    ("1,2\n,3\n", 2, ["column 1"]),
    ("1,2\n\n\n3,4,5\n", 4, ["expected 2 features, 3 came"]),
    ("1,2\n3\n", 2, ["expected 2 features, 1 came"]),
    ("1,2\n3;4\n", 2, ["'3;4'"]),
    ("1,2\n#3,4\n", 2, ["'#3'"]),
    ("1,2\n3,nan\n", 2, ["feature 2 is nan"]),
    ("1,2\n-inf,3\n", 2, ["feature 1 is -inf"]),
    ("1,2\n\n1e39,3\n", 3, ["feature 1 is 1e+39"]),
    ("1,2\n3,1e400\n", 2, ["feature 2 is inf"]),
    ("1,2\n3,0x10\n", 2, ["'0x10'"]),
    ("1,2\n1_0,3\n", 2, ["1_0"]),
    ("1,2\n\u0663,3\n", 2, ["\u0663"]),
    ('1,2\n"3,4"\n', 2, []),
    ('1,2\n"3"",4\n', 2, []),
    ("1,2\n3,4\x00\n", 2, ["column 2"]),
]


def read(text: str | bytes, batch_size: int = 100, width: int | None = None, **options):
    stream = io.BytesIO(text.encode() if isinstance(text, str) else text)
    return list(csv.read_batches(stream, batch_size, width, **options))


def request(text: str | bytes, width: int = 2, **options):
    return csv.decode_request(text.encode() if isinstance(text, str) else text, width, **options).tolist()


@pytest.mark.parametrize(
    "text",
    [
        "1,2\n3,4",
        "1,2\n3,4\n",
        "1,2\r\n3,4\r\n",
        "1,2\r3,4\r",
        "\ufeff1,2\n3,4\n",
        "\n1,2\n \n\t\n3,4\n\n\n",
        '"1","2"\n3,"4"\n',
        " 1 ,\t2\n3 , 4 \n",
        "1.0,2.\n+3,04.00\n",
        "1e0,.2e1\n30E-1,0.04e+2\n",
    ],
)
def test_spellings_of_the_same_rows(text):
    assert request(text) == [[1, 2], [3, 4]]
    rows = [(label, *row) for it in read(text) for label, row in zip(it.labels, dense(it.features), strict=True)]
    assert rows == [(1, 2), (3, 4)]


@pytest.mark.parametrize(
    "encoding", ["utf-8", "UTF8", "latin-1", "ascii", "utf-16", "utf-16-le", "utf-32", "cp1252", "utf-8-sig"]
)
def test_text_is_read_in_its_encoding(encoding):
    text = "1,2.5\n-3,4e2\n".encode(encoding)
    assert request(text, encoding=encoding) == [[1, 2.5], [-3, 400]]
    assert [batch.labels.tolist() for batch in read(text, encoding=encoding)] == [[1, -3]]


@given(st.lists(st.floats(-3e38, 3e38), min_size=1, max_size=20))
@example([0.1, 1 / 3, 16777217.0, 1e-45, 5e-46, 1.0000000596046448])
def test_numbers_are_rounded_to_float64_and_then_to_float32(numbers):
    rows = request(",".join(map(repr, numbers)), len(numbers))
    assert rows == [np.array(numbers, np.float64).astype(np.float32).tolist()]


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_labels_keep_all_of_float64(labels):
    (batch,) = read("".join(f"{label!r},1\n" for label in labels))
    assert batch.labels.tolist() == labels


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 100])
def test_rows_come_in_batches_and_in_order(batch_size):
    batches = read("".join(f"{i},{-i}\n\n" for i in range(7)), batch_size)
    assert [len(batch) for batch in batches] == [min(batch_size, 7 - i) for i in range(0, 7, batch_size)]
    assert [label for batch in batches for label in batch.labels] == list(range(7))
    assert [row for batch in batches for row in dense(batch.features).ravel()] == [-i for i in range(7)]


@pytest.mark.parametrize("text", ["", "\n", " \r\n\t\n", "\ufeff"])
def test_no_row_is_an_empty_file_and_a_refused_request(text):
    assert read(text) == []
    with pytest.raises(FormatError, match="empty body"):
        request(text)


@pytest.mark.parametrize(("label_size", "rows"), [(0, [[9, 8, 1, 2]]), (1, [[8, 1, 2]]), (2, [[1, 2]]), (3, [[2]])])
def test_columns_in_front_of_a_requests_features_are_dropped(label_size, rows):
    assert request("9,8,1,2\n", 4 - label_size, label_size=label_size) == rows


@pytest.mark.parametrize("label_size", [4, 5, 100])
def test_a_request_of_labels_alone_is_refused(label_size):
    with pytest.raises(FormatError, match="row 1"):
        request("9,8,1,2\n", 2, label_size=label_size)


def test_a_file_of_labels_alone_is_refused():
    with pytest.raises(FormatError, match=r"row 1: .*at least one feature"):
        read("1\n2\n")


@pytest.mark.parametrize(("text", "row", "words"), BAD_ROWS)
def test_a_bad_row_of_a_request_is_named_by_its_line(text, row, words):
    with pytest.raises(FormatError) as caught:
        request(text)
    assert caught.value.row == row
    assert all(word in caught.value.reason for word in words)


@pytest.mark.parametrize("batch_size", [1, 2, 100])
@pytest.mark.parametrize(("text", "row", "words"), BAD_ROWS)
def test_a_bad_row_of_a_file_is_named_by_its_line_whatever_the_batch(batch_size, text, row, words):
    with_labels = "".join(f"7,{line}\n" if line else "\n" for line in text.split("\n")[:-1])
    with pytest.raises(FormatError) as caught:
        read(with_labels, batch_size)
    assert caught.value.row == row


@pytest.mark.parametrize("label", ["nan", "inf", "-1e400"])
def test_a_label_that_is_no_number_is_named_by_its_line(label):
    with pytest.raises(FormatError, match="row 3: the label is") as caught:
        read(f"1,2\n\n{label},2\n")
    assert caught.value.row == 3


def test_a_header_is_hinted_at_in_the_first_row_alone():
    with pytest.raises(FormatError, match=r"row 1: column 1 is 'label'.*header"):
        read("label,x\n1,2\n")
    with pytest.raises(FormatError) as caught:
        read("1,2\nlabel,x\n")
    assert "header" not in caught.value.reason


def test_the_width_is_the_first_rows_or_the_one_given():
    with pytest.raises(FormatError, match="row 3: expected 1 features, 2 came"):
        read("1,2\n1,2\n1,2,3\n", 2)
    with pytest.raises(FormatError, match="row 1: expected 3 features, 1 came"):
        read("1,2\n", width=3)


@pytest.mark.parametrize(
    ("text", "encoding", "row"),
    [
        (b"1,2\n3,4\n5,\xff\n7,8\n", "utf-8", 3),
        (b"\xff", "utf-8", 1),
        (b"1,2\n" * 5000 + b"5,\xe9\n" + b"1,2\n" * 5000, "utf-8", 5001),
        (b"1,2\n3,\xe9\n", "ascii", 2),
    ],
)
def test_text_of_another_encoding_is_named_by_its_line(text, encoding, row):
    with pytest.raises(FormatError) as caught:
        request(text, encoding=encoding)
    assert caught.value.row == row
    assert encoding in caught.value.reason


@pytest.mark.parametrize("encoding", ["klingon", "", "base64", "utf\0", "undefined", "punycode", "utf-16"])
def test_an_encoding_that_cannot_read_the_text_is_refused(encoding):
    with pytest.raises(FormatError):
        request(b"1,2\n3,4\n", encoding=encoding)
    with pytest.raises(FormatError):
        read(b"1,2\n3,4\n", encoding=encoding)


@settings(max_examples=400)
@given(
    st.one_of(
        st.text(alphabet=string.digits + ',.-+eE"\n\r\t ;xn\u0663\u2028\x0c\x00', max_size=40).map(str.encode),
        st.binary(max_size=30),
    )
)
def test_any_bytes_give_rows_or_format_errors_alone(body):
    for decode in (
        lambda: [(len(batch), dense(batch.features).shape[0], len(batch.labels)) for batch in read(body, 2)],
        lambda: len(request(body)),
    ):
        with suppress(FormatError):
            decode()


@pytest.mark.parametrize(
    ("columns", "lines"),
    [
        ([[np.array([1], np.float32), np.array([-2.5], np.float32)]], b"1.0\n-2.5\n"),
        ([[np.array([0.1], np.float32)], [np.array([0.1, 1 / 3])]], b"0.1,0.1,0.3333333333333333\n"),
        ([[np.array([1e-45], np.float32)], [np.array([2.0**53])]], b"1e-45,9007199254740992.0\n"),
    ],
)
def test_numbers_are_written_in_their_shortest_exact_form(columns, lines):
    body = csv.encode(columns)
    assert body == lines
    for i, line in enumerate(body.decode().splitlines()):
        numbers = [number for column in columns for number in column[i]]
        assert [type(number)(cell) for number, cell in zip(numbers, line.split(","), strict=True)] == numbers
