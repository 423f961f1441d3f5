"""CSV requests, answered by the model of the rows 0, 1, 3 and 7, whose distances show what was read."""

import pytest

# Squared distances, in ascending order, of the three nearest rows.
TO = {2: [1.0, 1.0, 4.0], 7: [0.0, 16.0, 36.0], 0.5: [0.25, 0.25, 6.25]}


@pytest.fixture
def distances(line, parse):
    def distances_(body, content_type="text/csv"):
        headers = {"Accept": "application/json; verbose=true"}
        response = line.post("/invocations", data=body, content_type=content_type, headers=headers)
        assert response.status_code == 200, response.get_data()
        return [answer["distances"].tolist() for answer in parse(response)]

    return distances_


@pytest.mark.parametrize(
    "body",
    [
        b"2\n7",
        b"2\n7\n",
        b"2\r\n7\r\n",
        b"2\r\n7",
        b"2\n7\n\n",
        b"2\n7\r\n\r\n",
        b"2\n\n7\n",
        b" 2 \n\t7\n   \n",
        b"2.0\n7.000\n",
        b"2e0\n+7E0\n",
        b'"2"\n"7"\n',
        b"\xef\xbb\xbf2\n7\n",
    ],
    ids=[
        "no last newline",
        "newline",
        "CRLF",
        "CRLF, no last newline",
        "blank last line",
        "CRLF, blank last line",
        "blank line",
        "spaces",
        "decimals",
        "exponents",
        "quotes",
        "byte order mark",
    ],
)
def test_these_are_the_rows_2_and_7(distances, body):
    assert distances(body) == [TO[2], TO[7]]


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/csv; label_size=0", b"2\n0.5\n"),
        ("text/csv; label_size=1", b"99,2\n98,0.5\n"),
        ("text/csv;label_size=2;charset=utf-8", b"99,98,2\n97,96,0.5\n"),
        ("text/csv; LABEL_SIZE=1", b"99,2\n98,0.5\n"),
        ('text/csv; label_size="1"', b"99,2\n98,0.5\n"),
    ],
)
def test_label_size_columns_in_front_are_dropped(distances, content_type, body):
    assert distances(body, content_type) == [TO[2], TO[0.5]]


@pytest.mark.parametrize("parameter", ["encoding", "charset"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "latin-1", "ASCII", "UTF-8", "utf8", "utf-8-sig"])
def test_the_encoding_is_that_of_the_content_type(distances, parameter, encoding):
    assert distances("2\n0.5\n".encode(encoding), f"text/csv; {parameter}={encoding}") == [TO[2], TO[0.5]]


def test_the_encoding_outweighs_the_charset(distances):
    assert distances("2\n".encode("utf-16-le"), "text/csv; charset=utf-8; encoding=utf-16-le") == [TO[2]]
