"""Clean rooms: data owners who do not trust each other compute on joined data, and get only results that all
agreed to.

An agreement names the parties, the data, the code and the analyses (``agreement``). Data is sealed on its
owner's machine (``datasets``) and opened only inside an enclave that the owner's own client has verified
(``release``), which runs only the signed analyses (``session``, ``query``, ``model``), seals each result to
its recipients (``results``) and signs a receipt that is checked offline (``receipt``).
"""
