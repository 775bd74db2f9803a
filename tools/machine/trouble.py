"""What goes wrong before a command runs in the machine."""


class Trouble(Exception):
    """A sentence for the terminal: what is missing or broken, and what to do."""
