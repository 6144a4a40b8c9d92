"""Run recorded evidence: each record states the expected result, and the test checks it.

Records are read from a folder of ``<tee>/<name>/meta.json`` with the files that each names. A record's name
has no meaning: only its metadata states what it is and what is expected.
"""
