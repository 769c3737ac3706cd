"""`cdal push`: Send a model to the Hugging Face hub, from where hf://OWNER/NAME gives it."""

from __future__ import annotations

from jsonargparse import ArgumentParser, Namespace

from cdal.cli.output import tell
from cdal.cli.words import DONE


def add_options(parser: ArgumentParser) -> None:
    """Add the verb's options to its parser."""
    parser.add_argument(
        "model", type=str, help="A .safetensors file, a run folder, or the name of a shipped model."
    )
    parser.add_argument(
        "repository", type=str, help="OWNER/NAME on the hub; made if it is not there."
    )
    parser.add_argument(
        "--revision",
        type=str | None,
        help="Branch to write, made if it is not there (default: main).",
    )
    parser.add_argument("--private", action="store_true", help="Make a new repository private.")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="Print the card and what would be sent; send nothing.",
    )


def run(options: Namespace) -> int:
    """Run the verb and return the exit code."""
    from cdal.inference.sharing.hub import push

    pushed = push(
        options.model, options.repository, options.revision, options.private, options.dry_run
    )
    if options.dry_run:
        tell(pushed.card)
    if pushed.cases:
        tell(
            f"The file names the {pushed.cases} cases of its data set, so that seen ones are not "
            "scored as new. Whoever has it can read these names.",
            error=True,
        )
    if pushed.networks:
        tell(
            f"The network is no part of cDAL ({', '.join(pushed.networks)}), and its code is not "
            f"sent. hf:// is refused for it: others download the file, and trust it themselves, as "
            "the card says.",
            error=True,
        )
    sizes = ", ".join(f"{name} ({size} bytes)" for name, size in pushed.files.items())
    tell(f"would send {sizes} to {pushed.name}" if options.dry_run else pushed.name)
    return DONE
