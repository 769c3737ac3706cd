"""The command line: one module for each verb, with its options and its function.

A verb's module has the functions `add_options(parser)` and `run(options) -> exit code`. Verbs that
take fields of the recipe have `run(options, fields)`. The first line of the module's docstring is
the verb's help.

Exit codes: 0 done; 1 bug; 2 unusable input; 3 done in part; 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from jsonargparse import Namespace

from cdal.cli import (
    bench,
    calibrate,
    check,
    compare,
    crossval,
    data,
    demo,
    doctor,
    ensemble,
    evaluate,
    experiment,
    export,
    info,
    predict,
    push,
    rank,
    review,
    serve,
    train,
    view,
)
from cdal.cli.output import steady_output, tell
from cdal.cli.parser import Parser
from cdal.cli.words import BAD_INPUT, DONE, INTERRUPTED, add_config, add_trust, split_fields
from cdal.runtime.errors import UserError
from cdal.runtime.execution.processes import end_with_parent
from cdal.runtime.memory import is_shortage
from cdal.runtime.os_errors import remedy
from cdal.runtime.program import settle
from cdal.runtime.version import __version__
from cdal.segmenters.trust import trust_own_network

VERBS = {
    "demo": demo,
    "data": data,
    "check": check,
    "train": train,
    "predict": predict,
    "review": review,
    "view": view,
    "serve": serve,
    "rank": rank,
    "evaluate": evaluate,
    "calibrate": calibrate,
    "compare": compare,
    "crossval": crossval,
    "experiment": experiment,
    "ensemble": ensemble,
    "export": export,
    "push": push,
    "bench": bench,
    "info": info,
    "doctor": doctor,
}

_TAKE_FIELDS = {"train": train.run, "crossval": crossval.run, "experiment": experiment.run}


_FIRST_STEPS = """\
cdal demo                                        try it: learn on drawn images, see the report
cdal predict hippocampus scan.nii.gz             segment with a shipped model (cdal info lists them)
cdal check DATA                                  see what is wrong with your images and masks
cdal train folder --data DATA --out runs/mine    train on it
cdal --help                                      all verbs; cdal VERB --help shows their options"""
"""What a user sees who types no word."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    settle(quiet=arguments is None)
    end_with_parent()
    try:
        with steady_output():
            given = sys.argv[1:] if arguments is None else arguments
            if not given:
                print(_FIRST_STEPS)
                return DONE
            words, fields = split_fields(given)
            return _run(_parser(words).parse_args(words), fields)
    except OSError as error:  # the last lines cannot be written
        tell(f"cdal: the output cannot be written: {error}", error=True)
        return BAD_INPUT


def _after_stop(options: Namespace) -> str:
    """What the same command does after Ctrl-C, in a sentence; empty if it does all again."""
    if options.verb == "train":
        return train.after_stop(options.train)
    resumed = options.verb in (*_TAKE_FIELDS, "predict", "review")
    return "The same command resumes it." if resumed else ""


def _run(options: Namespace, fields: dict[str, str]) -> int:
    verb = options.verb
    if options[verb].trust_own_network:
        trust_own_network()
    if fields and verb not in _TAKE_FIELDS:
        tell(
            f"cdal: recipe fields (--{next(iter(fields))}) can be given to "
            f"{', '.join(_TAKE_FIELDS)} only.",
            error=True,
        )
        return BAD_INPUT
    try:
        if verb in _TAKE_FIELDS:
            return _TAKE_FIELDS[verb](options[verb], fields)
        return int(VERBS[verb].run(options[verb]))
    except UserError as error:
        tell(f"cdal {verb}: {error}", error=True)
        return BAD_INPUT
    except OSError as error:  # an error that no reader or writer has explained better
        tell(f"cdal {verb}: {error}. {remedy(error)}", error=True)
        return BAD_INPUT
    except KeyboardInterrupt:
        tell(f"cdal {verb}: stopped. {_after_stop(options)}".rstrip(), error=True)
        return INTERRUPTED
    except Exception as error:
        if not is_shortage(error):
            raise
        tell(
            f"cdal {verb}: not enough memory ({type(error).__name__}: {error}). Close other "
            "programs, raise the limit of the process, or give smaller images.",
            error=True,
        )
        return BAD_INPUT


def _parser(words: Sequence[str]) -> Parser:
    """The parser for these words: the options of other verbs are left out, to start quickly."""
    chosen = next((word for word in words if word in VERBS), None)
    parser = Parser(
        prog="cdal",
        description=(
            "Segment medical images with few-step diffusion, and show where the model is unsure."
        ),
    )
    parser.add_argument("--version", action="version", version=f"cdal {__version__}")
    subcommands = parser.add_subcommands(dest="verb", title="verbs")
    for name, module in VERBS.items():
        about = (module.__doc__ or "").splitlines()[0].split(": ", 1)[1]
        verb = Parser(description=about)
        add_config(verb)
        add_trust(verb)
        # A verb's options may be subcommands, which need the verb in its place first.
        subcommands.add_subcommand(name, verb, help=about)
        if name == chosen:
            module.add_options(verb)
    return parser
