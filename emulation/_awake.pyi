from typing import NoReturn

def spin() -> NoReturn:
    """Keep a processor busy until killed."""
