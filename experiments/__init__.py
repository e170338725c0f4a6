"""Experiments: configuration, runs, records, figures, the command line. May import all the others.

Data flows one way: config -> run -> events -> tables -> figures.
"""
