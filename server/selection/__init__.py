"""Selection: which devices a round asks, one policy a file, and a trace of when each device is there.

`parse("round_robin", ...)` gives the policy of that name. A policy sees what the server knows of the devices
(`Candidate`) and names a cohort; it neither waits nor talks to anyone.
"""

from server.selection.availability import Availability, read_availability
from server.selection.policies import parse
from server.selection.power_of_choice import PowerOfChoice
from server.selection.selector import Candidate, SelectionError, Selector

__all__ = [
    "Availability",
    "Candidate",
    "PowerOfChoice",
    "SelectionError",
    "Selector",
    "parse",
    "read_availability",
]
