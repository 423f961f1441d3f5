"""Jobs run in this process, and the models that they leave behind Flask's test client."""

import json
import signal
from dataclasses import dataclass

import numpy as np
import pytest

from knn_container import settings
from knn_container.serving.app import create_app
from knn_container.serving.dataplane import DataPlane
from knn_container.serving.preparation import Preparation
from knn_container.serving.store import ModelHolder
from knn_container.serving.turns import CpuTurns
from knn_container.training import run
from knn_container.training.job import Folders


@pytest.fixture(scope="session")
def train(write_job):
    """Trains and gives the job's folder."""

    def train_(files, *, pack=False, **options):
        base = write_job(files, **options)
        run.train(Folders(base), pack=pack)
        return base

    return train_


@pytest.fixture(scope="session")
def serve():
    """Loads what a folder holds and gives a client of the routes."""

    def serve_(folder=None, max_content_length=1 << 20):
        holder = ModelHolder()
        if folder is not None:
            preparation = Preparation(folder)
            holder.load(preparation)
            preparation.clean()
        return create_app(DataPlane(CpuTurns(2)), holder, max_content_length).test_client()

    return serve_


@pytest.fixture(scope="session")
def trained(train, digits, csv):
    """A folder in which the digits were trained, with k=5."""
    return train({"train/digits.csv": csv(digits.train_rows, digits.train_labels)}, k=5)


@pytest.fixture(scope="session")
def client(serve, trained):
    return serve(trained / "model")


@pytest.fixture(scope="session")
def serve_rows(train, serve, recordio):
    """Trains on (n, d) rows and their labels, and gives a client."""

    def serve_rows_(rows, labels, *, label_kind="float32", **hyperparameters):
        body = recordio.rows(rows, labels, label_kind=label_kind)
        job = train({"train/rows.rec": body}, content_type="application/x-recordio-protobuf", **hyperparameters)
        return serve(job / "model")

    return serve_rows_


@pytest.fixture(scope="session")
def line(serve_rows):
    """Rows 0, 1, 3 and 7 of one feature, labelled 10, 20, 20 and 30, with k=3."""
    return serve_rows([[0], [1], [3], [7]], [10, 20, 20, 30])


@dataclass(frozen=True)
class Outcome:
    """How a training job ended."""

    status: int
    failure: str
    has_model: bool


@pytest.fixture
def run_job(write_job):
    """Runs a job to its end as `train` does."""
    handler = signal.getsignal(signal.SIGTERM)

    def run_job_(files, *, base=None, **options):
        base = base or write_job(files, **options)
        status = run.main(settings.read({"SAGEMAKER_BASE_DIR": str(base)}))
        failure = base / "output" / "failure"
        left = [base / "model" / "manifest.json", base / "output" / "model.tar.gz"]
        return Outcome(status, failure.read_text() if failure.exists() else "", any(path.exists() for path in left))

    yield run_job_
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture(scope="session")
def parse(recordio):
    """Reads an answer of any type into one dict a row: name to float64 values; what is not there is left out."""

    def parse_(response):
        body = response.get_data()
        match response.content_type:
            case "application/json":
                rows = json.loads(body)["predictions"]
            case "application/jsonlines":
                rows = [json.loads(line) for line in body.splitlines()]
            case "application/x-recordio-protobuf":
                rows = [{name: values for name, (_, values) in record.items()} for record in recordio.read(body)]
            case "text/csv":
                table = [[float(cell) for cell in line.split(b",")] for line in body.splitlines()]
                rows = [_csv_row(cells) for cells in table]
        return [{name: np.atleast_1d(values).astype(np.float64) for name, values in row.items()} for row in rows]

    return parse_


def _csv_row(cells):
    k = len(cells) // 2
    lists = {"labels": cells[1 : 1 + k], "distances": cells[1 + k :]} if k else {}
    return {"predicted_label": cells[0]} | lists
