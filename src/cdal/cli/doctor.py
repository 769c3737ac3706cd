"""`cdal doctor`: Show what this machine has and what cDAL will use, to paste into a report."""

from __future__ import annotations

import json

from jsonargparse import ArgumentParser, Namespace

from cdal.cli.words import DONE, add_json


def add_options(parser: ArgumentParser) -> None:
    """Add the verb's options to its parser."""
    add_json(parser)


def run(options: Namespace) -> int:
    """Run the verb and return the exit code."""
    from cdal.cli.console import show_values
    from cdal.runtime.doctor import examine

    values = examine()
    if options.json:
        print(json.dumps(values))
        return DONE
    libraries = ", ".join(f"{name} {version}" for name, version in values["versions"].items())
    show_values({**values, "versions": libraries, "advice": values["advice"] or "none"})
    return DONE
