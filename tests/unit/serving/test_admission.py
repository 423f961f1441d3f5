from contextlib import suppress

import pytest

from knn_container.errors import RequestError
from knn_container.serving.admission import Admission


def test_requests_beyond_the_number_are_503_until_one_ends():
    admission = Admission(2, 100)
    with admission.admit():
        with (
            admission.admit(),
            pytest.raises(RequestError, match="2 requests are under way") as caught,
            admission.admit(),
        ):
            pass
        assert caught.value.status == 503
        with admission.admit():
            pass


def test_bytes_of_all_bodies_are_bounded_and_come_free_again():
    admission = Admission(10, 100)
    with admission.admit() as first:
        first.take(60)
        with admission.admit() as second:
            second.take(40)
            with pytest.raises(RequestError, match="100 bytes are under way") as caught:
                second.take(1)
            assert caught.value.status == 503
        with admission.admit() as third:
            third.take(40)


def test_one_body_alone_may_be_larger():
    admission = Admission(10, 100)
    with admission.admit() as alone:
        alone.take(1000)
        alone.take(1000)
        with admission.admit() as other, pytest.raises(RequestError):
            other.take(1)


def test_a_request_that_fails_gives_its_place_back():
    admission = Admission(1, 100)
    for _ in range(3):
        with suppress(KeyError), admission.admit() as place:
            place.take(100)
            raise KeyError
    with admission.admit() as place:
        place.take(100)
