"""The examples of docs/sagemaker.md with SageMaker's SDKs, run as they stand there, in local mode."""

import ast
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

pytestmark = [pytest.mark.container, pytest.mark.slow, pytest.mark.timeout(900)]

DOCUMENT = (Path(__file__).parents[2] / "docs/sagemaker.md").read_text()
IMAGE = "knn-container:cpu"
SCORE = r"#quality_metric: host=\S+, test accuracy <score>=(\S+)"


def example(title):
    body = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#+ )", DOCUMENT, re.MULTILINE | re.DOTALL)[1]
    (code,) = re.findall(r"```python\n(.*?)```", body, re.DOTALL)
    return code


@pytest.fixture(scope="module")
def folder(compose_root, monkeypatch_module):
    """A folder with the data that the document's first example writes."""
    folder = compose_root / "documents"
    folder.mkdir()
    monkeypatch_module.chdir(folder)
    exec(compile(example("First for nothing"), "docs/sagemaker.md", "exec"), {})
    return folder


@pytest.fixture(scope="module")
def monkeypatch_module():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def accuracy():
    """Scikit-learn's share of right answers is near: pixels are whole numbers, so that rows tie."""
    from sklearn.neighbors import KNeighborsClassifier  # noqa: PLC0415

    rows, labels = load_digits(return_X_y=True)
    model = KNeighborsClassifier(5, algorithm="brute").fit(rows[:1437], labels[:1437])
    return model.score(rows[1437:], labels[1437:])


def test_the_data_are_the_digits(folder):
    rows, labels = load_digits(return_X_y=True)
    table = np.loadtxt(folder / "digits/test/digits.csv", delimiter=",")
    assert table.tolist() == np.column_stack([labels, rows])[1437:].tolist()
    assert np.load(folder / "digits/train.npy").shape == (1437, 65)


def test_sdk_v2(sdk_v2, image, folder, free_port, accuracy):
    done = sdk_v2.run(
        "documents.py",
        code=example("SDK v2: Estimator"),
        image=image,
        named=IMAGE,
        folder=str(folder),
        port=free_port(),
    )
    assert float(re.search(SCORE, done.log + done.result)[1]) == pytest.approx(accuracy, abs=0.01)
    # The SDK writes the server's log from a thread of its own, which may go on in the line of the answer.
    (printed,) = re.findall(r"\[\{'predicted_label'.*?\}\]", done.result)
    predictions = ast.literal_eval(printed)
    assert [answer["predicted_label"] for answer in predictions] == load_digits().target[1437:1440].tolist()
    assert [len(answer["labels"]) for answer in predictions] == [5, 5, 5]
    assert (folder / "model/model.tar.gz").is_file()


def test_sdk_v3(sdk_v3, image, folder, accuracy):
    done = sdk_v3.run(
        "documents.py", code=example("SDK v3: ModelTrainer"), image=image, named=IMAGE, folder=str(folder)
    )
    assert float(re.search(SCORE, done.log + done.result)[1]) == pytest.approx(accuracy, abs=0.01)
    with tarfile.open(folder / "compressed_artifacts/model.tar.gz") as archive:
        assert "manifest.json" in [Path(name).name for name in archive.getnames()]
