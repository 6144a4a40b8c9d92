"""The provisioning service: for emulated platforms, the counterpart of Intel's PCS and PCCS and AMD's KDS.

It is the authority of emulated platforms, run by an owner, and a cache of the vendors' documents.
"""
