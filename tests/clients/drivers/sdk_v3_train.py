"""Trains with the SDK v3 in local containers."""

import boto3
from driver import main
from sagemaker.core.helper.session_helper import Session
from sagemaker.core.training.configs import Compute, InputData
from sagemaker.train.model_trainer import Mode, ModelTrainer


def drive(image, root, hyperparameters, channels):
    trainer = ModelTrainer(
        training_image=image,
        training_mode=Mode.LOCAL_CONTAINER,
        compute=Compute(instance_type="local_cpu", instance_count=1),
        role="arn:aws:iam::111122223333:role/knn",
        sagemaker_session=Session(boto3.Session(region_name="us-west-2")),
        hyperparameters=hyperparameters,
        local_container_root=root,
    )
    inputs = [
        InputData(channel_name=name, data_source=given["folder"], content_type=given.get("content_type"))
        for name, given in channels.items()
    ]
    trainer.train(input_data_config=inputs, wait=True)


main(drive)
