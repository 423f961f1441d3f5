import pytest

pytestmark = [pytest.mark.container, pytest.mark.slow, pytest.mark.timeout(1800)]


def test_trains_and_serves_without_a_gpu(job, train, start, default_image, digits):
    code, log = train(job, image=default_image)
    assert code == 0, log
    server = start(f"--volume={job}:/opt/ml", image=default_image)
    server.wait_until_ready()
    digits.assert_predicted(server.invoke(digits.queries_csv, "text/csv").text)
