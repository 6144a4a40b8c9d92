"""Recorded evidence, run: each record says what must come of it, and that is what is asked.

Records are read from a folder of ``<tee>/<name>/meta.json`` with the files that each names. Nothing
goes by a record's name: its metadata alone says what it is and what is expected.
"""
