"""`scripts/sagemaker`: reads the command line, and turns errors into exit statuses."""

import argparse
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime

import boto3
from botocore.exceptions import BotoCoreError

from knn_sagemaker.actions import Call
from knn_sagemaker.api import Api
from knn_sagemaker.commands import COMMANDS, Command
from knn_sagemaker.errors import Failure, Mistake
from knn_sagemaker.options import add_dry_run, add_place
from knn_sagemaker.place import Place, check_name
from knn_sagemaker.requests import Request, to_json
from knn_sagemaker.waiting import Interrupted, say

INTERRUPTED = 130  # 128 and the number of SIGINT
# AWS's own example of an account; a dry run needs none.
EXAMPLE_ACCOUNT = "111122223333"
EXAMPLE_REGION = "us-west-2"
_IDENTITY = Request("sts", "GetCallerIdentity", {}, "only without --account")


def parser() -> argparse.ArgumentParser:
    """Makes the parser of all commands."""
    top = argparse.ArgumentParser(
        "scripts/sagemaker",
        description="Trains, tunes, deploys and deletes on Amazon SageMaker, with the image of this project.",
        epilog="Exit status: 0; 1 if something did not happen; 2 if the command line is wrong; 130 after Ctrl-C.",
        allow_abbrev=False,
    )
    chosen = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        description = f"{command.help[0].upper()}{command.help[1:]}."
        sub = chosen.add_parser(command.name, help=command.help, description=description, allow_abbrev=False)
        command.add_options(sub)
        if command.plan:
            add_dry_run(sub)
        add_place(sub)
        sub.set_defaults(chosen=command)
    return top


def main(arguments: Sequence[str] | None = None, now: datetime | None = None) -> int:
    """Runs a command.

    Args:
        arguments: of the command line, without the program's name; None takes the process's.
        now: names what is made.

    Returns:
        The exit status.
    """
    given = parser().parse_args(arguments)
    try:
        return _run(given, given.chosen, now or datetime.now(UTC))
    except Mistake as mistake:
        say(f"scripts/sagemaker {given.command}: {mistake}")
        return 2
    except Failure as failure:
        say(f"scripts/sagemaker {given.command}: {failure}")
        return 1
    except Interrupted as interrupt:
        say(f"\n{interrupt}")
        return INTERRUPTED
    except KeyboardInterrupt:
        say("\nInterrupted.")
        return INTERRUPTED


def _run(given: argparse.Namespace, command: Command, now: datetime) -> int:
    name = check_name(given.name)
    dry = getattr(given, "dry_run", False)
    session, region = _session(given, dry)
    try:
        partition = session.get_partition_for_region(region)
    except BotoCoreError as error:
        raise Mistake(f"--region: expected one of AWS, {region!r} came.") from error
    with closing(Api(session, region)) as api:
        asks = command.needs_account and not given.account
        account = str(api.send(_IDENTITY)["Account"]) if asks and not dry else given.account or EXAMPLE_ACCOUNT
        bucket = given.bucket or f"sagemaker-{region}-{account}"
        place = Place(name, partition, region, account, bucket, given.repository)
        call = Call(given, place, f"{name}-{now:%y%m%d-%H%M%S}")
        if dry:
            _print_plan(command, call, asks)
        elif (result := command.run(call, api)) is not None:
            print(to_json(result))
    return 0


def _print_plan(command: Command, call: Call, asks: bool) -> None:
    steps = [*([_IDENTITY] if asks else []), *(command.plan(call) if command.plan else [])]
    print(to_json([step.document() for step in steps]))
    if asks:
        say(f"The account {EXAMPLE_ACCOUNT} is an example: give yours with --account.")


def _session(given: argparse.Namespace, dry: bool) -> tuple[boto3.Session, str]:
    try:
        session = boto3.Session(profile_name=given.profile, region_name=given.region)
        region = session.region_name
    except BotoCoreError as error:
        raise Mistake(f"--profile: {error}") from error
    if not region and not dry:
        raise Mistake("--region: none was given, and the AWS configuration names none.")
    return session, region or EXAMPLE_REGION
