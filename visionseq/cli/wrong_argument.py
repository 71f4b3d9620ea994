"""The error of a command line that a command cannot take; it ends with exit code 2."""


class WrongArgument(Exception):
    """Words that a command does not take; the message is one line."""
