"""What leaves a device: captures of its link searched for the images and captions it owns.

capture -> streams -> payloads -> hidden turn a pcap file into everything that can be searched, needles
search it, belongings says what for, and search_run brings the answer with the reasons why it may not count.
Nothing here takes part in a run.
"""

from experiments.leaks.search import LeakError, RunLeaks, search_run

__all__ = ["LeakError", "RunLeaks", "search_run"]
