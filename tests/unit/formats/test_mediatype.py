import pytest
from hypothesis import given
from hypothesis import strategies as st

from knn_container.formats import mediatype
from knn_container.formats.mediatype import MediaType


@pytest.mark.parametrize(
    ("text", "name", "parameters"),
    [
        ("text/csv", "text/csv", {}),
        ("  text/csv  ", "text/csv", {}),
        ("TEXT/Csv", "text/csv", {}),
        ("text/csv;label_size=1", "text/csv", {"label_size": "1"}),
        ("text/csv; label_size=1", "text/csv", {"label_size": "1"}),
        ("text/csv ;  label_size = 1 ; charset = utf8", "text/csv", {"label_size": "1", "charset": "utf8"}),
        ("text/csv; LABEL_SIZE=1;Charset=UTF-8", "text/csv", {"label_size": "1", "charset": "UTF-8"}),
        ('text/csv;label_size="1"', "text/csv", {"label_size": "1"}),
        ('text/csv;x="a;b=c"', "text/csv", {"x": "a;b=c"}),
        ("text/csv;label_size", "text/csv", {"label_size": ""}),
        ("application/json; verbose=true", "application/json", {"verbose": "true"}),
        ("application/jsonlines;verbose=true;q=0.5", "application/jsonlines", {"verbose": "true", "q": "0.5"}),
        ("*/*", "*/*", {}),
        ("", "", {}),
    ],
)
def test_a_type_and_its_parameters_are_told_apart(text, name, parameters):
    assert mediatype.parse(text) == MediaType(name, parameters)


@pytest.mark.parametrize("text", ["text/csv;", "text/csv;;label_size=1", ";", "; label_size=1"])
def test_stray_semicolons_change_neither_the_type_nor_the_other_parameters(text):
    parsed = mediatype.parse(text)
    assert parsed.name == text.split(";")[0]
    assert {name: value for name, value in parsed.parameters.items() if name} == (
        {"label_size": "1"} if "label" in text else {}
    )


def test_an_encoded_parameter_is_text():
    # RFC 2231: name*=charset'language'value
    assert mediatype.parse("text/csv; charset*=us-ascii'en'utf-8").parameters == {"charset": "utf-8"}


@given(st.text(max_size=30), st.text("*'=;\"%0aé ", max_size=20))
def test_any_header_can_be_parsed(text, parameters):
    parsed = mediatype.parse(f"{text};{parameters}")
    assert all(isinstance(value, str) for value in (parsed.name, *parsed.parameters.values()))


@pytest.mark.parametrize("text", ["text/csv", "text/csv; label_size=1", "application/json; verbose=true; q=0.5"])
def test_a_type_prints_as_it_is_written(text):
    assert str(mediatype.parse(text)) == text
