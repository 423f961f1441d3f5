"""Trains, deploys, predicts and transforms in local mode."""

import traceback
from pathlib import Path

import numpy as np
from driver import main
from local_session import connect
from sagemaker.deserializers import (
    BytesDeserializer,
    CSVDeserializer,
    JSONDeserializer,
    JSONLinesDeserializer,
    PandasDeserializer,
    StringDeserializer,
)
from sagemaker.estimator import Estimator
from sagemaker.inputs import TrainingInput
from sagemaker.serializers import CSVSerializer, JSONLinesSerializer, JSONSerializer


def drive(*, image, root, port, output, hyperparameters, channels, queries=None, transforms=()):
    estimator = Estimator(
        image_uri=image,
        role="arn:aws:iam::111122223333:role/knn",
        instance_count=1,
        instance_type="local",
        output_path=f"file://{output}",
        sagemaker_session=connect(port, root),
    )
    estimator.set_hyperparameters(**hyperparameters)
    try:
        estimator.fit({name: channel(**given) for name, given in channels.items()})
    except RuntimeError as error:
        return {"failure": str(error)}
    result = {"model": estimator.model_data}
    if queries is not None:
        result["answers"] = predict(estimator, np.load(queries))
    if transforms:
        result["transforms"] = {given["name"]: attempt(transform, estimator, **given) for given in transforms}
    return result


def channel(folder, content_type=None):
    return TrainingInput(f"file://{folder}", content_type=content_type) if content_type else f"file://{folder}"


def attempt(function, *arguments, **options):
    """So that one refusal does not hide others."""
    try:
        return function(*arguments, **options)
    except Exception:  # whatever it is, the test shows it
        return traceback.format_exc()


def predict(estimator, rows):
    predictor = estimator.deploy(
        initial_instance_count=1,
        instance_type="local",
        serializer=CSVSerializer(),
        deserializer=JSONDeserializer(),
        wait=False,  # local mode returns when the endpoint answers; waiting means to look again after 30 seconds
    )
    lists = rows.tolist()
    plain = [{"features": row} for row in lists]
    nested = [{"data": {"features": {"values": row}}} for row in lists]
    sparse = [
        {
            "data": {
                "features": {
                    "keys": [i for i, x in enumerate(row) if x],
                    "shape": [len(row)],
                    "values": [*filter(None, row)],
                }
            }
        }
        for row in lists
    ]
    verbose = "; verbose=true"
    requests = {
        "csv": (CSVSerializer(), JSONDeserializer(), rows),
        "csv, list": (CSVSerializer(), JSONDeserializer(), lists),
        "csv, one row": (CSVSerializer(), JSONDeserializer(), rows[0]),
        "csv, verbose": (CSVSerializer(), JSONDeserializer(accept=f"application/json{verbose}"), rows),
        "csv, csv": (CSVSerializer(), CSVDeserializer(), rows),
        "csv, pandas": (CSVSerializer(), PandasDeserializer(accept="text/csv"), rows),
        "csv, either": (CSVSerializer(), StringDeserializer(accept=("text/csv", "application/json")), rows),
        "csv, string": (CSVSerializer(), StringDeserializer(), rows),
        "csv, bytes": (CSVSerializer(), BytesDeserializer(), rows),
        "csv, npy": (CSVSerializer(), StringDeserializer(accept="application/x-npy"), rows),
        "json": (JSONSerializer(), JSONDeserializer(), {"instances": plain}),
        "json, nested": (JSONSerializer(), JSONDeserializer(), {"instances": nested}),
        "json, sparse": (JSONSerializer(), JSONDeserializer(), {"instances": sparse}),
        "json, verbose": (
            JSONSerializer(),
            JSONDeserializer(accept=f"application/json{verbose}"),
            {"instances": plain},
        ),
        "json, jsonlines": (JSONSerializer(), JSONLinesDeserializer(), {"instances": plain}),
        "jsonlines": (JSONLinesSerializer(), JSONLinesDeserializer(), plain),
        "jsonlines, nested": (JSONLinesSerializer(), JSONLinesDeserializer(), nested),
        "jsonlines, verbose": (
            JSONLinesSerializer(),
            JSONLinesDeserializer(accept=f"application/jsonlines{verbose}"),
            plain,
        ),
        "jsonlines, json": (JSONLinesSerializer(), JSONDeserializer(), plain),
    }
    answers = {}
    for name, (predictor.serializer, predictor.deserializer, data) in requests.items():
        answers[name] = attempt(lambda data: plainly(predictor.predict(data)), data)
    predictor.serializer, predictor.deserializer = CSVSerializer(), JSONDeserializer()
    answers["csv, initial_args"] = attempt(
        predictor.predict, rows, initial_args={"Accept": "application/json; verbose=true", "ContentType": "text/csv"}
    )
    predictor.delete_model()
    predictor.delete_endpoint()
    return answers


def plainly(answer):
    if isinstance(answer, bytes):
        return answer.decode()
    return answer.to_dict("split") if hasattr(answer, "to_dict") else answer


def transform(estimator, name, data, output, content_type, **given):
    transformer = estimator.transformer(
        instance_count=1,
        instance_type="local",
        output_path=f"file://{output}",
        **{option: given[option] for option in ("strategy", "assemble_with", "accept", "env") if option in given},
    )
    transformer.transform(
        f"file://{data}",
        content_type=content_type,
        split_type=given.get("split_type"),
        wait=False,  # local mode returns at the end of the job; waiting means to ask the cloud for its log
    )
    return {path.name: path.read_bytes().decode("latin-1") for path in Path(output).iterdir()}


main(drive)
