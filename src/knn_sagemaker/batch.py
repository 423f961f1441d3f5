"""Plans transform jobs, which predict for whole files."""

from dataclasses import dataclass

from knn_container.formats import mediatype
from knn_sagemaker.hosting import Instances, Model
from knn_sagemaker.place import Place, split_uri
from knn_sagemaker.requests import Request, Step, without_none
from knn_sagemaker.waiting import TRANSFORM


@dataclass(frozen=True)
class Batch:
    """What a transform job reads and writes.

    Attributes:
        input: S3 address of a prefix.
        content_type: of its files.
        accept: of the answers.
        compression: `None`, or `Gzip` where the files are packed.
        strategy: `MultiRecord` or `SingleRecord`.
        payload_mb, concurrency: of a request, and requests at a time; None leaves them to the container.
        input_filter, output_filter, join: JSONPath, JSONPath, and whether the input's columns come too.
    """

    input: str
    content_type: str
    accept: str = mediatype.JSONLINES
    compression: str = "None"
    strategy: str = "MultiRecord"
    payload_mb: int = 6
    concurrency: int | None = None
    input_filter: str | None = None
    output_filter: str | None = None
    join: bool = False

    @property
    def split(self) -> str:
        """How files are cut into requests."""
        name = mediatype.parse(self.content_type).name
        splits = {mediatype.CSV: "Line", mediatype.JSONLINES: "Line", mediatype.RECORDIO: "RecordIO"}
        return splits.get(name, "None")

    @property
    def assemble(self) -> str:
        """What stands between answers: nothing, since each ends its last line, unless the platform joins columns."""
        return "Line" if self.join else "None"


def transform(
    place: Place,
    job: str,
    model: Model | str,
    batch: Batch,
    instances: Instances,
    *,
    kms_key: str | None = None,
    wait: bool,
) -> list[Step]:
    """Plans a batch transform.

    Args:
        place: where.
        job: its name, and its folder of results.
        model: what is made for it, or the name of a SageMaker model that there is.
        batch: what it reads and writes.
        instances: what it runs on.
        kms_key: encrypts results and volumes.
        wait: to its end.
    """
    split_uri("--input", batch.input)
    processing = without_none(
        {
            "InputFilter": batch.input_filter,
            "OutputFilter": batch.output_filter,
            "JoinSource": "Input" if batch.join else None,
        }
    )
    create = Request(
        "sagemaker",
        "CreateTransformJob",
        without_none(
            {
                "TransformJobName": place.named("--job", job),
                "ModelName": model if isinstance(model, str) else model.name,
                "MaxConcurrentTransforms": batch.concurrency,
                "MaxPayloadInMB": batch.payload_mb,
                "BatchStrategy": batch.strategy,
                "TransformInput": {
                    "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": batch.input}},
                    "ContentType": batch.content_type,
                    "CompressionType": batch.compression,
                    "SplitType": batch.split,
                },
                "TransformOutput": without_none(
                    {
                        "S3OutputPath": place.uri("transform", job) + "/",
                        "Accept": batch.accept,
                        "AssembleWith": batch.assemble,
                        "KmsKeyId": kms_key,
                    }
                ),
                "TransformResources": without_none(
                    {
                        "InstanceType": instances.instance_type,
                        "InstanceCount": instances.instance_count,
                        "VolumeKmsKeyId": kms_key,
                    }
                ),
                "DataProcessing": processing or None,
                "Tags": place.tags,
            }
        ),
    )
    make = [] if isinstance(model, str) else [model.creating(place)]
    return [*make, create, *([TRANSFORM.describing(job)] if wait else [])]
