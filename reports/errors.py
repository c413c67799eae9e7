"""What a report cannot be made from."""


class ReportError(ValueError):
    """An input or an output that cannot be used. The text says which file, where, what is wrong and what to do.

    ``python -m reports`` prints it as its one message and ends with exit code 2.
    """
