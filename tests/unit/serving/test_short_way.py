"""Which requests go the short way."""

import pytest

from knn_container.serving.short_way import Head, read_head

PLAIN = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: text/csv\r\nContent-Length: 12"


def test_what_counts_is_read_in_any_case_and_order():
    head = b"POST /invocations HTTP/1.1\r\ncontent-length:7\r\nHOST: x\r\naccept: text/csv \r\nX-Other: a:b"
    assert read_head(head) == Head(7, "", "text/csv", None)
    assert read_head(PLAIN + b"\r\nX-Amzn-SageMaker-Custom-Attributes: k=3; a=b") == Head(
        12, "text/csv", None, "k=3; a=b"
    )


@pytest.mark.parametrize(
    "head",
    [
        PLAIN.replace(b"POST", b"PUT"),
        PLAIN.replace(b"/invocations", b"/invocations?x=1"),
        PLAIN.replace(b"/invocations", b"/ping"),
        PLAIN.replace(b"1.1", b"1.0"),
        PLAIN.replace(b"Host: x\r\n", b""),
        PLAIN.replace(b"\r\nContent-Length: 12", b""),
        PLAIN.replace(b": 12", b": -12"),
        PLAIN.replace(b": 12", b": +12"),
        PLAIN.replace(b": 12", b": 1_2"),
        PLAIN.replace(b": 12", b": 12, 12"),
        PLAIN.replace(b"Host:", b"Host :"),
        PLAIN.replace(b"\r\n", b"\n"),
        PLAIN + b"\r\nContent-Length: 12",
        PLAIN + b"\r\nContent-Length: 13",
        PLAIN + b"\r\nTransfer-Encoding: chunked",
        PLAIN + b"\r\nConnection: close",
        PLAIN + b"\r\nExpect: 100-continue",
        PLAIN + b"\r\nUpgrade: h2c",
        PLAIN + b"\r\nX-Folded: a\r\n b",
        PLAIN + b"\r\nX-Null: a\0b",
        PLAIN + b"\r\nX-High: \xff",
        PLAIN + b"\r\nno colon",
        PLAIN + b"\r\n",
    ],
)
def test_what_is_not_plain_goes_the_usual_way(head):
    assert read_head(head) is None
