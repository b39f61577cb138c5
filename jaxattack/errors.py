"""The one exception a user may cause: it carries a line that says what is wrong and what to do."""


class UserError(Exception):
    """A mistake in what the user gave; the command line prints it alone and exits with 2."""
