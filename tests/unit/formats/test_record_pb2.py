import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
FOLDER = Path("knn_container") / "formats"


@pytest.fixture(scope="module")
def generated(tmp_path_factory) -> Path:
    """What scripts/generate-protobuf makes of record.proto."""
    pytest.importorskip("grpc_tools")
    target = tmp_path_factory.mktemp("generated")
    subprocess.run(
        [
            *(sys.executable, "-m", "grpc_tools.protoc", "--proto_path=src"),
            *(f"--python_out={target}", f"--mypy_out=quiet:{target}"),
            "src/knn_container/formats/record.proto",
        ],
        cwd=REPOSITORY,
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        check=True,
    )
    return target / FOLDER


@pytest.mark.parametrize("name", ["record_pb2.py", "record_pb2.pyi"])
def test_committed_code_is_what_the_proto_file_generates(generated, name):
    assert (REPOSITORY / "src" / FOLDER / name).read_text() == (generated / name).read_text()
