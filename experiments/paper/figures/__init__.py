"""The paper's figures, one file each: the suite's tables in, a Figure out; nothing else is read."""
