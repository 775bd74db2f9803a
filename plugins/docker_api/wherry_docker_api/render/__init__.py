"""The engine's values as the JSON that dockerd 28 answers: its names, its nulls, its zero times.

Clients tell null from [] from {}; where dockerd and the API's definition differ, dockerd is right.
"""
