"""Brings a new image up beside the one that people use, tries it out, switches over, or goes back.

``python -m infrastructure.deploy --stack radiology-portal --url https://portal.example.org --image NAME@sha256:…``

::

    blue is live ─▶ green gets the image ─▶ smoke test of green ─▶ green is live, workers follow ─▶ smoke test ─▶ done
                          │ does not start        │ fails                                              │ fails
                          ▼                       ▼                                                    ▼
                    CloudFormation          green is taken down                      blue is live again, workers too
                    undoes it               nobody has noticed                       green is taken down

The former colour keeps standing by until the next deployment, so that ``--back`` is a matter of seconds. Both versions
work on one database meanwhile: migrations have to suit the version before them (docs/upgrading.md).
"""

import argparse
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import boto3
from botocore.exceptions import ClientError, WaiterError

from infrastructure.smoke import patient_smoke

OTHER: Final = {"blue": "green", "green": "blue"}
IMAGE_OF: Final = {"blue": "BlueImage", "green": "GreenImage"}
# Machines have to be made, start and be found healthy.
UPDATED_WITHIN_S: Final = 45 * 60
WORKS_WITHIN_S: Final = 120
# Tries the machines of one colour, or with an empty name those that people reach; returns what is wrong.
TryOut = Callable[[str], list[str]]


class DeployError(Exception):
    """The deployment did not happen. The message says what is live now."""


class Stack(Protocol):
    """What has to be known of a stack, and how it is changed."""

    def parameters(self) -> Mapping[str, str]:
        """Return the parameters as they are now."""

    def update(self, **changes: str) -> None:
        """Change parameters and wait until that is done. Raises ``DeployError`` where it was undone."""


@dataclass(frozen=True, kw_only=True)
class CloudFormationStack:
    """A stack made from ``portal.yaml``."""

    name: str
    client: Any
    role_arn: str = ""

    def parameters(self) -> Mapping[str, str]:
        """Return the parameters as they are now. Raises ``DeployError`` where there is no such stack."""
        try:
            (stack,) = self.client.describe_stacks(StackName=self.name)["Stacks"]
        except ClientError as error:
            raise DeployError(f"The stack {self.name} cannot be read: {error}") from error
        return {one["ParameterKey"]: one["ParameterValue"] for one in stack["Parameters"]}

    def update(self, **changes: str) -> None:
        """Change parameters and wait until that is done. Raises ``DeployError`` where CloudFormation has undone it."""
        known = self.parameters()
        if all(known.get(name) == value for name, value in changes.items()):
            return
        given = [
            {"ParameterKey": name, "ParameterValue": changes[name]}
            if name in changes
            else {"ParameterKey": name, "UsePreviousValue": True}
            for name in known
        ]
        role = {"RoleARN": self.role_arn} if self.role_arn else {}
        try:
            self.client.update_stack(StackName=self.name, UsePreviousTemplate=True, Parameters=given, **role)
            waiter = self.client.get_waiter("stack_update_complete")
            waiter.wait(StackName=self.name, WaiterConfig={"Delay": 10, "MaxAttempts": UPDATED_WITHIN_S // 10})
        except (ClientError, WaiterError) as error:
            raise DeployError(f"The stack {self.name} could not be changed, and is as it was: {error}") from error


def deploy(stack: Stack, *, image: str, try_out: TryOut, say: Callable[[str], None]) -> None:
    """Bring ``image`` up and make it live. Raises ``DeployError`` where it does not work; the former is live then."""
    before = stack.parameters()
    live = before["LiveColour"]
    idle = OTHER[live]
    say(f"{live} is live. {idle} gets {image}.")
    stack.update(**{IMAGE_OF[idle]: image})
    if problems := try_out(idle):
        stack.update(**{IMAGE_OF[idle]: ""})
        raise DeployError(f"{live} is live as before; nobody has seen the new version. {' '.join(problems)}")
    say(f"{idle} works. Switching over.")
    stack.update(LiveColour=idle, WorkerImage=image)
    if problems := try_out(""):
        stack.update(LiveColour=live, WorkerImage=before["WorkerImage"])
        stack.update(**{IMAGE_OF[idle]: ""})
        raise DeployError(f"Rolled back: {live} is live again. {' '.join(problems)}")
    say(f"{idle} is live. {live} stands by.")


def roll_back(stack: Stack, *, try_out: TryOut, say: Callable[[str], None]) -> None:
    """Make the version before the present one live again. Raises ``DeployError`` where none stands by."""
    before = stack.parameters()
    former = OTHER[before["LiveColour"]]
    image = before[IMAGE_OF[former]]
    if not image:
        raise DeployError(f"{former} has no image to go back to. Deploy the image that you want instead.")
    stack.update(LiveColour=former, WorkerImage=image)
    if problems := try_out(""):
        raise DeployError(f"{former} is live, but not well. {' '.join(problems)}")
    say(f"{former} is live again with {image}.")


def main() -> int:
    """Deploy as the command line says; print each step."""
    parser = argparse.ArgumentParser(description="Deploy an image, or go back to the one before.")
    parser.add_argument("--stack", required=True, help="name of the stack made from infrastructure/portal.yaml")
    parser.add_argument("--url", required=True, help="where people reach the portal")
    parser.add_argument("--image", default="", help="the new image, by digest")
    parser.add_argument("--back", action="store_true", help="go back to the version before the present one")
    parser.add_argument("--within", type=float, default=WORKS_WITHIN_S, metavar="SECONDS", help="try out for so long")
    options = parser.parse_args()
    stack = CloudFormationStack(
        name=options.stack,
        client=boto3.client("cloudformation"),
        role_arn=os.environ.get("STACK_ROLE", ""),
    )

    def try_out(colour: str) -> list[str]:
        token = os.environ.get("SMOKE_TOKEN", "")
        return patient_smoke(options.url, colour=colour, token=token, within_s=options.within)

    def say(sentence: str) -> None:
        sys.stdout.write(f"▸ {sentence}\n")

    try:
        if options.back:
            roll_back(stack, try_out=try_out, say=say)
        elif "@sha256:" in options.image:
            deploy(stack, image=options.image, try_out=try_out, say=say)
        else:
            raise DeployError("Name the image by digest (REPOSITORY@sha256:…): a tag may mean something else tomorrow.")
    except DeployError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
