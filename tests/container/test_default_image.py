import json

import pytest

pytestmark = [pytest.mark.container, pytest.mark.slow, pytest.mark.timeout(1800)]


def test_trains_and_serves_without_a_gpu(job, train, start, default_image, digits):
    code, log = train(job, image=default_image)
    assert code == 0, log
    server = start(f"--volume={job}:/opt/ml", image=default_image)
    server.wait_until_ready()
    digits.assert_predicted(server.invoke(digits.queries_csv, "text/csv").text)


WHY = "FAISS works on the CPU: "


def test_inverted_lists_are_built_and_searched_without_a_gpu_and_the_log_says_why(
    make_job, tmp_path, train, start, default_image, digits
):
    folder = make_job(tmp_path / "ml", index_type="faiss.IVFFlat", faiss_index_ivf_nlists=20)
    code, log = train(folder, image=default_image)
    assert code == 0, log
    assert f"{WHY}this container has no NVIDIA driver" in log
    assert log.count(WHY) == 1
    server = start(f"--volume={folder}:/opt/ml", image=default_image)
    server.wait_until_ready()
    assert server.invoke(digits.queries_csv, "text/csv").ok
    assert f"{WHY}this container has no NVIDIA driver" in server.logs()


def test_cuda_is_found_and_asked_for_by_the_image(docker, run, default_image):
    environment = json.loads(docker("image", "inspect", "--format={{json .Config.Env}}", default_image).stdout)
    assert {"NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_DRIVER_CAPABILITIES=compute,utility"} <= set(environment)
    program = (
        "from knn_container.gpu import runtime; import ctypes; cuda = runtime.load(); v = ctypes.c_int(); "
        "assert cuda.cudaRuntimeGetVersion(ctypes.byref(v)) == 0; print(v.value)"
    )
    done = run("--entrypoint=python", command=("-c", program), image=default_image)
    assert done.returncode == 0, done.stderr
    assert 12000 <= int(done.stdout) < 13000
