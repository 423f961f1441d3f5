"""The commands, in the order in which one needs them."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from knn_sagemaker import actions, options
from knn_sagemaker.actions import Call
from knn_sagemaker.api import Api
from knn_sagemaker.requests import Step


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        name: on the command line.
        help: one sentence.
        add_options: declares what it takes.
        plan: gives what it sends, in order; None where it sends nothing.
        run: does it, and gives what a program wants to know of it.
        needs_account: whether the account's number is in what it sends.
    """

    name: str
    help: str
    add_options: Callable[[argparse.ArgumentParser], None]
    plan: Callable[[Call], Sequence[Step]] | None
    run: Callable[[Call, Api], Any]
    needs_account: bool = True


def _all(*adds: Callable[[argparse.ArgumentParser], None]) -> Callable[[argparse.ArgumentParser], None]:
    def add(parser: argparse.ArgumentParser) -> None:
        for each in adds:
            each(parser)

    return add


def _polling(parser: argparse.ArgumentParser) -> None:
    options.add_waiting(parser, may_leave=False)


COMMANDS = (
    Command("push", "pushes the image to the account's registry", options.add_push, actions.plan_push, actions.push),
    Command(
        "upload",
        "checks a file of rows and uploads it as a channel",
        options.add_upload,
        actions.plan_upload,
        actions.upload,
    ),
    Command(
        "train", "trains a model", _all(options.add_waiting, options.add_training), actions.plan_train, actions.train
    ),
    Command(
        "tune",
        "finds the best k and sample_size",
        _all(options.add_waiting, options.add_tuning),
        actions.plan_tune,
        actions.tune,
    ),
    Command(
        "deploy",
        "makes an endpoint",
        _all(options.add_waiting, options.add_deploy),
        actions.plan_deploy,
        actions.deploy,
    ),
    Command(
        "transform",
        "predicts for all rows of a channel",
        _all(options.add_waiting, options.add_transform),
        actions.plan_transform,
        actions.transform,
    ),
    Command("invoke", "asks an endpoint", _all(_polling, options.add_invoke), actions.plan_invoke, actions.invoke),
    Command(
        "wait",
        "waits for a job or an endpoint",
        _all(_polling, options.add_one),
        actions.plan_wait,
        actions.wait,
        False,
    ),
    Command("stop", "stops a job", options.add_one, actions.plan_stop, actions.stop, False),
    Command(
        "delete",
        "stops and deletes all that was made under --name",
        _all(_polling, options.add_delete),
        actions.plan_delete,
        actions.delete,
    ),
    Command(
        "policy",
        "prints an IAM policy that allows these commands and no more",
        options.add_policy,
        None,
        actions.policy,
    ),
    Command(
        "algorithm-specification",
        "prints what CreateAlgorithm is to be told",
        options.add_specification,
        None,
        actions.specification,
    ),
)
