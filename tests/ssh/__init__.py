"""Comparing over SSH: real servers on loopback, each with a home and keys of its own."""
