"""Bytes -> text: the encoding of a file, and its text as a stream."""
