"""What an Accept header chooses."""

import pytest

JSON, LINES, RECORDIO, CSV = (
    "application/json",
    "application/jsonlines",
    "application/x-recordio-protobuf",
    "text/csv",
)


@pytest.fixture
def ask(line):
    def ask_(accept):
        headers = {} if accept is None else {"Accept": accept}
        return line.post("/invocations", data="2\n", content_type="text/csv", headers=headers)

    return ask_


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (None, JSON),
        ("", JSON),
        (" ", JSON),
        ("*/*", JSON),
        ("*", JSON),
        ("application/*", JSON),
        ("text/*", CSV),
        ("APPLICATION/JSONLINES", LINES),
        ("Text/CSV", CSV),
        ("text/csv, application/json", CSV),
        ("application/json,text/csv", JSON),
        ("application/x-npy, application/jsonlines", LINES),
        ("application/x-npy, */*", JSON),
        ("text/html, application/xhtml+xml, */*;q=0.8", JSON),
        ("application/json;q=0.5, text/csv;q=0.9", CSV),
        ("application/json;q=0.5, text/csv", CSV),
        ("application/json; q=0.2, application/*; q=0.1, text/csv; q=0.3", CSV),
        ("application/json;q=0, */*", LINES),
        ("application/json;q=0, text/csv;q=0.1", CSV),
        ("application/json; charset=utf-8", JSON),
        ("application/jsonlines;charset=UTF-8", LINES),
        ("application/x-recordio-protobuf; q=1.0", RECORDIO),
    ],
)
def test_the_answer_is_of_the_type_that_weighs_most(ask, accept, chosen):
    response = ask(accept)
    assert (response.status_code, response.content_type) == (200, chosen)


@pytest.mark.parametrize(
    ("accept", "chosen", "verbose"),
    [
        ("application/json; verbose=true", JSON, True),
        ("application/json;verbose=True", JSON, True),
        ("application/json;verbose=TRUE", JSON, True),
        ("APPLICATION/JSON; VERBOSE=true", JSON, True),
        ('application/json; verbose="true"', JSON, True),
        ("application/json ; verbose=true", JSON, True),
        ("application/json; charset=utf-8; verbose=true", JSON, True),
        ("application/json; verbose=true; q=0.9, text/csv; q=0.1", JSON, True),
        ("application/jsonlines; verbose=true", LINES, True),
        ("application/jsonlines;verbose=true;charset=utf-8", LINES, True),
        ("application/x-recordio-protobuf; verbose=true", RECORDIO, True),
        ("text/csv; verbose=true", CSV, True),
        ("*/*; verbose=true", JSON, True),
        ("application/json; verbose=false", JSON, False),
        ("application/json; verbose=False", JSON, False),
        ("text/csv, application/json; verbose=true", CSV, False),
        ("application/x-npy; verbose=true, application/json", JSON, False),
    ],
)
def test_verbose_belongs_to_the_type_that_is_chosen(ask, parse, accept, chosen, verbose):
    response = ask(accept)
    assert (response.status_code, response.content_type) == (200, chosen)
    assert ("distances" in parse(response)[0]) is verbose


@pytest.mark.parametrize(
    "accept",
    [
        "application/x-npy",
        "application/x-npy, text/html",
        "image/*",
        "application/json;q=0",
        "*/*;q=0",
        "application/jsonl",
    ],
)
def test_a_type_that_cannot_be_written_is_406_and_the_answer_names_those_that_can(ask, accept):
    response = ask(accept)
    assert response.status_code == 406
    error = response.get_json()["error"]
    assert accept in error
    assert all(name in error for name in (JSON, LINES, RECORDIO, CSV))


def test_a_specific_refusal_outweighs_a_wildcard(ask):
    response = ask("*/*, application/json;q=0, application/jsonlines;q=0, text/csv;q=0")
    assert (response.status_code, response.content_type) == (200, RECORDIO)


def test_verbose_is_true_or_false(ask):
    response = ask("application/json; verbose=perhaps")
    assert response.status_code == 400
    assert "verbose=perhaps" in response.get_json()["error"]
