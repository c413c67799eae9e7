"""The one exception that the emulator's commands turn into a message and an exit code."""


class EmulatorError(Exception):
    """Something that the user can put right. The text says what was expected, what was found and what to do next."""

    def __init__(self, message: str, exit_code: int = 1):
        super().__init__(message)
        self.exit_code = exit_code
