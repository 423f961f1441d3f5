"""What the commands do: each plans what it sends; a dry run prints that, and a run sends it."""

import argparse
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from knn_sagemaker import (
    algorithm,
    asking,
    batch,
    hosting,
    iam,
    made,
    registry,
    removal,
    rows,
    sending,
    storage,
    training,
    values,
    waiting,
)
from knn_sagemaker.api import Api
from knn_sagemaker.errors import Failure, Mistake
from knn_sagemaker.place import Place
from knn_sagemaker.requests import Request, Step
from knn_sagemaker.waiting import say


@dataclass(frozen=True)
class Call:
    """A command with its options.

    Attributes:
        options: of the command line.
        place: where.
        stamp: a name for what is made now.
    """

    options: argparse.Namespace
    place: Place
    stamp: str

    @property
    def waits(self) -> bool:
        """Whether it stays to the end."""
        return not self.options.no_wait

    @property
    def endpoint(self) -> str:
        """The endpoint's name."""
        return str(self.options.endpoint or f"{self.place.name}-endpoint")

    @property
    def job(self) -> str:
        """The job's name."""
        return str(self.options.job or self.stamp)


def _watch(call: Call, api: Api) -> waiting.Watch:
    return waiting.Watch(api, call.options.poll)


def plan_push(call: Call) -> list[Step]:
    """What `push` sends."""
    return registry.push(call.place, call.options.image, _target(call))


def _target(call: Call) -> str:
    host = call.options.registry or call.place.registry
    return f"{host}/{call.place.repository}:{call.options.tag}"


def push(call: Call, api: Api) -> dict[str, Any]:
    """Pushes the image."""
    return {"image": registry.send_push(api, call.place, call.options.image, _target(call))}


def plan_upload(call: Call) -> list[Request]:
    """What `upload` sends."""
    with _rows(call) as found:
        return storage.upload(call.place, found, _channel_key(call, found), call.options.kms_key)


def _rows(call: Call) -> AbstractContextManager[rows.Rows]:
    given = call.options
    return rows.open_rows(given.file, given.labels, labelled=not given.unlabelled)


def _channel_key(call: Call, found: rows.Rows) -> str:
    return call.place.key("data", call.options.channel, found.name)


def upload(call: Call, api: Api) -> dict[str, Any]:
    """Uploads a file."""
    with _rows(call) as found:
        key = _channel_key(call, found)
        say(f"Uploading {found.count:,} rows, {found.size:,} bytes")
        storage.send_upload(api, call.place, found, key, call.options.kms_key)
        uri = f"s3://{call.place.bucket}/{key}"
        return {"uri": uri, "content_type": found.content_type, "rows": found.count}


def plan_train(call: Call) -> list[Step]:
    """What `train` sends."""
    given = call.options
    return training.train(
        call.place,
        call.job,
        values.given(given),
        values.channels(given),
        values.machines(given, call.place),
        wait=call.waits,
    )


def train(call: Call, api: Api) -> dict[str, Any]:
    """Trains."""
    answer = sending.send(api, plan_train(call), call.options.poll)
    return {"job": call.job} | (waiting.outcome(waiting.TRAINING, answer) if call.waits else {})


def plan_tune(call: Call) -> list[Step]:
    """What `tune` sends."""
    given = call.options
    fixed, search = values.search(given)
    return training.tune(
        call.place,
        call.job,
        fixed,
        search=search,
        channels=values.channels(given),
        machines=values.machines(given, call.place),
        wait=call.waits,
    )


def tune(call: Call, api: Api) -> dict[str, Any]:
    """Tunes."""
    answer = sending.send(api, plan_tune(call), call.options.poll)
    return {"job": call.job} | (waiting.outcome(waiting.TUNING, answer) if call.waits else {})


def plan_deploy(call: Call) -> list[Step]:
    """What `deploy` sends."""
    given, place = call.options, call.place
    model = values.model(given, place, call.stamp)
    many = values.models(given, place)
    steps = hosting.deploy(
        place,
        call.endpoint,
        model,
        values.variant(given),
        queue=values.queue(given),
        many=many,
        kms_key=given.kms_key,
        wait=call.waits,
    )
    return [*_looks(place, model, many is not None), *steps]


def _looks(place: Place, model: hosting.Model, many: bool) -> list[Request]:
    """Looks for the model, before anything is made for it."""
    if many or not place.owns(model.data):
        return []
    key = model.data.removeprefix(f"s3://{place.bucket}/")
    note = "only to see that the model is there, before anything is made for it"
    return [Request("s3", "HeadObject", {"Bucket": place.bucket, "Key": key}, note)]


def deploy(call: Call, api: Api) -> dict[str, Any]:
    """Deploys."""
    answer = sending.send(api, plan_deploy(call), call.options.poll)
    return {"endpoint": call.endpoint} | (waiting.outcome(waiting.ENDPOINT, answer) if call.waits else {})


def plan_transform(call: Call) -> list[Step]:
    """What `transform` sends."""
    given, place = call.options, call.place
    if given.model and (given.training_job or given.model_data):
        raise Mistake("Say which model: one of --model, --training-job and --model-data.")
    if given.download and given.no_wait:
        raise Mistake("--download: there is nothing to fetch before the end; leave --no-wait out.")
    model = given.model or values.model(given, place, call.stamp)
    steps = batch.transform(
        place,
        call.job,
        model,
        values.batch(given, place),
        hosting.Instances(given.instance_type, given.instance_count),
        kms_key=given.kms_key,
        wait=call.waits,
    )
    looks = [] if isinstance(model, str) else _looks(place, model, False)
    return [*looks, *steps, *(storage.download_plan(place, _results(call)) if given.download else [])]


def _results(call: Call) -> str:
    return call.place.key("transform", call.job) + "/"


def transform(call: Call, api: Api) -> dict[str, Any]:
    """Transforms."""
    steps = plan_transform(call)
    fetched = len(storage.download_plan(call.place, "")) if call.options.download else 0
    answer = sending.send(api, steps[: len(steps) - fetched], call.options.poll)
    result: dict[str, Any] = {"job": call.job}
    if call.waits:
        result |= waiting.outcome(waiting.TRANSFORM, answer)
    if call.options.download:
        files = storage.download(api, call.place, _results(call), call.options.download)
        result["files"] = [str(file) for file in files]
    return result


def plan_invoke(call: Call) -> list[Request]:
    """What `invoke` sends."""
    return [asking.shown(request) for request in _questions(call)]


def _questions(call: Call) -> list[Request]:
    given = call.options
    body, content_type = asking.read_body(given.file, given.body, given.content_type)
    accept = f"{given.accept}; verbose=true" if given.verbose else given.accept
    question = asking.Question(body, content_type, accept, given.target_model, given.attributes)
    if given.asynchronous:
        return asking.invoke_later(call.place, call.endpoint, question, call.stamp)
    return [asking.invoke(call.endpoint, question)]


def invoke(call: Call, api: Api) -> None:
    """Asks."""
    given, requests = call.options, _questions(call)
    if given.asynchronous:
        answer = asking.send_later(api, requests, given.poll, given.timeout)
    else:
        answer = storage.body_of(api, requests[0])
    if given.output:
        storage.write_whole(given.output, answer)
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(answer)
        sys.stdout.buffer.flush()


def plan_delete(call: Call) -> list[Request]:
    """What `delete` sends."""
    return made.plan(call.place, repository=call.options.delete_repository)


def delete(call: Call, api: Api) -> None:
    """Deletes."""
    found = removal.find(api, call.place, repository=call.options.delete_repository)
    lines = found.lines(call.place)
    if not lines:
        say(f"There is nothing that was made under the name {call.place.name}.")
        return
    say("\n".join(lines))
    if not call.options.yes and not _confirmed():
        raise Failure("Nothing is deleted.")
    removal.delete(api, call.place, found, _watch(call, api), lambda what: say(f"done: {what}"))


def _confirmed() -> bool:
    if not sys.stdin.isatty():
        raise Mistake("--yes: needed where nobody can be asked.")
    print("Delete all this? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def plan_wait(call: Call) -> list[Request]:
    """What `wait` sends."""
    return [waiting.KINDS[call.options.kind].describing(call.options.which)]


def wait(call: Call, api: Api) -> dict[str, Any]:
    """Waits."""
    kind, name = waiting.KINDS[call.options.kind], call.options.which
    return {kind.name: name} | waiting.outcome(kind, _watch(call, api).until_done(kind, name))


def plan_stop(call: Call) -> list[Request]:
    """What `stop` sends."""
    kind = waiting.KINDS[call.options.kind]
    if kind.stop is None:
        raise Mistake(f"An {kind.noun} cannot be stopped: scripts/sagemaker delete")
    return [kind.stopping(call.options.which)]


def stop(call: Call, api: Api) -> None:
    """Stops a job."""
    api.send(plan_stop(call)[0])
    say(f"The {call.options.kind} job {call.options.which} is being stopped.")


def policy(call: Call, _: Api) -> dict[str, Any]:
    """Makes a policy."""
    given = call.options
    if given.whose == "caller":
        return iam.caller(call.place, values.role(given), given.kms_key)
    if given.whose == "role":
        return iam.execution_role(call.place, given.kms_key, given.topic, vpc=given.vpc)
    return iam.trust()


def specification(call: Call, _: Api) -> dict[str, Any]:
    """Makes the algorithm specification."""
    given = call.options
    return algorithm.specification(given.algorithm_name or call.place.name, values.image(given, call.place))
