"""The one exception that speaks to the user."""


class UserError(Exception):
    """The user's input cannot be used: the message says what was expected, what came, and the remedy.

    The command line prints the message without a traceback and exits with code 2.
    """
