"""Shapes of networks, as graphs that are checked before anything is built: the built-in ones and users' own.

Which link joins what, and which way frames go. Nothing here makes an interface or knows a backend.
"""
