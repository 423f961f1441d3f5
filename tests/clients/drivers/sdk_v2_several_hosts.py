"""Trains on several hosts in local mode, deploys what comes of it, and predicts."""

import numpy as np
from driver import main
from local_session import connect
from sagemaker.deserializers import JSONDeserializer
from sagemaker.estimator import Estimator
from sagemaker.inputs import TrainingInput
from sagemaker.serializers import CSVSerializer


def drive(*, image, root, port, output, instances, hyperparameters, content_type, channels, queries=None):
    estimator = Estimator(
        image_uri=image,
        role="arn:aws:iam::111122223333:role/knn",
        instance_count=instances,
        instance_type="local",
        output_path=f"file://{output}",
        sagemaker_session=connect(port, root),
    )
    estimator.set_hyperparameters(**hyperparameters)
    inputs = {name: TrainingInput(f"file://{it}", content_type=content_type) for name, it in channels.items()}
    try:
        estimator.fit(inputs)
    except RuntimeError as error:
        return {"failure": str(error)}
    result = {"model": estimator.model_data}
    if queries is not None:
        predictor = estimator.deploy(
            initial_instance_count=1,
            instance_type="local",
            serializer=CSVSerializer(),
            deserializer=JSONDeserializer(accept="application/json; verbose=true"),
            wait=False,  # local mode returns when the endpoint answers; waiting means to look again after 30 seconds
        )
        result["answers"] = predictor.predict(np.load(queries))["predictions"]
        predictor.delete_model()
        predictor.delete_endpoint()
    return result


main(drive)
