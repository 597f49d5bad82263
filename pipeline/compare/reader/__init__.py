"""Reads files where they lie. This package alone is sent to a builder: it needs Python 3.8 and nothing else.

It decides nothing. It says which files there are, what their bytes hash to, and what stands in a container:
every byte of one under a name. Whether two sides agree is decided by who asks (`pipeline.compare`).

Imports here are the standard library and this package, nothing else, whatever the rest of the product uses.
"""
