"""The command line: one module for each verb, with its options and its function.

A verb's module has the functions `add_options(parser)` and `run(options) -> exit code`. Verbs that
take fields of the recipe have `run(options, fields)`. The first line of the module's docstring is
the verb's help.

Exit codes: 0 done; 1 bug; 2 unusable input; 3 done in part; 130 interrupted.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence

from jsonargparse import ArgumentParser

from cdal.cli import (
    bench,
    check,
    compare,
    crossval,
    data,
    demo,
    evaluate,
    experiment,
    export,
    info,
    predict,
    train,
)
from cdal.cli.words import BAD_INPUT, DONE, INTERRUPTED, add_config, split_fields
from cdal.runtime.errors import UserError
from cdal.runtime.memory import keep_freed_memory
from cdal.runtime.threads import respect_quota
from cdal.runtime.version import __version__

VERBS = {
    "demo": demo,
    "data": data,
    "check": check,
    "train": train,
    "predict": predict,
    "evaluate": evaluate,
    "compare": compare,
    "crossval": crossval,
    "experiment": experiment,
    "export": export,
    "bench": bench,
    "info": info,
}

_TAKE_FIELDS = {"train": train.run, "crossval": crossval.run, "experiment": experiment.run}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    keep_freed_memory()
    respect_quota()
    words, fields = split_fields(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(words)
    verb = options.verb
    if fields and verb not in _TAKE_FIELDS:
        print(
            f"cdal: recipe fields (--{next(iter(fields))}) can be given to "
            f"{', '.join(_TAKE_FIELDS)} only.",
            file=sys.stderr,
        )
        return BAD_INPUT
    for logger in (
        "lightning",
        "lightning_fabric",
        "lightning.fabric",
        "lightning_fabric.utilities",
    ):
        logging.getLogger(logger).setLevel(logging.ERROR)
    try:
        if verb in _TAKE_FIELDS:
            return _TAKE_FIELDS[verb](options[verb], fields)
        return int(VERBS[verb].run(options[verb]))
    except UserError as error:
        print(f"cdal {verb}: {error}", file=sys.stderr)
        return BAD_INPUT
    except BrokenPipeError:  # the reader of our output, such as `head`, has closed the pipe
        # The interpreter flushes standard output at exit, which would fail again.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123
        return DONE
    except OSError as error:  # an error that no reader or writer has explained better
        print(
            f"cdal {verb}: {error}. Is the disk full, or a folder not readable or writable?",
            file=sys.stderr,
        )
        return BAD_INPUT
    except KeyboardInterrupt:
        hint = " The same command resumes it." if verb in _TAKE_FIELDS else ""
        print(f"cdal {verb}: stopped.{hint}", file=sys.stderr)
        return INTERRUPTED


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="cdal",
        description=(
            "Segment medical images with few-step diffusion, and show where the model is unsure."
        ),
    )
    parser.add_argument("--version", action="version", version=f"cdal {__version__}")
    subcommands = parser.add_subcommands(dest="verb", title="verbs")
    for name, module in VERBS.items():
        about = (module.__doc__ or "").splitlines()[0].split(": ", 1)[1]
        verb = ArgumentParser(description=about)
        add_config(verb)
        # A verb's options may be subcommands, which need the verb in its place first.
        subcommands.add_subcommand(name, verb, help=about)
        module.add_options(verb)
    return parser
