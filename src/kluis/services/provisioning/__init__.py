"""The provisioning service: what Intel's PCS and PCCS and AMD's KDS are to hardware.

It is the authority of emulated platforms, run by an owner, and a cache of what the makers publish.
"""
